"""Memory layout of values, constants and tiles in an emitted program, and the numbers of code regions."""

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
_SLACK = 16  # bytes behind a value that the product kernel may read; weights are zero there
_MOST_LAYERS = 4095


def region_id(layer: int, kind: str) -> int:
    """Return the number of the region for a layer and a kind of work."""
    return 16 * layer + KINDS[kind]


def round_up(n: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `n`."""
    return -(-n // multiple) * multiple


@final
@dataclass(frozen=True)
class PlacedTile:
    """One tile of a program.

    Args:
        tid: Number of the tile.
        group: Group of the projection.
        row: First input within the patch.
        rows: Number of inputs.
        col: First output within the group.
        cols: Number of outputs.
        weights: Offset of the weights ``(rows, cols)`` in the constants [B].
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
    """All weights and parameters of a program in one block of memory."""

    content: bytearray = field(default_factory=bytearray)

    def add(self, array: NDArray[Any]) -> int:
        """Append an array at an aligned offset and return the offset [B]."""
        self.content.extend(bytes(round_up(len(self.content), _ALIGNMENT) - len(self.content)))
        offset = len(self.content)
        self.content.extend(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return offset


@final
@dataclass(frozen=True)
class Arena:
    """Memory of the values of a program, each at a fixed offset during its lifetime.

    Args:
        offsets: Offset of each value [B].
        size: Size of the memory [B].
    """

    offsets: dict[str, int]
    size: int


def place_values(program: QuantisedProgram) -> Arena:
    """Return an arena in which each value has the lowest offset without overlap with simultaneously live values."""
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
    """Yield the tiles of a projection, numbered from `first`, and append their weights to `constants`."""
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
    """Raise `UnsupportedLayerError` if the program has more layers than region numbers allow."""
    if len(program.steps) > _MOST_LAYERS:
        raise UnsupportedLayerError(
            f"export: got {len(program.steps)} layers, expected at most {_MOST_LAYERS}", hint="export a smaller network"
        )
