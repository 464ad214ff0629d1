"""Which layers run on which core: what each layer takes with the operations after it, and stages that are in balance."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import TilePartition
from lionheart.runs.costs import WorkKind
from lionheart.system.allocation import TileFit
from lionheart.system.cost import Cost, add_costs, price_work, scale_cost
from lionheart.system.estimate import NETWORK_IO, LayerCost, OpCost, SystemEstimate, estimate_system, find_partition
from lionheart.system.pipeline import Stage, Step
from lionheart.system.platform import PlatformSpec
from lionheart.system.programming import estimate_programming
from lionheart.system.work import Residency, digital_projection

_TILE_TIMES = ("queue", "process", "dequeue")  # while the crossbars of a layer are busy
_N_ROUNDS = 4


@final
@dataclass(frozen=True)
class LayerWork:
    """What a core does for one layer: its products, the operations after it, the network's input and output.

    Args:
        cost: Of one inference.
        steps: The same time in order; what alternates with the tiles for each product stands before them in one piece.
    """

    cost: Cost
    steps: tuple[Step, ...]


def list_layer_work(
    graph: LayerGraph,
    estimate: SystemEstimate,
    *,
    mapped: bool = True,
    crossbars: Mapping[str, tuple[int, ...]] | None = None,
    programming: Mapping[str, Cost] | None = None,
) -> dict[str, LayerWork]:
    """Return the work of each layer. The first one reads the network's input, the last one writes its output.

    Args:
        graph: The network.
        estimate: Its price.
        mapped: As mapped, or all digital.
        crossbars: Layer -> the crossbars that it uses, where some are shared.
        programming: Layer -> what programming it for each inference costs.
    """
    before, after = _sort_ops(graph, estimate.other_ops)
    found = {}
    for row in estimate.layers if mapped else estimate.digital_layers:
        fqn, program = row.fqn, (programming or {}).get(row.fqn, Cost())
        parts = _split(row, program)
        around = [cost for _, cost in (*before.get(fqn, ()), *after.get(fqn, ()))]
        times = [(kind, cost.latency_s) for kind, cost in before.get(fqn, ())] + parts
        times += [(kind, cost.latency_s) for kind, cost in after.get(fqn, ())]
        steps = []
        for kind, group in itertools.groupby(times, key=lambda part: part[0]):
            is_on_tile = kind in (WorkKind.TILE, WorkKind.PROGRAM)
            held = (crossbars or {}).get(fqn, ()) if is_on_tile else ()
            steps.append(Step(fqn, kind, sum(duration_s for _, duration_s in group), held))
        cost = add_costs([row.cost, program, *around])
        found[fqn] = LayerWork(cost, tuple(step for step in steps if step.duration_s > 0))
    return found


def _sort_ops(
    graph: LayerGraph, ops: Iterable[OpCost]
) -> tuple[dict[str, list[tuple[WorkKind, Cost]]], dict[str, list[tuple[WorkKind, Cost]]]]:
    """Return the costs of operations by the layer that they come before, and by the one that they come after."""
    first, last = graph.nodes[0], graph.nodes[-1]
    before: dict[str, list[tuple[WorkKind, Cost]]] = {}
    after: dict[str, list[tuple[WorkKind, Cost]]] = {}
    written: list[tuple[WorkKind, Cost]] = []
    for op in ops:
        if op.name == NETWORK_IO:
            share = first.n_inputs / (first.n_inputs + last.n_outputs)
            before.setdefault(first.fqn, []).insert(0, (WorkKind.NETWORK_IO, scale_cost(op.cost, share)))
            written.append((WorkKind.NETWORK_IO, scale_cost(op.cost, 1 - share)))
        elif op.scheduled_after:
            after.setdefault(op.scheduled_after, []).append((WorkKind.OTHER, op.cost))
        else:
            before.setdefault(first.fqn, []).append((WorkKind.OTHER, op.cost))
    after.setdefault(last.fqn, []).extend(written)
    return before, after


def _split(row: LayerCost, program: Cost) -> list[tuple[WorkKind, float]]:
    """Return the times of a layer's own work: what the core does alone, programming, and what keeps crossbars busy."""
    if row.placement is Placement.DIGITAL:
        return [(WorkKind.DIGITAL, row.latency_s)]
    on_tile = sum(row.cost.time_s.get(name, 0.0) for name in _TILE_TIMES)
    support = sum(value for name, value in row.cost.time_s.items() if name not in _TILE_TIMES)
    return [(WorkKind.SUPPORT, support), (WorkKind.PROGRAM, program.latency_s), (WorkKind.TILE, on_tile)]


