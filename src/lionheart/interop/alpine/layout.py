"""Layout of an emitted program.

The layout consists of the memory offsets of layer inputs, layer outputs and constants, and of the numbers that identify tiles
and code regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from lionheart.errors import UnsupportedLayerError
from lionheart.interop.alpine.quantised import QuantisedProduct, QuantisedProgram

#: Kinds of work within a layer. The number of a region is ``16 * layer + kind``. Layers are numbered from 1, and layer 0 is the
#: network itself.
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
_SLACK = 16  # bytes after a value that the product kernel may read and multiply by zero weights
_MOST_LAYERS = 4095


def region_id(layer: int, kind: str) -> int:
    """Return the number that identifies the code region of one kind of work in a layer.

    `layer` is the number of the layer, from 1, or 0 for the network itself. `kind` is a key of `KINDS`.
    """
    return 16 * layer + KINDS[kind]


def round_up(n: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `n`."""
    return -(-n // multiple) * multiple


@final
@dataclass(frozen=True)
class PlacedTile:
    """One tile of an emitted program, and the part of a weight matrix that the tile stores.

    Args:
        tid: Number that identifies the tile in the program.
        group: Index of the channel group whose weight matrix contains the part.
        row: Index of the first input of the part.
        rows: Number of inputs of the part.
        col: Index of the first output of the part.
        cols: Number of outputs of the part.
        weights: Offset of the weights ``(rows, cols)`` in the constants of the program [bytes].
        factor: Index of the factor of the first output among the factors of the partial sums of the projection.
    """

    tid: int
    group: int
    row: int
    rows: int
    col: int
    cols: int
    weights: int
    factor: int


@final
@dataclass
class Constants:
    """Weights and parameters of an emitted program, in one contiguous memory.

    Args:
        content: Bytes of the memory, which are written to the file ``weights.bin``.
    """

    content: bytearray = field(default_factory=bytearray)

    def add(self, array: NDArray[Any]) -> int:
        """Append an array in little-endian byte order and return its offset [bytes], a multiple of 64."""
        self.content.extend(bytes(round_up(len(self.content), _ALIGNMENT) - len(self.content)))
        offset = len(self.content)
        self.content.extend(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return offset


@final
@dataclass(frozen=True)
class Arena:
    """Memory for the inputs and outputs of all layers in an emitted program.

    The memory ranges of two layer inputs or outputs overlap only if the program never needs both at the same time.

    Args:
        offsets: Offset of each layer input or output, by its name in the program [bytes].
        size: Size of the memory [bytes].
    """

    offsets: dict[str, int]
    size: int


def place_values(program: QuantisedProgram) -> Arena:
    """Return the memory offsets of all values (inputs and outputs of layers) in a program.

    Each value has the lowest offset at which its memory is free from the layer that computes the value to the last layer that
    reads the value.
    """
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
    """Yield the tiles that store the weights of a product, and append the weights of each tile to `constants`.

    The tiles are numbered from `first`. A digital product has no tiles.
    """
    if step.tiles is None:
        return
    partition, tid = step.tiles.partition, first
    for group in range(partition.groups):
        row = 0
        for index, rows in enumerate(partition.row_sizes):
            col, first_factor = 0, index * step.operation.cols * partition.groups + group * step.operation.cols
            for cols in partition.col_sizes:
                block = step.weights[group, col : col + cols, row : row + rows].T
                yield PlacedTile(tid, group, row, rows, col, cols, constants.add(block), first_factor + col)
                tid, col = tid + 1, col + cols
            row += rows


def check_size(program: QuantisedProgram) -> None:
    """Raise an `UnsupportedLayerError` if the program has more than 4095 layers, the most that region numbers support."""
    if len(program.steps) > _MOST_LAYERS:
        raise UnsupportedLayerError(
            f"export: got {len(program.steps)} layers, expected at most {_MOST_LAYERS}", hint="export a smaller network"
        )
