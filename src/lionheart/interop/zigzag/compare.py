"""One table: the system model's cost of each projection on the core, and ZigZag's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from lionheart.graph import LayerGraph, LayerNode
from lionheart.interop.zigzag.describe import read_core
from lionheart.interop.zigzag.price import BITS_PER_CYCLE, ZigZagCost, price_array, price_with_zigzag
from lionheart.mapping import LayerMapping, Placement
from lionheart.progress import SILENT, Progress
from lionheart.record import Record
from lionheart.runs.costs import CostTotals
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


class OurCost(CostTotals):
    """The system model's cost on the core.

    Args:
        products_s: Time of the products [s].
        leakage_j: Leakage of the last-level cache [J].
    """

    products_s: float
    leakage_j: float


@final
class TheirCost(CostTotals):
    """ZigZag's cost on the vector core.

    Args:
        cycles: Clock cycles.
        bound_cycles: MACs over lanes, below which no mapping can get.
        energy_breakdown_j: Joules of the lanes and of each memory.
    """

    cycles: float
    bound_cycles: float
    energy_breakdown_j: dict[str, float]


@final
class LayerComparison(Record):
    """Both costs of one projection, as if it were digital.

    Args:
        fqn: The projection.
        placement: Where its products run in the mapping.
        macs: Its MACs.
        ours: The system model's cost.
        zigzag: ZigZag's.
        latency_ratio: Our time over ZigZag's [-].
        energy_ratio: Our energy over ZigZag's [-]; None where a platform gives no energies.
    """

    fqn: str
    placement: Placement
    macs: int
    ours: OurCost
    zigzag: TheirCost
    latency_ratio: float
    energy_ratio: float | None


@final
class TotalComparison(Record):
    """Sums of both costs.

    Args:
        n_projections: Projections in the sums.
        products_macs_per_s: Rate of our products [1/s].
        ours: The system model's cost.
        zigzag: ZigZag's.
        latency_ratio: Our time over ZigZag's [-].
        energy_ratio: Our energy over ZigZag's [-]; None where a platform gives no energies.
    """

    n_projections: int
    products_macs_per_s: float
    ours: OurCost
    zigzag: CostTotals
    latency_ratio: float
    energy_ratio: float | None


@final
class Totals(Record):
    """Sums over all projections and over the digital ones.

    Args:
        all: Of all projections.
        digital: Of those that are digital in the mapping; None if there are none.
    """

    all: TotalComparison
    digital: TotalComparison | None


@final
class ArrayRecord(CostTotals):
    """ZigZag's cost of one MVM.

    Args:
        bits_per_cycle: Bits of an input that enter at once.
        energy_breakdown_j: Joules of its parts.
    """

    bits_per_cycle: int
    energy_breakdown_j: dict[str, float]


@final
class TileComparison(Record):
    """One MVM of a whole tile.

    Args:
        rows: Inputs of the tile.
        cols: Outputs of the tile.
        ours: The platform's cost.
        zigzag: ZigZag's, at several numbers of bits a cycle.
    """

    rows: int
    cols: int
    ours: CostTotals
    zigzag: tuple[ArrayRecord, ...]


@final
class ZigZagComparison(Record):
    """The system model's cost of each projection on the core, and ZigZag's.

    Args:
        tool: Name of the package.
        platform: Name of the platform.
        lanes: Lanes of the vector core.
        rows: In the network's order.
        totals: Sums.
        tile: One MVM of a tile.
        ours_leaves_out: What the system model does not have.
        zigzag_leaves_out: What ZigZag does not have.
    """

    tool: str
    platform: str
    lanes: int
    rows: tuple[LayerComparison, ...]
    totals: Totals
    tile: TileComparison
    ours_leaves_out: tuple[str, ...]
    zigzag_leaves_out: tuple[str, ...]


def compare_with_zigzag(
    graph: LayerGraph, mapping: LayerMapping, platform: PlatformSpec, *, progress: Progress = SILENT
) -> ZigZagComparison:
    """Return the system model's cost of each projection on the core, and ZigZag's.

    Projections that are analog in `mapping` are in the table too, priced as if they were digital.

    Args:
        graph: The network, with at least one projection.
        mapping: Its placements; also decides what `totals` calls digital.
        platform: Prices both sides.
        progress: Shows ZigZag's search.

    Raises:
        ConfigError: The mapping is for another network, or an operation has no price.
        UnsupportedLayerError: ZigZag finds no mapping of a projection.
    """
    ours = estimate_system(graph, mapping, platform).digital_layers
    theirs = price_with_zigzag(graph, platform, progress=progress)
    rows = tuple(
        _compare(node, mapping.placements[node.fqn], mine.cost, other)
        for node, mine, other in zip(graph.nodes, ours, theirs, strict=True)
    )
    digital = [row for row in rows if row.placement is Placement.DIGITAL]
    return ZigZagComparison(
        tool="zigzag-dse",
        platform=platform.name,
        lanes=read_core("vector_lanes"),
        rows=rows,
        totals=Totals(all=_total(rows), digital=_total(digital) if digital else None),
        tile=_compare_tile(platform),
        ours_leaves_out=OURS_LEAVES_OUT,
        zigzag_leaves_out=ZIGZAG_LEAVES_OUT,
    )


def _compare(node: LayerNode, placement: Placement, ours: Cost, theirs: ZigZagCost) -> LayerComparison:
    return LayerComparison(
        fqn=node.fqn,
        placement=placement,
        macs=node.macs,
        ours=OurCost(
            latency_s=ours.latency_s,
            energy_j=ours.energy_j,
            products_s=ours.time_s["mac_kernel"],
            leakage_j=ours.energy.get("llc_leakage", 0.0),
        ),
        zigzag=TheirCost(
            latency_s=theirs.latency_s,
            energy_j=theirs.energy_j,
            cycles=theirs.cycles,
            bound_cycles=theirs.bound_cycles,
            energy_breakdown_j=dict(theirs.energy),
        ),
        latency_ratio=ours.latency_s / theirs.latency_s,
        energy_ratio=_divide(ours.energy_j, theirs.energy_j),
    )


def _divide(ours: float, theirs: float) -> float | None:
    """Return a ratio, or None where a platform gives no energies."""
    return ours / theirs if theirs else None


def _total(rows: Sequence[LayerComparison]) -> TotalComparison:
    """Return the sums of some rows."""
    ours = OurCost(
        latency_s=sum(row.ours.latency_s for row in rows),
        energy_j=sum(row.ours.energy_j for row in rows),
        products_s=sum(row.ours.products_s for row in rows),
        leakage_j=sum(row.ours.leakage_j for row in rows),
    )
    theirs = CostTotals(
        latency_s=sum(row.zigzag.latency_s for row in rows), energy_j=sum(row.zigzag.energy_j for row in rows)
    )
    return TotalComparison(
        n_projections=len(rows),
        products_macs_per_s=sum(row.macs for row in rows) / ours.products_s,
        ours=ours,
        zigzag=theirs,
        latency_ratio=ours.latency_s / theirs.latency_s,
        energy_ratio=_divide(ours.energy_j, theirs.energy_j),
    )


def _compare_tile(platform: PlatformSpec) -> TileComparison:
    """Return one MVM of a whole tile, the platform's and ZigZag's."""
    ops = 2 * platform.tile_rows * platform.tile_cols
    energy_j = ops / platform.tile_ops_per_j * platform.tile_technology_factor
    return TileComparison(
        rows=platform.tile_rows,
        cols=platform.tile_cols,
        ours=CostTotals(latency_s=platform.tile_mvm_s, energy_j=energy_j),
        zigzag=tuple(
            ArrayRecord(
                bits_per_cycle=cost.bits_per_cycle,
                latency_s=cost.latency_s,
                energy_j=cost.energy_j,
                energy_breakdown_j=dict(cost.energy),
            )
            for cost in (price_array(platform, bits) for bits in BITS_PER_CYCLE)
        ),
    )
