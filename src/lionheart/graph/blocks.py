"""Group projections (weight matrices) into mapping units.

A mapping unit contains the projections in one child module of a block that the network repeats, such as a transformer layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def name_units(fqns: Iterable[str]) -> dict[str, str]:
    """Return the name of the mapping unit of each projection (weight matrix), derived from the names of all projections.

    A block is a part of a network that is repeated with other weights, such as a transformer layer. A unit contains the
    projections in one child of a block. If the child is itself a list of modules, each element of the list is a unit. A
    projection outside all blocks is a unit by itself.

    Lists of modules are recognised by the names of the projections: an index before the last component of a name identifies an
    element of a list. The elements of the outermost list are the blocks. If more than half of the projections in these elements
    are inside nested lists, the elements of the nested lists are the blocks instead.

    For example, both indices in ``layer.3.ffn.0.dense`` identify list elements, so the unit is ``layer.3.ffn.0``. The index 2
    in ``block.3.mlp.2`` is the last component of the name, so the unit is ``block.3.mlp``. The unit of
    ``layer.3.attention.self.query`` is ``layer.3.attention``. In a ResNet, each layer is a unit by itself.

    Args:
        fqns: Fully qualified names of all projections of a network.

    Returns:
        Names of units by names of projections, in the order of `fqns`.

    Assumes:
        Projections that should form a unit are in one module. Another implementation of the same network may therefore have
        different units.

    Source:
        The rule was derived for LionHeart and has not been published. The LionHeart paper (arXiv:2401.09420) states that 169
        units of MobileBERT are mapped, but not how its 361 projections form these units. This rule finds 7 units in each of the
        24 blocks of Hugging Face's MobileBERT and 1 unit outside the blocks, which is 169 in total. Other rules may give the
        same total.
    """
    names = [fqn.split(".") for fqn in fqns]
    stages = _find_stages(names)
    return {".".join(name): ".".join(name[: _unit_length(name, stages)]) for name in names}


def make_pattern(fqn: str) -> str:
    """Return the dotted name `fqn` with each numeric component replaced by ``*``: ``layer.3.conv`` becomes ``layer.*.conv``."""
    return ".".join("*" if name.isdigit() else name for name in fqn.split("."))


def make_unit_pattern(unit: str) -> str:
    """Return the name of a mapping unit with each numeric component replaced by ``*``, except the last component.

    A mapping unit is a group of projections (weight matrices) in one module. For example, the result for ``layer.3.ffn.0`` is
    ``layer.*.ffn.0``.
    """
    block, dot, last = unit.rpartition(".")
    return make_pattern(block) + dot + last


def _elements(name: Sequence[str]) -> list[int]:
    """Return the lengths of the prefixes of a name that end with a list index, in components of the name.

    For ``layer.3.ffn.0.dense``, the lengths are 2 and 4. An index that is the last component of the name is ignored.
    """
    return [length for length in range(1, len(name)) if name[length - 1].isdigit()]


def _find_stages(names: Iterable[Sequence[str]]) -> set[str]:
    """Return the names of the list elements in which more than half of the projections are inside nested lists.

    Each index in the returned names is replaced by ``*``.

    Args:
        names: Names of all projections (weight matrices) of a network, each split at the dots.
    """
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
    """Return the number of leading components of a projection's name that form the name of its mapping unit.

    Args:
        name: Name of the projection (weight matrix), split at the dots.
        stages: Names of the list elements that contain blocks but are not blocks (repeated parts of the network), with each
            index replaced by ``*``.
    """
    elements = _elements(name)
    block = next((length for length in elements if make_pattern(".".join(name[:length])) not in stages), None)
    if block is None:
        return len(name)
    child = block + 1
    return child + 1 if child + 1 in elements else child
