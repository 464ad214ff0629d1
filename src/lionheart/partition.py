"""Partition of weight matrices over tiles: each matrix is divided into submatrices of nearly equal size that fit a crossbar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.errors import TilingError
from lionheart.graph import LayerGraph

_MOST_PIECES = 10_000_000  # of a matrix in one dimension; more come from wrong sizes


@final
@dataclass(frozen=True)
class TilePartition:
    """Partition of the weight matrix of one projection over a grid of tiles; every weight is stored on exactly one tile.

    Args:
        row_sizes: Number of matrix inputs on each row of tiles. The partial sums of the rows are added digitally.
        col_sizes: Number of matrix outputs on each column of tiles.
        groups: Number of independent matrices of equal size, such as the groups of a grouped convolution. Each matrix has its
            own tiles.
        tile_rows: Number of inputs of a crossbar.
        tile_cols: Number of outputs of a crossbar.
    """

    row_sizes: tuple[int, ...]
    col_sizes: tuple[int, ...]
    groups: int
    tile_rows: int
    tile_cols: int

    @property
    def n_tiles(self) -> int:
        """Number of tiles that store the weight matrix of the projection, over all groups."""
        return len(self.row_sizes) * len(self.col_sizes) * self.groups

    @property
    def tile_utilisation(self) -> float:
        """Fraction of the tiles' cells that hold a weight, 0 to 1."""
        used = sum(self.row_sizes) * sum(self.col_sizes) * self.groups
        return used / (self.n_tiles * self.tile_rows * self.tile_cols)

    def count_copies(self, tile: TileSpec) -> tuple[int, int]:
        """Return how often the weights are repeated on the rows and on the columns of each tile.

        Args:
            tile: Settings with the largest numbers of copies, ``row_copies`` and ``column_copies``.

        Returns:
            Copies on rows, which add their currents, and copies on columns, whose outputs are averaged digitally; 1 = no
            repetition. They are as many as the settings allow and as fit on one tile.
        """
        rows = max(1, min(tile.row_copies, self.tile_rows // max(self.row_sizes)))
        cols = max(1, min(tile.column_copies, self.tile_cols // max(self.col_sizes)))
        return rows, cols


def split_evenly(size: int, largest: int) -> tuple[int, ...]:
    """Split a matrix dimension of length `size` into as few pieces of length `largest` or less as possible.

    Return the lengths of the pieces. The lengths differ by at most one, and longer pieces are first. For example, with
    ``largest=256``, 768 is split into 3 x 256, and 576 into 3 x 192. AIHWKIT's `TileModuleArray` splits matrices by the same
    rule.

    Raises:
        TilingError: `size` or `largest` is less than 1, or there are more than ten million pieces.
    """
    if size < 1 or largest < 1:
        raise TilingError(
            f"tiling: got a matrix size of {size} and a crossbar size of {largest}, expected sizes >= 1",
            hint="check the shape of the weight matrix, and the settings tile.rows and tile.cols",
        )
    n = -(-size // largest)
    if n > _MOST_PIECES:
        raise TilingError(
            f"tiling: got a matrix size of {size} and a crossbar size of {largest}, that is {n} pieces, expected at most "
            f"{_MOST_PIECES}",
            hint="check the shape of the weight matrix, and the settings tile.rows and tile.cols",
        )
    base, rest = divmod(size, n)
    return (base + 1,) * rest + (base,) * (n - rest)


def partition_matrix(rows: int, cols: int, groups: int, tile_rows: int, tile_cols: int) -> TilePartition:
    """Return the partition of a projection's weight matrix over tiles.

    Args:
        rows: Number of inputs of the matrix of each group.
        cols: Number of outputs of the matrix of each group.
        groups: Number of independent matrices, such as the groups of a grouped convolution.
        tile_rows: Number of inputs of a crossbar.
        tile_cols: Number of outputs of a crossbar.

    Raises:
        TilingError: A size is less than 1.
    """
    return TilePartition(split_evenly(rows, tile_rows), split_evenly(cols, tile_cols), groups, tile_rows, tile_cols)


def partition_graph(graph: LayerGraph, tile: TileSpec) -> dict[str, TilePartition]:
    """Return the partition over tiles for every projection (weight matrix) of a network, by fully qualified name."""
    return {n.fqn: partition_matrix(n.rows, n.cols, n.groups, tile.rows, tile.cols) for n in graph.nodes}
