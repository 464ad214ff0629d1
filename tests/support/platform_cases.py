"""A small network and its estimate on a platform, for tests of platforms."""

from lionheart.devices import TileSpec
from lionheart.graph import DigitalOp, LayerGraph, LayerNode
from lionheart.mapping import LayerMapping
from lionheart.system import PlatformSpec, SystemEstimate, estimate_system


def linear(fqn: str, rows: int, cols: int) -> LayerNode:
    return LayerNode(fqn, "linear", rows, cols, 1, 3, 1, 3 * rows, 3 * cols, has_bias=True)


GRAPH = LayerGraph(
    (linear("a", 300, 500), linear("b", 500, 40)), (DigitalOp("relu", 1, 500, 500), DigitalOp("softmax", 1, 40, 40))
)


def estimate(
    platform: PlatformSpec, analog: tuple[str, ...] = ("a", "b"), tile: TileSpec | None = None
) -> SystemEstimate:
    return estimate_system(GRAPH, LayerMapping.from_analog(GRAPH, analog), platform, tile=tile)