def programming_cost(partition: TilePartition, platform: PlatformSpec, tile: TileSpec | None = None) -> Cost:
    """Return what programming a layer once costs; the leakage of the cache is that of the whole run.

    Raises:
        ConfigError: The platform has no number for the tile's devices.
    """
    found = estimate_programming({"": partition}, platform, tile)
    if found.reason_unknown:
        raise ConfigError(
            f"reprogram: {found.reason_unknown}", hint="without reprogramming layers stay digital instead"
        )
    energy = {"programming": 0.0}
    for name, joules in found.energy.items():
        part = name if name in ("core_wait", "dram") else "programming"
        if name != "llc_leakage":
            energy[part] = energy.get(part, 0.0) + joules
    n_weights = sum(partition.row_sizes) * sum(partition.col_sizes) * partition.groups
    return Cost({"programming": found.duration_s}, energy, n_weights * platform.activation_bytes)


# --- stages ---


def assign_cores(
    graph: LayerGraph, costs: Mapping[str, Cost], n_cores: int, *, handover_s: float = 0.0
) -> tuple[tuple[str, ...], ...]:
    """Return the layers of each core, such that the slowest core is as fast as it can be.

    Each core runs layers that follow one another. Layers of a loop, where a later one feeds an earlier one, stay together. No
    more cores are used than help; `handover_s` is what each of several pays.

    Args:
        graph: The network.
        costs: Layer -> what it takes with the operations after it.
        n_cores: Cores there are.
        handover_s: Time of a handover [s].

    Raises:
        ConfigError: There is no core.
    """
    if n_cores < 1:
        raise ConfigError(f"cores: got {n_cores}, expected at least one", hint="give at least one core")
    blocks = _find_blocks(graph)
    ends = list(itertools.accumulate(sum(costs[fqn].latency_s for fqn in block) for block in blocks))
    slowest, cuts = ends, [[0] * len(ends)]
    best_s, n_best = ends[-1], 1
    for n_stages in range(2, min(n_cores, len(blocks)) + 1):
        slowest, cut = _add_stage(slowest, ends)
        cuts.append(cut)
        if slowest[-1] + handover_s < best_s:
            best_s, n_best = slowest[-1] + handover_s, n_stages
    stages: list[tuple[str, ...]] = []
    end = len(blocks)
    for cut in reversed(cuts[:n_best]):
        first = cut[end - 1]
        stages.insert(0, tuple(itertools.chain.from_iterable(blocks[first:end])))
        end = first
    return tuple(layers for layers in stages if layers)


def _find_blocks(graph: LayerGraph) -> list[tuple[str, ...]]:
    """Return the layers in order, those of a loop together."""
    place = {fqn: index for index, fqn in enumerate(graph.fqns)}
    until = list(range(len(place)))  # how far the loop reaches that starts at a layer
    for maker, reader in graph.edges:
        if place[reader] < place[maker]:
            until[place[reader]] = max(until[place[reader]], place[maker])
    blocks: list[tuple[str, ...]] = []
    first = reach = 0
    for index, end in enumerate(until):
        reach = max(reach, end)
        if reach == index:
            blocks.append(graph.fqns[first : index + 1])
            first = reach = index + 1
    return blocks


