"""Which projections belong together: the parts of a network's repeated blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def name_units(fqns: Iterable[str]) -> dict[str, str]:
    """Return the mapping unit of each projection, by the names of all of them.

    A unit is one child of a repeated block, or one element of a child that is itself a list of modules; a projection outside
    all blocks is a unit by itself. Blocks are the elements of the outermost list of modules. Where more than half of what such
    elements hold stands in lists inside them, they are stages, and the elements of the lists inside are the blocks.

    Names show the lists: an index that is not the last part is an element of a list of modules, as both are in
    ``layer.3.ffn.0.dense``; the 2 of ``block.3.mlp.2`` is only a layer. So these are in the units ``layer.3.ffn.0`` and
    ``block.3.mlp``, ``layer.3.attention.self.query`` is in ``layer.3.attention``, and each layer of a ResNet is its own unit.

    Args:
        fqns: Names of all projections of a network.

    Returns:
        Name of the unit by name of the projection, in the same order.

    Assumes:
        The author of a model puts what is one part into one module. The same network written otherwise may have other units.

    Source:
        Ours, derived, not published. The LionHeart paper (arXiv:2401.09420) prints that 169 units of MobileBERT are mapped,
        not which of its 361 projections form them. 169 = 7 groups x 24 blocks + 1, and this rule finds 7 parts in each block
        of Hugging Face's model; other assignments give that count too.
    """
    names = [fqn.split(".") for fqn in fqns]
    stages = _find_stages(names)
    return {".".join(parts): ".".join(parts[: _unit_length(parts, stages)]) for parts in names}


def make_pattern(fqn: str) -> str:
    """Return a name with ``*`` for each index."""
    return ".".join("*" if part.isdigit() else part for part in fqn.split("."))


def make_unit_pattern(unit: str) -> str:
    """Return the name of a unit with ``*`` for each index but one at its end, which says which part of its block it is."""
    block, dot, part = unit.rpartition(".")
    return make_pattern(block) + dot + part


def _elements(parts: Sequence[str]) -> list[int]:
    """Return the lengths of the beginnings of a name that name an element of a list of modules."""
    return [length for length in range(1, len(parts)) if parts[length - 1].isdigit()]


def _find_stages(names: Iterable[Sequence[str]]) -> set[str]:
    """Return the patterns of the elements that hold more than half of their projections in lists inside."""
    held: Counter[str] = Counter()
    deeper: Counter[str] = Counter()
    for parts in names:
        lengths = _elements(parts)
        for length in lengths:
            pattern = make_pattern(".".join(parts[:length]))
            held[pattern] += 1
            deeper[pattern] += length < lengths[-1]
    return {pattern for pattern, number in held.items() if 2 * deeper[pattern] > number}


def _unit_length(parts: Sequence[str], stages: set[str]) -> int:
    """Return how many parts of a projection's name are the name of its unit."""
    elements = _elements(parts)
    block = next((length for length in elements if make_pattern(".".join(parts[:length])) not in stages), None)
    if block is None:
        return len(parts)
    child = block + 1
    return child + 1 if child + 1 in elements else child
