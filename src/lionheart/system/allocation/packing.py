"""Packing of pieces of several layers' weight matrices into few crossbars.

Pieces on a crossbar do not overlap. Pieces are not rotated, because the rows of a crossbar are its inputs. Layers on a crossbar
share its converters, so only one of these layers runs at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.errors import TilingError
from lionheart.partition import TilePartition

_FEW = 6  # largest number of pieces for which every order is tried
_MANY = 400  # larger numbers of pieces are placed on shelves, in a time proportional to pieces times shelves

_Size = tuple[int, int]  # rows, cols
_Place = tuple[int, int, int]  # crossbar, first row, first column
_Free = tuple[int, int, int, int]  # first row, first column, rows, cols


@final
@dataclass(frozen=True)
class PlacedPiece:
    """Position of one piece of a layer's weight matrix on a crossbar.

    Args:
        fqn: Fully qualified name of the layer.
        crossbar: Index of the crossbar, starting at 0.
        row: Index of the first crossbar row that the piece uses, starting at 0.
        col: Index of the first crossbar column that the piece uses, starting at 0.
        rows: Number of rows (inputs) of the piece.
        cols: Number of columns (outputs) of the piece.
    """

    fqn: str
    crossbar: int
    row: int
    col: int
    rows: int
    cols: int


@final
@dataclass(frozen=True)
class Packing:
    """Positions of all pieces of several layers' weight matrices on crossbars of one size.

    Args:
        pieces: Pieces of one layer after another, with the layers in the order in which they were given to `pack_tiles`.
        tile_rows: Number of inputs of a crossbar.
        tile_cols: Number of outputs of a crossbar.
    """

    pieces: tuple[PlacedPiece, ...]
    tile_rows: int
    tile_cols: int

    @property
    def n_crossbars(self) -> int:
        """Number of crossbars in use."""
        return 1 + max((piece.crossbar for piece in self.pieces), default=-1)

    @property
    def utilisation(self) -> float:
        """Fraction of the cells of the used crossbars that hold a weight, 0 to 1."""
        used = sum(piece.rows * piece.cols for piece in self.pieces)
        return used / (self.n_crossbars * self.tile_rows * self.tile_cols) if self.pieces else 0.0

    @cached_property
    def crossbars(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the crossbars on which each layer has a piece, in ascending order, by layer name."""
        found: dict[str, set[int]] = {}
        for piece in self.pieces:
            found.setdefault(piece.fqn, set()).add(piece.crossbar)
        return {fqn: tuple(sorted(numbers)) for fqn, numbers in found.items()}

    def can_run_together(self, first: str, second: str) -> bool:
        """Return whether the layers `first` and `second` have no common crossbar and can therefore run at the same time."""
        return not set(self.crossbars[first]) & set(self.crossbars[second])


def list_pieces(partition: TilePartition) -> list[_Size]:
    """Return the size (rows, columns) of each piece into which `partition` divides a layer's weight matrix."""
    sizes = itertools.product(range(partition.groups), partition.row_sizes, partition.col_sizes)
    return [(rows, cols) for _, rows, cols in sizes]


def bound_crossbars(partitions: Iterable[TilePartition]) -> int:
    """Return a lower bound on the number of crossbars that any packing of the layers with these partitions needs.

    The bound is the larger of two numbers: the total area of all pieces divided by the area of a crossbar, rounded up, and the
    number of pieces that have more than half of a crossbar's rows and more than half of its columns.
    """
    devices, large, size = 0, 0, 1
    for partition in partitions:
        size = partition.tile_rows * partition.tile_cols
        devices += sum(partition.row_sizes) * sum(partition.col_sizes) * partition.groups
        halves = [
            sum(2 * length > full for length in lengths)
            for lengths, full in (
                (partition.row_sizes, partition.tile_rows),
                (partition.col_sizes, partition.tile_cols),
            )
        ]
        large += halves[0] * halves[1] * partition.groups
    return max(math.ceil(devices / size), large)


def pack_tiles(partitions: Mapping[str, TilePartition]) -> Packing:
    """Return positions at which the pieces of all layers fill few crossbars. The positions depend only on `partitions`.

    The pieces are packed up to four times, each time in another order: by descending area, longer side, number of rows, or
    number of columns. The packing with the fewest crossbars is returned. Each piece is placed on the first crossbar on which it
    fits, in the free rectangle where the smaller of the two remaining gaps is smallest (maximal rectangles algorithm).

    Each piece of the size of a crossbar has a crossbar of its own. If at most 6 pieces are smaller than a crossbar, these
    pieces are also placed in every possible order. If more than 400 pieces are smaller than a crossbar, the pieces are placed
    in rows of pieces (shelves) instead, which is faster.

    Args:
        partitions: Tiles of each layer, all of the same size, by layer name.

    Raises:
        TilingError: The partitions are for crossbars of different sizes, or a piece is larger than its crossbar.
    """
    tile = _common_size(partitions)
    names = [fqn for fqn, partition in partitions.items() for _ in range(partition.n_tiles)]
    sizes = [size for partition in partitions.values() for size in list_pieces(partition)]
    places = _place(sizes, tile, bound_crossbars(partitions.values()))
    pieces = (PlacedPiece(fqn, *place, *size) for fqn, place, size in zip(names, places, sizes, strict=True))
    return Packing(tuple(pieces), *tile)


