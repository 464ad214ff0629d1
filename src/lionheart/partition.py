"""Partition of weight matrices into pieces of nearly equal size that fit a crossbar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.errors import TilingError
from lionheart.graph import LayerGraph


@final
@dataclass(frozen=True)
class TilePartition:
    """The tiles of one projection; every weight is on exactly one tile.

    Args:
        row_sizes: Number of inputs of each row of tiles. The partial sums of the rows are added digitally.
        col_sizes: Number of outputs of each column of tiles.
        groups: Number of independent matrices, each with its own tiles.
        tile_rows: Inputs of a crossbar.
        tile_cols: Outputs of a crossbar.
    """

    row_sizes: tuple[int, ...]
    col_sizes: tuple[int, ...]
    groups: int
    tile_rows: int
    tile_cols: int

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return len(self.row_sizes) * len(self.col_sizes) * self.groups

    @property
    def tile_utilisation(self) -> float:
        """Share of the tiles' cells that hold a weight, 0 to 1."""
        used = sum(self.row_sizes) * sum(self.col_sizes) * self.groups
        return used / (self.n_tiles * self.tile_rows * self.tile_cols)


def split_evenly(size: int, largest: int) -> tuple[int, ...]:
    """Split `size` into the smallest number of pieces of at most `largest`.

    The sizes of the pieces differ by at most one; larger pieces come first. This is the rule of AIHWKIT's `TileModuleArray`:
    with pieces of at most 256, 768 is 3 x 256 and 576 is 3 x 192.

    Raises:
        TilingError: A number is not positive.
    """
    if size < 1 or largest < 1:
        raise TilingError(f"tiling: got size {size} and largest piece {largest}, expected positive numbers")
    n = math.ceil(size / largest)
    base, rest = divmod(size, n)
    return (base + 1,) * rest + (base,) * (n - rest)


def partition_matrix(rows: int, cols: int, groups: int, tile_rows: int, tile_cols: int) -> TilePartition:
    """Return the tiles of a projection.

    Args:
        rows: Inputs of the matrix of each group.
        cols: Outputs of the matrix of each group.
        groups: Number of groups.
        tile_rows: Inputs of a crossbar.
        tile_cols: Outputs of a crossbar.
    """
    return TilePartition(split_evenly(rows, tile_rows), split_evenly(cols, tile_cols), groups, tile_rows, tile_cols)


def partition_graph(graph: LayerGraph, tile: TileSpec) -> dict[str, TilePartition]:
    """Return the tiles of every projection of a network, by fully qualified name."""
    return {n.fqn: partition_matrix(n.rows, n.cols, n.groups, tile.rows, tile.cols) for n in graph.nodes}
