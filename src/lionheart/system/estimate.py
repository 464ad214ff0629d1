"""Time and energy of one inference of a mapped network on a platform, compared with the all-digital network."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import final

from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import TilePartition
from lionheart.runs.costs import CostRecord, LayerCostRecord, OpCostRecord, PolicyCostRecord, SystemRecord
from lionheart.runs.tables import describe_policies, describe_programming, tabulate_policies, tabulate_systems
from lionheart.system.assumptions import (
    ASSUMPTIONS,
    CONTROLLER_COUNTED,
    CONTROLLER_LEFT_OUT,
    COUNTED,
    NOT_COUNTED,
    list_policy_assumptions,
)
from lionheart.system.cost import Cost, add_costs, price_work
from lionheart.system.inputs import check_mapping, find_partition
from lionheart.system.platform import PlatformSpec, load_platform
from lionheart.system.programming import ProgrammingEstimate, estimate_programming
from lionheart.system.read_policy import FittedPolicy, TilePlan, without_policy
from lionheart.system.work import Residency, analog_projection, digital_projection, element_op, has_price, network_io
from lionheart.tables import Block, Printable, Table
from lionheart.units import format_si

NETWORK_IO = "network input and output"


@final
@dataclass(frozen=True)
class LayerCost:
    """Cost of one projection (weight matrix) in one inference.

    Args:
        fqn: Fully qualified name of the projection.
        placement: Whether the products of the projection are analog or digital.
        cost: Time and energy by component.
        n_tiles: Number of tiles that hold the weight matrix; 0 if the projection is digital.
        policy: Read policy and its cost; None if the projection is digital or has the default policy.
    """

    fqn: str
    placement: Placement
    cost: Cost
    n_tiles: int = 0
    policy: PolicyCostRecord | None = None

    @property
    def latency_s(self) -> float:
        """Time of the projection in one inference [s]."""
        return self.cost.latency_s

    @property
    def energy_j(self) -> float:
        """Energy of the projection in one inference [J]."""
        return self.cost.energy_j


@final
@dataclass(frozen=True)
class OpCost:
    """Cost of an operation in one inference. The operation has no weight matrix and runs on the digital core.

    The cost covers all calls of the operation that are scheduled after the same projection (weight matrix). The cost does not
    depend on the mapping.

    Args:
        name: Name of the operation.
        cost: Time and energy by component.
        reason_free: Reason why the operation costs nothing; empty if the operation has a cost.
        scheduled_after: Name of the projection after which the operation runs, on the same core; empty = on the core of the
            first projection.
    """

    name: str
    cost: Cost
    reason_free: str = ""
    scheduled_after: str = ""


@final
@dataclass(frozen=True)
class SystemEstimate(Printable):
    """Time and energy of one inference of the mapped network and of the all-digital network.

    Args:
        platform: Name of the platform.
        clock_hz: Clock frequency of the core [Hz].
        layers: Cost of each projection (weight matrix) in the mapped network, in the order of the network.
        digital_layers: Cost of each projection in the all-digital network, in the same order.
        other_ops: Cost of each operation without a weight matrix, the same for both networks.
        counted: Descriptions of the costs that are included in the numbers.
        not_counted: Descriptions of the costs that are not included in the numbers.
        assumptions: Assumptions behind the numbers.
        programming_once: Cost of programming the tiles once; None = not estimated.
        n_tiles_there: Number of tiles of the platform; None = as many as the mapping needs.
        notes: Remarks about this estimate.
    """

    platform: str
    clock_hz: float
    layers: tuple[LayerCost, ...]
    digital_layers: tuple[LayerCost, ...]
    other_ops: tuple[OpCost, ...]
    counted: tuple[str, ...]
    not_counted: tuple[str, ...]
    assumptions: tuple[str, ...]
    programming_once: ProgrammingEstimate | None = None
    n_tiles_there: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def mapped(self) -> Cost:
        """Total time and energy of one inference of the mapped network, by component."""
        return _total(self.layers, self.other_ops)

    @cached_property
    def all_digital(self) -> Cost:
        """Total time and energy of one inference of the all-digital network, by component."""
        return _total(self.digital_layers, self.other_ops)

    @property
    def speedup(self) -> float:
        """Time of the all-digital network divided by the time of the mapped network [-]."""
        return self.all_digital.latency_s / self.mapped.latency_s

    @property
    def energy_gain(self) -> float:
        """Energy of the all-digital network divided by the energy of the mapped network [-]."""
        return self.all_digital.energy_j / self.mapped.energy_j

    @property
    def n_tiles(self) -> int:
        """Number of tiles that the mapped network uses."""
        return sum(row.n_tiles for row in self.layers)

    @cached_property
    def programming(self) -> ProgrammingEstimate | None:
        """Cost of programming the tiles once, and the time and energy that the mapping saves in each inference.

        None if the programming cost was not estimated.
        """
        digital, mapped = self.all_digital, self.mapped
        saved_s, saved_j = digital.latency_s - mapped.latency_s, digital.energy_j - mapped.energy_j
        return self.programming_once and replace(self.programming_once, saved_s=saved_s, saved_j=saved_j)

    @property
    def tiles_missing(self) -> int:
        """Number of tiles that the mapping needs in addition to those of the platform; 0 if the platform has enough tiles."""
        return 0 if self.n_tiles_there is None else max(self.n_tiles - self.n_tiles_there, 0)

    def to_blocks(self) -> list[Block]:
        """Return the estimate as text blocks and tables for the terminal.

        The blocks show the totals, the programming cost, the time and energy of each projection and other operation, and read
        policies that are not default.
        """
        record = self.summary()
        rows = [_show_layer(row) for row in record.layers]
        rows += [(op.name, "core", "", *[format_si(op.latency_s, "s")] * 2, *[format_si(op.energy_j, "J")] * 2)
                 for op in record.other_ops or ()]  # fmt: skip
        sizes = [row.digital_latency_s for row in record.layers] + [op.latency_s for op in record.other_ops or ()]
        policy_table = tabulate_policies(record)
        policies: list[Block] = [] if policy_table is None else [describe_policies(record), policy_table]
        columns = ("operation", "runs", "tiles", "time", "digital", "energy", "digital ")
        return [
            "one inference on one core, digital network and mapping",
            tabulate_systems([record]),
            *describe_programming(self.platform, record.programming, self.tiles_missing)[:2],
            Table(columns, tuple(rows), right=columns[2:], sizes=tuple(sizes)),
            *policies,
            *self.notes[:2],
        ]

    def summary(self) -> SystemRecord:
        """Return the estimate as a record for result files."""
        rows = zip(self.layers, self.digital_layers, strict=True)
        return SystemRecord(
            platform=self.platform,
            clock_hz=self.clock_hz,
            counted=self.counted,
            not_counted=self.not_counted,
            assumptions=self.assumptions,
            all_digital=_summarise_cost(self.all_digital),
            mapped=_summarise_cost(self.mapped),
            speedup=self.speedup,
            energy_gain=self.energy_gain,
            n_tiles=self.n_tiles,
            tiles_missing=self.tiles_missing,
            programming=None if self.programming is None else self.programming.summary(),
            layers=tuple(_summarise_layer(row, digital) for row, digital in rows),
            other_ops=tuple(_summarise_op(row) for row in _sum_by_name(self.other_ops)),
        )


def _show_layer(row: LayerCostRecord) -> tuple[str, ...]:
    return (
        row.fqn,
        str(row.placement),
        str(row.n_tiles) if row.n_tiles else "",
        format_si(row.latency_s, "s"),
        format_si(row.digital_latency_s, "s"),
        format_si(row.energy_j, "J"),
        format_si(row.digital_energy_j, "J"),
    )


def _summarise_cost(cost: Cost) -> CostRecord:
    return CostRecord(
        latency_s=cost.latency_s,
        energy_j=cost.energy_j,
        time_breakdown_s=dict(cost.time_s),
        energy_breakdown_j=dict(cost.energy),
    )


def _summarise_layer(row: LayerCost, digital: LayerCost) -> LayerCostRecord:
    return LayerCostRecord(
        fqn=row.fqn,
        placement=row.placement,
        latency_s=row.latency_s,
        energy_j=row.energy_j,
        time_breakdown_s=dict(row.cost.time_s),
        energy_breakdown_j=dict(row.cost.energy),
        n_tiles=row.n_tiles,
        policy=row.policy,
        digital_latency_s=digital.latency_s,
        digital_energy_j=digital.energy_j,
    )


def _summarise_op(row: OpCost) -> OpCostRecord:
    return OpCostRecord(
        name=row.name, latency_s=row.cost.latency_s, energy_j=row.cost.energy_j, reason_free=row.reason_free
    )


def _sum_by_name(ops: Iterable[OpCost]) -> list[OpCost]:
    rows: dict[str, OpCost] = {}
    for op in ops:
        before = [rows[op.name].cost] if op.name in rows else []
        rows[op.name] = OpCost(op.name, add_costs([*before, op.cost]), op.reason_free)
    return list(rows.values())


def _total(layers: Iterable[LayerCost], ops: Iterable[OpCost]) -> Cost:
    return add_costs([*(row.cost for row in layers), *(row.cost for row in ops)])


def estimate_system(
    graph: LayerGraph,
    mapping: LayerMapping,
    platform: PlatformSpec | str,
    partitions: Mapping[str, TilePartition] | None = None,
    *,
    count_memory_controller: bool = False,
    skip_unpriced: bool = False,
    concurrent: Collection[str] = (),
    tile: TileSpec | TilePlan | None = None,
) -> SystemEstimate:
    """Estimate the time and energy of one inference on one core with tiles, for a mapping and for the all-digital network.

    Args:
        graph: Layer graph of the network, with the work of one inference (batch size 1).
        mapping: Placement of each projection (weight matrix) of `graph`.
        platform: Core, memory, tiles and cost coefficients.
        partitions: Tiles of the analog projections, by name; None = computed from the size of `tile`, or of the platform's tile
            if `tile` is None.
        count_memory_controller: Whether to add the energy of the memory controller and IO, which is their power times the time
            of the inference.
        skip_unpriced: Whether to leave operations for which the platform has no cost out of the totals instead of raising an
            error.
        concurrent: Names of projections that run at the same time, on cores that share the last-level cache.
        tile: Tile that gives the device, the converters and the read policy, and the tile size if `partitions` is None; a
            `TilePlan` gives the tile of each projection; None = the platform's tile with PCM devices.

    Raises:
        ConfigError: The mapping belongs to another network, `partitions` has no entry for an analog projection, or the
            platform has no cost for an operation and `skip_unpriced` is False.
        TilingError: A partition does not match the shape of its projection.
    """
    check_mapping(graph, mapping)
    platform = load_platform(platform)
    if skip_unpriced:
        graph = leave_out_unpriced(graph, platform)
    ops = price_other_ops(graph, platform, count_memory_controller=count_memory_controller)
    plan = TilePlan.of(tile).follow(mapping, platform)
    chosen = {fqn: find_partition(graph[fqn], platform, partitions, plan.find(fqn)) for fqn in mapping.analog}
    layers = _price_layers(graph, chosen, platform, count_memory_controller, concurrent, plan)
    return SystemEstimate(
        platform=platform.name,
        clock_hz=platform.clock_hz,
        layers=layers,
        digital_layers=_price_layers(graph, {}, platform, count_memory_controller, concurrent),
        other_ops=ops,
        counted=COUNTED + ((CONTROLLER_COUNTED,) if count_memory_controller else ()),
        not_counted=NOT_COUNTED + (() if count_memory_controller else (CONTROLLER_LEFT_OUT,)),
        assumptions=ASSUMPTIONS + list_policy_assumptions(platform, any(row.policy for row in layers)),
        programming_once=estimate_programming(chosen, platform, plan),
        n_tiles_there=platform.n_tiles,
    )


def leave_out_unpriced(graph: LayerGraph, platform: PlatformSpec) -> LayerGraph:
    """Return a copy of the graph without the operations for which the platform gives no cost."""
    return replace(graph, other_ops=tuple(op for op in graph.other_ops if has_price(op, platform)))


def price_other_ops(
    graph: LayerGraph, platform: PlatformSpec, *, count_memory_controller: bool = False
) -> tuple[OpCost, ...]:
    """Return the costs of all operations without a weight matrix, and of the network's input and output.

    These costs are equal in every mapping.

    Raises:
        ConfigError: The platform has no cost for an operation.
    """
    ops = []
    for op in graph.other_ops:
        work, reason = element_op(op, platform)
        cost = price_work(work, platform, count_memory_controller=count_memory_controller)
        ops.append(OpCost(op.name, cost, reason, op.scheduled_after))
    if graph.nodes:
        work = network_io(graph.nodes[0].n_inputs + graph.nodes[-1].n_outputs, platform)
        ops.append(OpCost(NETWORK_IO, price_work(work, platform, count_memory_controller=count_memory_controller)))
    return tuple(ops)


def _price_layers(
    graph: LayerGraph,
    partitions: Mapping[str, TilePartition],
    platform: PlatformSpec,
    count_memory_controller: bool,
    concurrent: Collection[str],
    plan: TilePlan | None = None,
) -> tuple[LayerCost, ...]:
    """Return the cost of every projection (weight matrix), in the order of the network.

    Projections named in `partitions` run on tiles, all other projections run on the core. Projections named in `concurrent` run
    at the same time and share the last-level cache.
    """
    rows = []
    size = platform.activation_bytes
    digital = [node for node in graph.nodes if node.fqn not in partitions]
    resident = sum(node.weights for node in digital) * size
    together = sum(node.weights for node in digital if node.fqn in concurrent and node.n_mvms > 1) * size
    price = partial(price_work, platform=platform, count_memory_controller=count_memory_controller)
    for node in graph.nodes:
        partition, tile = partitions.get(node.fqn), plan and plan.find(node.fqn)
        if partition is None:
            own = together if node.fqn in concurrent else node.weights * size
            cost = price(digital_projection(node, platform, Residency(resident, own)))
            rows.append(LayerCost(node.fqn, Placement.DIGITAL, cost))
        else:
            cost = price(analog_projection(node, partition, platform, tile))
            policy = FittedPolicy.of(tile, partition)
            extra = None
            if not policy.is_default:
                plain = price(analog_projection(node, partition, platform, without_policy(tile)))
                extra = _compare_policy(policy, cost, plain)
            rows.append(LayerCost(node.fqn, Placement.ANALOG, cost, partition.n_tiles, extra))
    return tuple(rows)


def _compare_policy(policy: FittedPolicy, cost: Cost, plain: Cost) -> PolicyCostRecord:
    """Return what a read policy costs: the `cost` of the projection minus its cost `plain` with the default policy."""
    return PolicyCostRecord(
        policy=policy.describe(),
        latency_s=cost.latency_s - plain.latency_s,
        energy_j=cost.energy_j - plain.energy_j,
        reads_j=cost.reads_j,
    )
