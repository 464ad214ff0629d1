"""Where an emitted program keeps its values, its constants and its tiles, and how regions of its code are numbered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from lionheart.errors import UnsupportedLayerError
from lionheart.interop.alpine.quantised import QuantisedProduct, QuantisedProgram

#: Kinds of work within a layer. A region is ``16 * layer + kind``; layer 0 is the network itself, layers count from 1.
KINDS = {
    "control": 0,
    "im2col": 1,
    "product": 2,
    "requantise": 3,
    "queue": 4,
    "process": 5,
    "dequeue": 6,
    "partial_sums": 7,
    "depthwise": 8,
    "pool": 9,
    "add": 10,
    "clamp": 11,
    "place": 12,
    "quantise": 13,
    "output": 14,
    "program_tiles": 15,
}
_ALIGNMENT = 64  # bytes: a cache line
_SLACK = 16  # bytes behind a value that the product kernel may read; weights there are zero
_MOST_LAYERS = 4095


def region_id(layer: int, kind: str) -> int:
    """Return the number of a region."""
    return 16 * layer + KINDS[kind]


def round_up(n: int, multiple: int) -> int:
    """Return the next multiple."""
    return -(-n // multiple) * multiple


@final
@dataclass(frozen=True)
class PlacedTile:
    """One crossbar of a program.

    Args:
        tid: Its number.
        group: Group of the projection.
        row: First input within the patch.
        rows: Inputs.
        col: First output within the group.
        cols: Outputs.
        weights: Where its weights ``(rows, cols)`` lie among the constants [B].
    """

    tid: int
    group: int
    row: int
    rows: int
    col: int
    cols: int
    weights: int


@final
@dataclass
class Constants:
    """All weights and parameters in one block of memory."""

    content: bytearray = field(default_factory=bytearray)

    def add(self, array: NDArray[Any]) -> int:
        """Append an array, aligned, and return where it lies [B]."""
        self.content.extend(bytes(round_up(len(self.content), _ALIGNMENT) - len(self.content)))
        offset = len(self.content)
        self.content.extend(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return offset


@final
@dataclass(frozen=True)
class Arena:
    """Where each value lies while it is needed.

    Args:
        offsets: Of each value [B].
        size: Of the whole [B].
    """

    offsets: dict[str, int]
    size: int


def place_values(program: QuantisedProgram) -> Arena:
    """Give each value the lowest place that no value alive at the same time overlaps."""
    graph = program.program
    last = {graph.source: 0, graph.result: len(program.steps)}
    for index, step in enumerate(program.steps):
        for name in step.operation.inputs:
            last[name] = max(last.get(name, 0), index)
    sizes = {graph.source: graph.shapes[graph.source].size}
    offsets: dict[str, int] = {}
    born = [(0, graph.source)]
    for index, step in enumerate(program.steps):
        born.append((index, step.operation.name))
        sizes[step.operation.name] = step.operation.shape.size
    top = 0
    for index, name in born:
        alive = [other for other in offsets if last.get(other, index) >= index]
        taken = sorted((offsets[other], _slot(sizes[other])) for other in alive)
        at = 0
        for start, size in taken:
            if at + _slot(sizes[name]) <= start:
                break
            at = max(at, start + size)
        offsets[name] = at
        top = max(top, at + _slot(sizes[name]))
        last.setdefault(name, index)
    return Arena(offsets, top)


def _slot(size: int) -> int:
    return round_up(size + _SLACK, _ALIGNMENT)


def cut_tiles(step: QuantisedProduct, first: int, constants: Constants) -> Iterator[PlacedTile]:
    """Yield the crossbars of a projection, the first with number `first`; their weights join the constants."""
    if step.tiles is None:
        return
    partition, tid = step.tiles.partition, first
    for group in range(partition.groups):
        row = 0
        for rows in partition.row_sizes:
            col = 0
            for cols in partition.col_sizes:
                block = step.weights[group, col : col + cols, row : row + rows].T
                yield PlacedTile(tid, group, row, rows, col, cols, constants.add(block))
                tid, col = tid + 1, col + cols
            row += rows


def check_size(program: QuantisedProgram) -> None:
    """Raise `UnsupportedLayerError` if the program has too many layers for the numbers of its regions."""
    if len(program.steps) > _MOST_LAYERS:
        raise UnsupportedLayerError(
            f"export: {len(program.steps)} layers, at most {_MOST_LAYERS} can be exported", hint="export a part of it"
        )
