"""Packing of the pieces of several layers into few crossbars.

Pieces on one crossbar do not overlap and are not rotated, because rows are inputs. Layers on one crossbar share its converters,
so only one of them runs at a time.
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

_FEW = 6  # largest number of pieces of which every order is tried
_MANY = 400  # more pieces are packed on shelves, in a time proportional to the number of pieces times that of shelves

_Size = tuple[int, int]  # rows, cols
_Place = tuple[int, int, int]  # crossbar, first row, first column
_Free = tuple[int, int, int, int]  # first row, first column, rows, cols


@final
@dataclass(frozen=True)
class PlacedPiece:
    """Position of one piece of a layer's weight on a crossbar.

    Args:
        fqn: Name of the layer.
        crossbar: Index of the crossbar, from 0.
        row: First row of the piece on the crossbar.
        col: First column of the piece on the crossbar.
        rows: Number of inputs of the piece.
        cols: Number of outputs of the piece.
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
    """Positions of all pieces of all layers on crossbars of one size.

    Args:
        pieces: Pieces layer by layer, in the given order of the layers.
        tile_rows: Number of inputs of a crossbar.
        tile_cols: Number of outputs of a crossbar.
    """

    pieces: tuple[PlacedPiece, ...]
    tile_rows: int
    tile_cols: int

    @property
    def n_crossbars(self) -> int:
        """Number of crossbars."""
        return 1 + max((piece.crossbar for piece in self.pieces), default=-1)

    @property
    def utilisation(self) -> float:
        """Share of the crossbars' cells that hold a weight, 0 to 1."""
        used = sum(piece.rows * piece.cols for piece in self.pieces)
        return used / (self.n_crossbars * self.tile_rows * self.tile_cols) if self.pieces else 0.0

    @cached_property
    def crossbars(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of the crossbars that hold a piece of each layer, in increasing order, by layer."""
        found: dict[str, set[int]] = {}
        for piece in self.pieces:
            found.setdefault(piece.fqn, set()).add(piece.crossbar)
        return {fqn: tuple(sorted(numbers)) for fqn, numbers in found.items()}

    def can_run_together(self, first: str, second: str) -> bool:
        """Return whether two layers have no crossbar in common; a crossbar computes for one layer at a time."""
        return not set(self.crossbars[first]) & set(self.crossbars[second])


def list_pieces(partition: TilePartition) -> list[_Size]:
    """Return (rows, cols) of all pieces of a layer."""
    sizes = itertools.product(range(partition.groups), partition.row_sizes, partition.col_sizes)
    return [(rows, cols) for _, rows, cols in sizes]


def bound_crossbars(partitions: Iterable[TilePartition]) -> int:
    """Return a lower bound of the number of crossbars, from the total area and from pieces larger than half a crossbar."""
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
    """Pack the pieces of all layers into few crossbars; the result depends only on `partitions`.

    Pieces are placed one after another in decreasing size, for several definitions of size, at the position where the smaller
    of the two remaining gaps is smallest (maximal rectangles); the best result is kept. For up to 6 pieces, every order is
    tried. More than 400 pieces that do not fill a crossbar are packed on shelves instead.

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
            f"packing: got crossbars of {sorted(sizes)}, expected one size", hint="use the same tile for all partitions"
        )
    (tile,) = sizes
    for fqn, partition in partitions.items():
        largest = (max(partition.row_sizes), max(partition.col_sizes))
        if largest[0] > tile[0] or largest[1] > tile[1]:
            raise TilingError(f"{fqn}: a piece of {largest} does not fit in a crossbar of {tile}")
    return tile


def _place(sizes: Sequence[_Size], tile: _Size, bound: int) -> list[_Place]:
    """Return the position of each piece: pieces that fill a crossbar first, the others by the best of several orders."""
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
    """Place each piece on the first crossbar with enough free area, in the rectangle with the smallest remaining gap."""
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
    """Return the maximal free rectangles after a piece has been placed."""
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
    """Place each piece on the shelf that loses the least height; the height of a shelf is that of its first piece."""
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