def _common_size(partitions: Mapping[str, TilePartition]) -> _Size:
    sizes = {(each.tile_rows, each.tile_cols) for each in partitions.values()} or {(1, 1)}
    if len(sizes) > 1:
        raise TilingError(
            f"packing: got crossbars of different sizes (rows, cols): {sorted(sizes)}, expected one size",
            hint="use the same tile for all partitions",
        )
    (tile,) = sizes
    for fqn, partition in partitions.items():
        largest = (max(partition.row_sizes), max(partition.col_sizes))
        if largest[0] > tile[0] or largest[1] > tile[1]:
            raise TilingError(
                f"{fqn}: got pieces with up to {largest[0]} rows and {largest[1]} columns, "
                f"expected at most the {tile[0]} rows and {tile[1]} columns of a crossbar",
                hint="partition_graph(graph, tile) divides the weight matrices into pieces that fit on a crossbar",
            )
    return tile


def _place(sizes: Sequence[_Size], tile: _Size, bound: int) -> list[_Place]:
    """Return the position of each piece (crossbar, first row, first column), in the order of `sizes`.

    Pieces of the size of a crossbar are placed on the first crossbars. The other pieces are placed in several orders, and the
    positions that need the fewest crossbars are returned. No further order is tried after an order that needs at most `bound`
    crossbars.
    """
    whole = [index for index, size in enumerate(sizes) if size == tile]
    rest = [index for index, size in enumerate(sizes) if size != tile]
    best: dict[int, _Place] = {}
    fewest = math.inf
    fill = _fill_shelves if len(rest) > _MANY else _fill_rectangles
    for order in _orders(rest, sizes):
        found = fill([sizes[index] for index in order], tile)
        needed = len(whole) + 1 + max((place[0] for place in found), default=-1)
        if needed < fewest:
            fewest = needed
            best = {index: (len(whole) + bar, row, col) for index, (bar, row, col) in zip(order, found, strict=True)}
        if needed <= bound:
            break
    best |= {index: (number, 0, 0) for number, index in enumerate(whole)}
    return [best[index] for index in range(len(sizes))]


def _orders(indices: Sequence[int], sizes: Sequence[_Size]) -> Iterator[Sequence[int]]:
    measures: tuple[Callable[[_Size], _Size], ...] = (
        lambda size: (size[0] * size[1], max(size)),
        lambda size: (max(size), min(size)),
        lambda size: (size[0], size[1]),
        lambda size: (size[1], size[0]),
    )
    for measure in measures:
        yield sorted(indices, key=lambda index: (measure(sizes[index]), sizes[index]), reverse=True)
    if len(indices) <= _FEW:
        yield from itertools.permutations(indices)


def _fill_rectangles(sizes: Iterable[_Size], tile: _Size) -> list[_Place]:
    """Place each piece on the first crossbar with a large enough free rectangle, and return the positions in order of `sizes`.

    If the crossbar has several such rectangles, the piece is placed where the smaller of the two remaining gaps (unused rows,
    unused columns) is smallest. A new crossbar is added if the piece fits on no crossbar.
    """
    bars: list[list[_Free]] = []
    places = []
    for rows, cols in sizes:
        number = next((n for n, free in enumerate(bars) if any(_fits_in(each, rows, cols) for each in free)), len(bars))
        if number == len(bars):
            bars.append([(0, 0, *tile)])
        fitting = [each for each in bars[number] if _fits_in(each, rows, cols)]
        row, col, *_ = min(fitting, key=lambda each: (min(each[2] - rows, each[3] - cols), each))
        bars[number] = _cut(bars[number], (row, col, rows, cols))
        places.append((number, row, col))
    return places


def _fits_in(free: _Free, rows: int, cols: int) -> bool:
    return free[2] >= rows and free[3] >= cols


def _cut(free: Iterable[_Free], piece: _Free) -> list[_Free]:
    """Return the maximal free rectangles of a crossbar after `piece` has been placed.

    The argument `free` contains the maximal free rectangles before `piece` is placed. Free rectangles may overlap. Each
    rectangle is a tuple of first row, first column, number of rows and number of columns.
    """
    top, left, rows, cols = piece
    bottom, right = top + rows, left + cols
    kept: list[_Free] = []
    new: list[_Free] = []
    for each in free:
        row, col, height, width = each
        if bottom <= row or top >= row + height or right <= col or left >= col + width:
            kept.append(each)
            continue
        new += [(row, col, top - row, width)] if top > row else []
        new += [(bottom, col, row + height - bottom, width)] if bottom < row + height else []
        new += [(row, col, height, left - col)] if left > col else []
        new += [(row, right, height, col + width - right)] if right < col + width else []
    for index, each in enumerate(new):
        others = [*kept, *new[:index], *(other for other in new[index + 1 :] if other != each)]
        if not any(_contains(other, each) for other in others):
            kept.append(each)
    return kept


def _contains(outer: _Free, inner: _Free) -> bool:
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and outer[0] + outer[2] >= inner[0] + inner[2]
        and outer[1] + outer[3] >= inner[1] + inner[3]
    )


def _fill_shelves(sizes: Iterable[_Size], tile: _Size) -> list[_Place]:
    """Place each piece on the shelf on which the fewest crossbar rows stay unused, and return the positions of the pieces.

    A shelf is a row of pieces on a crossbar. The height of a shelf is the number of rows of its first piece.
    """
    shelves: list[list[int]] = []  # crossbar, first row, rows, used columns
    heights: list[int] = []  # number of used rows of each crossbar
    places = []
    for rows, cols in sizes:
        fitting = [each for each in shelves if each[2] >= rows and each[3] + cols <= tile[1]]
        if fitting:
            shelf = min(fitting, key=lambda each: (each[2] - rows, each))
        else:
            number = next((n for n, used in enumerate(heights) if used + rows <= tile[0]), len(heights))
            if number == len(heights):
                heights.append(0)
            shelf = [number, heights[number], rows, 0]
            heights[number] += rows
            shelves.append(shelf)
        places.append((shelf[0], shelf[1], shelf[3]))
        shelf[3] += cols
    return places
