"""One table: the system model's cost of each projection on the core, and ZigZag's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lionheart.graph import LayerGraph, LayerNode
from lionheart.interop.zigzag.describe import read_core
from lionheart.interop.zigzag.price import BITS_PER_CYCLE, ZigZagCost, price_array, price_with_zigzag
from lionheart.mapping import LayerMapping
from lionheart.progress import SILENT, Progress
from lionheart.system import Cost, PlatformSpec, estimate_system

OURS_LEAVES_OUT = (
    "traffic between registers and L1: products run at a measured rate, whatever the layer's shape",
    "the choice of a loop order: ZigZag takes the best it finds for each layer, ours the kernel as it was measured",
    "lanes that idle where no dimension of a layer fills them",
    "loads that overlap with products",
)
ZIGZAG_LEAVES_OUT = (
    "instructions: addresses, loops and issue cost nothing, so a lane can multiply in every cycle",
    "gathering of patches, bias, requantisation, and every operation that is not a matrix product",
    "latency of memories: only their bandwidth counts",
    "energy of a core that waits, and leakage",
    "a lane's share of transfers, in layers none of whose dimensions is a multiple of the lanes",
    "kernels of convolutions: the layer graph has none, so an input counts once for each patch that it lies in",
    "the order of a recurrent layer's steps: they are taken as independent",
    "in the tile: phase-change memory. Its array is SRAM in 28 nm, with a column and an ADC for each bit of a weight",
)
_SUMMED = {"ours": ("latency_s", "energy_j", "products_s", "leakage_j"), "zigzag": ("latency_s", "energy_j")}


def compare_with_zigzag(
    graph: LayerGraph, mapping: LayerMapping, platform: PlatformSpec, *, progress: Progress = SILENT
) -> dict[str, Any]:
    """Return the system model's cost of each projection on the core beside ZigZag's, as plain data.

    Projections that are analog in `mapping` are in the table too, priced as if they were digital.

    Args:
        graph: The network.
        mapping: Its placements; also decides what `totals` calls digital.
        platform: Prices both sides.
        progress: Shows ZigZag's search.

    Raises:
        ConfigError: The mapping is for another network, or an operation has no price.
        UnsupportedLayerError: ZigZag finds no mapping of a projection.
    """
    ours = estimate_system(graph, mapping, platform).digital_layers
    theirs = price_with_zigzag(graph, platform, progress=progress)
    rows = [
        _compare(node, str(mapping.placements[node.fqn]), mine.cost, other)
        for node, mine, other in zip(graph.nodes, ours, theirs, strict=True)
    ]
    return {
        "tool": "zigzag-dse",
        "platform": platform.name,
        "lanes": read_core("vector_lanes"),
        "rows": rows,
        "totals": {
            "all": _total(rows),
            "digital": _total([row for row in rows if row["placement"] == "digital"]),
        },
        "tile": _compare_tile(platform),
        "ours_leaves_out": list(OURS_LEAVES_OUT),
        "zigzag_leaves_out": list(ZIGZAG_LEAVES_OUT),
    }


def _compare(node: LayerNode, placement: str, ours: Cost, theirs: ZigZagCost) -> dict[str, Any]:
    return {
        "fqn": node.fqn,
        "placement": placement,
        "macs": node.macs,
        "ours": {
            "latency_s": ours.latency_s,
            "energy_j": ours.energy_j,
            "products_s": ours.time_s["mac_kernel"],
            "leakage_j": ours.energy.get("llc_leakage", 0.0),
        },
        "zigzag": {
            "latency_s": theirs.latency_s,
            "energy_j": theirs.energy_j,
            "cycles": theirs.cycles,
            "bound_cycles": theirs.bound_cycles,
            "energy_breakdown_j": dict(theirs.energy),
        },
        "latency_ratio": ours.latency_s / theirs.latency_s,
        "energy_ratio": _divide(ours.energy_j, theirs.energy_j),
    }


def _divide(ours: float, theirs: float) -> float | None:
    """Return a ratio, or None where a platform gives no energies."""
    return ours / theirs if theirs else None


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the sums of some rows, None if there are none."""
    if not rows:
        return None
    sides: dict[str, dict[str, float]] = {
        side: {name: sum(row[side][name] for row in rows) for name in names} for side, names in _SUMMED.items()
    }
    rate = sum(row["macs"] for row in rows) / sides["ours"]["products_s"]
    ratio = sides["ours"]["latency_s"] / sides["zigzag"]["latency_s"]
    energy_ratio = _divide(sides["ours"]["energy_j"], sides["zigzag"]["energy_j"])
    return {
        "n_projections": len(rows),
        "products_macs_per_s": rate,
        **sides,
        "latency_ratio": ratio,
        "energy_ratio": energy_ratio,
    }


def _compare_tile(platform: PlatformSpec) -> dict[str, Any]:
    """Return one MVM of a whole tile, the platform's and ZigZag's."""
    ops = 2 * platform.tile_rows * platform.tile_cols
    return {
        "rows": platform.tile_rows,
        "cols": platform.tile_cols,
        "ours": {
            "latency_s": platform.tile_mvm_s,
            "energy_j": ops / platform.tile_ops_per_j * platform.tile_technology_factor,
        },
        "zigzag": [
            {
                "bits_per_cycle": cost.bits_per_cycle,
                "latency_s": cost.latency_s,
                "energy_j": cost.energy_j,
                "energy_breakdown_j": dict(cost.energy),
            }
            for cost in (price_array(platform, bits) for bits in BITS_PER_CYCLE)
        ],
    }
