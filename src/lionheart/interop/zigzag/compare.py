"""Compare LionHeart's system model with ZigZag: the cost of each projection (weight matrix) on the digital core."""

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
    "traffic between registers and L1: products run at a measured rate for every layer shape",
    "the choice of a loop order: ZigZag takes the best order found for each layer, the system model the measured kernel",
    "unused lanes if no dimension of a layer fills the lanes",
    "overlap of loads with products",
)
ZIGZAG_LEAVES_OUT = (
    "instructions: addresses, loops and issue are free, so a lane can multiply in every cycle",
    "gathering of patches, bias, requantisation, and every other operation than a matrix product",
    "latency of memories: only the bandwidth counts",
    "energy of a waiting core, and leakage",
    "the fractional lane in transfers of layers without a dimension that is a multiple of the lanes",
    "kernel sizes of convolutions: the layer graph has none, so an input counts once for each patch that contains it",
    "the sequence of a recurrent layer: time steps are treated as independent",
    "in the tile: phase-change memory. ZigZag's array is 28 nm SRAM with a column and an ADC for each weight bit",
)


class OurCost(CostTotals):
    """Cost per inference of one or more projections (weight matrices) on the digital core, by LionHeart's system model.

    Args:
        products_s: Part of the latency that is spent on matrix products [s].
        leakage_j: Part of the energy that is due to leakage of the last-level cache [J].
    """

    products_s: float
    leakage_j: float


@final
class TheirCost(CostTotals):
    """Cost per inference of one projection (weight matrix) on the digital vector core, computed by ZigZag.

    Args:
        cycles: Number of clock cycles.
        bound_cycles: Number of multiply-accumulate operations divided by the number of lanes, a lower bound of `cycles`.
        energy_breakdown_j: Energy of the lanes and of each memory, by component name [J].
    """

    cycles: float
    bound_cycles: float
    energy_breakdown_j: dict[str, float]


@final
class LayerComparison(Record):
    """Costs per inference of one projection (weight matrix) on the digital core, by the system model and by ZigZag.

    Args:
        fqn: Fully qualified name of the projection.
        placement: Placement of the projection in the mapping. The costs are those on the digital core also for
            analog projections.
        macs: Number of multiply-accumulate operations (MACs) per inference.
        ours: Cost computed by the system model.
        zigzag: Cost computed by ZigZag.
        latency_ratio: Latency in `ours` divided by the latency in `zigzag` [-].
        energy_ratio: Energy in `ours` divided by the energy in `zigzag` [-]; None if the platform defines no energies.
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
    """Summed costs per inference of several projections (weight matrices) on the digital core, by two cost models.

    The two cost models are LionHeart's system model and ZigZag.

    Args:
        n_projections: Number of projections in the sums.
        products_macs_per_s: Multiply-accumulate operations of the projections divided by the time that the system model
            assigns to matrix products [1/s].
        ours: Sum of the costs computed by the system model.
        zigzag: Sum of the costs computed by ZigZag.
        latency_ratio: Latency in `ours` divided by the latency in `zigzag` [-].
        energy_ratio: Energy in `ours` divided by the energy in `zigzag` [-]; None if the platform defines no energies.
    """

    n_projections: int
    products_macs_per_s: float
    ours: OurCost
    zigzag: CostTotals
    latency_ratio: float
    energy_ratio: float | None


@final
class Totals(Record):
    """Summed costs on the digital core for all projections (weight matrices), and for the digital projections only.

    Args:
        all: Sums over all projections.
        digital: Sums over the projections that are digital in the mapping; None if every projection is analog.
    """

    all: TotalComparison
    digital: TotalComparison | None


@final
class ArrayRecord(CostTotals):
    """Cost of one matrix-vector multiplication on an in-memory computing array, computed by ZigZag.

    The array has as many rows and columns as an analog tile of the platform.

    Args:
        bits_per_cycle: Number of input bits that the array processes in one cycle.
        energy_breakdown_j: Energy of each array component, by component name [J].
    """

    bits_per_cycle: int
    energy_breakdown_j: dict[str, float]


@final
class TileComparison(Record):
    """Costs of one matrix-vector multiplication that uses a whole tile, by the system model and by ZigZag.

    Args:
        rows: Number of inputs of the tile.
        cols: Number of outputs of the tile.
        ours: Cost computed from the tile constants of the platform.
        zigzag: Costs computed by ZigZag, one for each number of input bits that the array processes in one cycle.
    """

    rows: int
    cols: int
    ours: CostTotals
    zigzag: tuple[ArrayRecord, ...]


@final
class ZigZagComparison(Record):
    """Costs by the system model and by ZigZag, for each projection (weight matrix) on the digital core and for one tile.

    Args:
        tool: Name of ZigZag's Python package.
        platform: Name of the hardware platform.
        lanes: Number of lanes of the vector core.
        rows: One comparison for each projection, in the order of the layer graph.
        totals: Summed costs of the projections.
        tile: Comparison of one matrix-vector multiplication that uses a whole tile.
        ours_leaves_out: Effects that the system model does not cover.
        zigzag_leaves_out: Effects that ZigZag does not cover.
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
    """Compare the cost of each projection (weight matrix) on the digital core by the system model with the cost by ZigZag.

    Projections that are analog in `mapping` are included with the cost that they would have on the core. The result also
    compares one matrix-vector multiplication on an analog tile.

    Args:
        graph: Layer graph of a network with at least one projection.
        mapping: Placements of the projections. The field `totals.digital` of the result sums only the digital projections.
        platform: Hardware platform for which both cost models compute the costs.
        progress: Progress display, with one step for each search by ZigZag.

    Raises:
        ConfigError: The mapping belongs to another network, or the system model has no cost for an operation.
        UnsupportedLayerError: ZigZag finds no valid loop order for a projection.
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
    """Return `ours` divided by `theirs`, or None if `theirs` is 0 because the platform defines no energies."""
    return ours / theirs if theirs else None


def _total(rows: Sequence[LayerComparison]) -> TotalComparison:
    """Return the costs of the projections in `rows`, summed for the system model and for ZigZag, and the ratios of the sums."""
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
    """Return the costs of one matrix-vector multiplication that uses a whole tile, by the system model and by ZigZag.

    The costs by the system model follow from the tile constants of `platform`.
    """
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
