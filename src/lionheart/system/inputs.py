"""Checks of the inputs of a cost estimate: a mapping fits its network, and the tiles of a projection fit its weight matrix."""

from __future__ import annotations

from collections.abc import Mapping

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, TilingError, check_type, suggest
from lionheart.graph import LayerGraph, LayerNode
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition, partition_matrix
from lionheart.system.platform import PlatformSpec


def find_partition(
    node: LayerNode,
    platform: PlatformSpec,
    partitions: Mapping[str, TilePartition] | None,
    tile: TileSpec | None = None,
) -> TilePartition:
    """Return the tiles of an analog projection (weight matrix), i.e. its entry in `partitions`.

    If `partitions` is None, the tiles are computed from the size of `tile`, or from the platform's tile size if `tile` is None.

    Raises:
        ConfigError: `partitions` is given and has no entry for this projection.
        TilingError: The entry in `partitions` does not match the shape of the projection.
    """
    if partitions is None:
        size = (platform.tile_rows, platform.tile_cols) if tile is None else (tile.rows, tile.cols)
        return partition_matrix(node.rows, node.cols, node.groups, *size)
    if node.fqn not in partitions:
        raise ConfigError(
            f"partitions: {node.fqn!r} is analog but has no tiles, "
            "expected tiles for each analog projection (weight matrix)",
            hint=suggest(node.fqn, partitions, label="projections with tiles"),
        )
    partition = partitions[node.fqn]
    covered = (sum(partition.row_sizes), sum(partition.col_sizes), partition.groups)
    if covered != (node.rows, node.cols, node.groups):
        raise TilingError(
            f"partitions: the tiles of {node.fqn!r} cover (rows, cols, groups) = {covered}, "
            f"expected {(node.rows, node.cols, node.groups)}",
            hint="the partition may belong to another network; partition_graph(graph, tile) computes all partitions",
        )
    return partition


def check_mapping(graph: LayerGraph, mapping: LayerMapping) -> None:
    """Check that a mapping has a placement for every projection (weight matrix) of a graph, and no other placement.

    Raises:
        ConfigError: A projection has no placement, or a name in the mapping is not a projection of the graph.
    """
    check_type(mapping, LayerMapping, "mapping", hint="for example LayerMapping.from_analog(graph, names)")
    for fqn in mapping.placements:
        graph[fqn]
    missing = [fqn for fqn in graph.fqns if fqn not in mapping.placements]
    if missing:
        raise ConfigError(
            f"mapping: no placement for {', '.join(map(repr, missing[:5]))}{', ...' if len(missing) > 5 else ''}, "
            "expected a placement for each projection (weight matrix) of the network",
            hint="the mapping may belong to another network; if not, add the missing placements",
        )