def _add_stage(slowest: Sequence[float], ends: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return the slowest stage of blocks up to each one with one more core than `slowest` has, and where that core begins.

    The slowest of the others grows with the blocks before the cut and the last stage shrinks, so the best cut is where they
    meet.
    """
    found, cuts = [], []
    for end, total in enumerate(ends):
        meet = bisect.bisect_left(range(end), 0.0, key=lambda cut: slowest[cut] - (total - ends[cut]))
        options = [(max(slowest[cut], total - ends[cut]), cut + 1) for cut in (meet - 1, meet) if 0 <= cut < end]
        value, first = min([*options, (slowest[end], end + 1)])  # or no layer on the new core
        found.append(value)
        cuts.append(first)
    return found, cuts


# --- the whole plan ---


def plan_stages(
    graph: LayerGraph,
    mapping: LayerMapping,
    platform: PlatformSpec,
    n_cores: int,
    partitions: Mapping[str, TilePartition] | None = None,
    *,
    fit: TileFit | None = None,
    tile: TileSpec | None = None,
) -> tuple[Stage, ...]:
    """Return the stages of a mapped network on at most `n_cores` cores, a stage a core, named by their first layer.

    What a digital layer takes depends on what the other cores read through the shared cache meanwhile, and so on the stages;
    a few rounds of both are made and the best is kept.

    Args:
        graph: The network.
        mapping: A placement for each projection.
        platform: Cores, memory and tiles.
        n_cores: Cores there are.
        partitions: Tiles of the analog projections; computed from the platform's tile if not given.
        fit: Which crossbars they share, and which are programmed again; None = no crossbar is shared.
        tile: Its converters and device.

    Raises:
        ConfigError: The platform has fewer cores, or as for `estimate_system`.
    """
    if n_cores > platform.n_cores:
        raise ConfigError(
            f"cores: got {n_cores}, expected at most the {platform.n_cores} of {platform.name}",
            hint="give fewer, or a platform file with more",
        )
    estimate = estimate_system(graph, mapping, platform, partitions, tile=tile)
    crossbars, programming = fit.crossbars if fit else {}, {}
    for fqn in fit.reprogrammed if fit else ():
        programming[fqn] = programming_cost(find_partition(graph[fqn], platform, partitions), platform, tile)
    handover_s = platform.handover_cycles / platform.clock_hz
    work = list_layer_work(graph, estimate, crossbars=crossbars, programming=programming)
    best: tuple[Stage, ...] = ()
    tried: set[tuple[tuple[str, ...], ...]] = set()
    for _ in range(_N_ROUNDS):
        cores = assign_cores(graph, {fqn: each.cost for fqn, each in work.items()}, n_cores, handover_s=handover_s)
        if cores in tried:
            break
        tried.add(cores)
        shared = share_cache(estimate, graph, platform, cores)
        work = list_layer_work(graph, shared, crossbars=crossbars, programming=programming)
        stages = tuple(make_stage(layers, work) for layers in cores)
        if not best or _slowest_s(stages, handover_s) < _slowest_s(best, handover_s):
            best = stages
    return best


def make_stage(layers: Sequence[str], work: Mapping[str, LayerWork]) -> Stage:
    """Return the stage of one core that runs `layers` one after another."""
    name = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    steps = itertools.chain.from_iterable(work[fqn].steps for fqn in layers)
    return Stage(name, add_costs(work[fqn].cost for fqn in layers), steps=tuple(steps))


def list_layers(stage: Stage) -> list[str]:
    """Return the layers of a stage that take any time."""
    return list(dict.fromkeys(step.layer for step in stage.steps))


def _slowest_s(stages: Sequence[Stage], handover_s: float) -> float:
    return max(stage.cost.latency_s for stage in stages) + (handover_s if len(stages) > 1 else 0.0)


def share_cache(
    estimate: SystemEstimate, graph: LayerGraph, platform: PlatformSpec, cores: Sequence[Sequence[str]]
) -> SystemEstimate:
    """Return the estimate with digital layers as they run beside those of other cores, of which the largest is assumed.

    A matrix that is read again and again stays in the last-level cache only as far as those of the other cores leave room.
    """
    size = platform.activation_bytes
    bytes_read = {
        row.fqn: graph[row.fqn].weights * size
        for row in estimate.layers
        if row.placement is Placement.DIGITAL and graph[row.fqn].n_mvms > 1
    }
    largest = [max((bytes_read.get(fqn, 0) for fqn in layers), default=0) for layers in cores]
    core_of = {fqn: core for core, layers in enumerate(cores) for fqn in layers}
    resident = sum(graph[row.fqn].weights for row in estimate.layers if row.placement is Placement.DIGITAL) * size
    rows = []
    for row in estimate.layers:
        if row.placement is Placement.DIGITAL:
            beside = sum(largest) - largest[core_of[row.fqn]]
            own = Residency(resident, graph[row.fqn].weights * size + beside)
            row = replace(row, cost=price_work(digital_projection(graph[row.fqn], platform, own), platform))
        rows.append(row)
    return replace(estimate, layers=tuple(rows))
