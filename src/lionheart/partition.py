"""How a weight matrix is cut into crossbar-sized pieces of even size."""

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
    """The pieces of one projection; every weight lies in exactly one.

    Args:
        row_sizes: Inputs of each row of tiles; partial sums over them are added digitally.
        col_sizes: Outputs of each column of tiles.
        groups: Number of independent matrices, each with tiles of its own.
        tile_rows: Inputs of a whole crossbar.
        tile_cols: Outputs of a whole crossbar.
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
        """Share of the tiles' devices that hold a weight, 0 to 1."""
        used = sum(self.row_sizes) * sum(self.col_sizes) * self.groups
        return used / (self.n_tiles * self.tile_rows * self.tile_cols)


def split_evenly(size: int, largest: int) -> tuple[int, ...]:
    """Cut `size` into the fewest pieces of at most `largest`, which differ by at most one; larger ones first.

    This is AIHWKIT's rule (`TileModuleArray`): 768 over 256 is 3 x 256, 576 is 3 x 192.

    Raises:
        TilingError: A number is not positive.
    """
    if size < 1 or largest < 1:
        raise TilingError(f"tiling: got {size} lines over pieces of {largest}, expected positive numbers")
    n = math.ceil(size / largest)
    base, rest = divmod(size, n)
    return (base + 1,) * rest + (base,) * (n - rest)


def partition_matrix(rows: int, cols: int, groups: int, tile_rows: int, tile_cols: int) -> TilePartition:
    """Return the tiles of ``groups`` matrices of ``rows`` inputs and ``cols`` outputs."""
    return TilePartition(split_evenly(rows, tile_rows), split_evenly(cols, tile_cols), groups, tile_rows, tile_cols)


def partition_graph(graph: LayerGraph, tile: TileSpec) -> dict[str, TilePartition]:
    """Return the tiles of every projection of a network, by name."""
    return {n.fqn: partition_matrix(n.rows, n.cols, n.groups, tile.rows, tile.cols) for n in graph.nodes}
