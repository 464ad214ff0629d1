"""Print the tables of docs/results/zigzag.md: costs of ResNet8 by the system model and by ZigZag (extra zigzag)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from unittest.mock import patch

import torch

from lionheart.graph import LayerGraph, LayerNode, trace_graph
from lionheart.interop.zigzag import LayerComparison, TotalComparison, compare_with_zigzag, describe, price_with_zigzag
from lionheart.mapping import LayerMapping
from lionheart.system import PlatformSpec, load_platform
from lionheart.tasks.images.networks import ResNet8
from lionheart.units import format_si

PLATFORMS = ("alpine-high-power", "alpine-low-power")
STREAMED = ((768, 3072), (768, 50257), (4096, 4099), (1031, 1033), (4099, 4099))


def trace_resnet8() -> LayerGraph:
    return trace_graph(ResNet8(), torch.zeros(1, 3, 32, 32))


def tabulate_layers(graph: LayerGraph, platform: PlatformSpec) -> Iterator[str]:
    data = compare_with_zigzag(graph, LayerMapping.from_analog(graph, []), platform)
    yield "| projection | MACs | ours | its products | ZigZag | over its bound | ratio | ours | ZigZag | ratio |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in data.rows:
        over = f"{100 * (row.zigzag.cycles / row.zigzag.bound_cycles - 1):.1f} %"
        yield describe_row(row.fqn, row.macs, over, row)
    yield describe_row("sum", graph.macs, "", data.totals.all)


def describe_row(name: str, macs: int, over: str, row: LayerComparison | TotalComparison) -> str:
    times = [format_si(each, "s") for each in (row.ours.latency_s, row.ours.products_s, row.zigzag.latency_s)]
    energies = [format_si(each.energy_j, "J") for each in (row.ours, row.zigzag)]
    cells = [name, f"{macs:,}", *times, over, f"{row.latency_ratio:.1f}", *energies, f"{row.energy_ratio:.1f}"]
    return f"| {' | '.join(cells)} |"


def tabulate_tiles(graph: LayerGraph) -> Iterator[str]:
    """Yield the costs of one MVM of a whole tile of each platform and of ZigZag's array."""
    yield "| one MVM, 256 x 256 | time | energy |"
    yield "|---|---|---|"
    arrays = []
    for name in PLATFORMS:
        tile = compare_with_zigzag(graph, LayerMapping.from_analog(graph, []), load_platform(name)).tile
        arrays = [(f"ZigZag, {each.bits_per_cycle} bit of the inputs a cycle", each) for each in tile.zigzag]
        yield f"| ours, {name} | {format_si(tile.ours.latency_s, 's')} | {format_si(tile.ours.energy_j, 'J')} |"
    for label, each in arrays:
        yield f"| {label} | {format_si(each.latency_s, 's')} | {format_si(each.energy_j, 'J')} |"


def tabulate_search(graph: LayerGraph, platform: PlatformSpec) -> Iterator[str]:
    """Yield the influence of the search limit and of the L1 size."""
    yield "| loop prime factors | L1 | search | cycles | energy |"
    yield "|---|---|---|---|---|"
    known = describe.read_core
    for kib, limits in ((32, (3, 4, 5, 6)), (64, (4,))):
        sizes = {"l1_bytes": kib * 1024}
        with patch.object(describe, "read_core", lambda name, sizes=sizes: sizes.get(name) or known(name)):
            for limit in limits:
                start = time.perf_counter()
                costs = price_with_zigzag(graph, platform, lpf_limit=limit)
                elapsed, energy = time.perf_counter() - start, format_si(sum(cost.energy_j for cost in costs), "J", 5)
                yield f"| {limit} | {kib} KiB | {elapsed:.1f} s | {sum(c.cycles for c in costs):,.0f} | {energy} |"


def tabulate_streams(platform: PlatformSpec) -> Iterator[str]:
    """Yield ZigZag's time for products with one vector and weights in DRAM, relative to weights / bandwidth."""
    yield "| rows x cols | time / (weights / DRAM bandwidth) |"
    yield "|---|---|"
    rest = LayerNode("rest", "linear", 1024, 1025, 1, 1, 1, 1024, 1025, has_bias=False)  # too large for the LLC
    for rows, cols in STREAMED:
        node = LayerNode("layer", "linear", rows, cols, 1, 1, 1, rows, cols, has_bias=False)
        cost = price_with_zigzag(LayerGraph((node, rest), ()), platform)[0]
        bound_s = node.weights * platform.activation_bytes / platform.dram_stream_bandwidth_bytes_per_s
        yield f"| {rows} x {cols} | {cost.latency_s / bound_s:.2f} |"


def main() -> None:
    graph, high = trace_resnet8(), load_platform(PLATFORMS[0])
    for name in PLATFORMS:
        start = time.perf_counter()
        lines = list(tabulate_layers(graph, load_platform(name)))
        print(f"\n{name}, {time.perf_counter() - start:.1f} s\n", *lines, sep="\n")
    for lines in (tabulate_tiles(graph), tabulate_search(graph, high), tabulate_streams(high)):
        print("", *lines, sep="\n")


if __name__ == "__main__":
    main()
