"""Mapping units: groups of projections that belong to the same child of a repeated block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def name_units(fqns: Iterable[str]) -> dict[str, str]:
    """Return the mapping unit of each projection, derived from the names of all projections.

    A unit is one child of a repeated block, or one element of a child that is itself a list of modules. A projection outside
    all blocks is a unit by itself. Blocks are the elements of the outermost list of modules. If more than half of the
    projections in such elements are inside nested lists, the elements are stages, and those of the nested lists are blocks.

    Lists are recognised by names: an index that is not the last component of a name is an element of a list of modules. Both
    indices in ``layer.3.ffn.0.dense`` are elements, so its unit is ``layer.3.ffn.0``. The 2 in ``block.3.mlp.2`` is a layer, so
    its unit is ``block.3.mlp``. The unit of ``layer.3.attention.self.query`` is ``layer.3.attention``. Each layer of a ResNet
    is its own unit.

    Args:
        fqns: Fully qualified names of all projections of a network.

    Returns:
        Name of the unit by name of the projection, in the same order.

    Assumes:
        The author of a model puts projections that belong together into one module. Another implementation of the same network
        may have other units.

    Source:
        Derived for LionHeart, not published. The LionHeart paper (arXiv:2401.09420) states that 169 units of MobileBERT are
        mapped, but not which of its 361 projections form them. 169 = 7 groups x 24 blocks + 1, and this rule finds 7 units in
        each block of Hugging Face's model; other assignments give the same count.
    """
    names = [fqn.split(".") for fqn in fqns]
    stages = _find_stages(names)
    return {".".join(name): ".".join(name[: _unit_length(name, stages)]) for name in names}


def make_pattern(fqn: str) -> str:
    """Return a name with each index replaced by ``*``."""
    return ".".join("*" if name.isdigit() else name for name in fqn.split("."))


def make_unit_pattern(unit: str) -> str:
    """Return the name of a unit with each index replaced by ``*``, except an index at the end, which identifies the unit."""
    block, dot, last = unit.rpartition(".")
    return make_pattern(block) + dot + last


def _elements(name: Sequence[str]) -> list[int]:
    """Return the lengths of all prefixes of a name that are the name of an element of a list of modules."""
    return [length for length in range(1, len(name)) if name[length - 1].isdigit()]


def _find_stages(names: Iterable[Sequence[str]]) -> set[str]:
    """Return the name patterns of the elements with more than half of their projections in nested lists."""
    held: Counter[str] = Counter()
    deeper: Counter[str] = Counter()
    for name in names:
        lengths = _elements(name)
        for length in lengths:
            pattern = make_pattern(".".join(name[:length]))
            held[pattern] += 1
            deeper[pattern] += length < lengths[-1]
    return {pattern for pattern, number in held.items() if 2 * deeper[pattern] > number}


def _unit_length(name: Sequence[str], stages: set[str]) -> int:
    """Return the number of components of a projection's name that form the name of its unit."""
    elements = _elements(name)
    block = next((length for length in elements if make_pattern(".".join(name[:length])) not in stages), None)
    if block is None:
        return len(name)
    child = block + 1
    return child + 1 if child + 1 in elements else child
