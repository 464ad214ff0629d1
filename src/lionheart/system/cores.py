"""Assignment of a network's layers to cores so that the slowest core is as fast as possible.

The module first computes the work of each layer, including the operations that run after the layer. The module then assigns
the layers to cores. The work of one core is called a stage.
"""

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
from lionheart.system.estimate import NETWORK_IO, LayerCost, OpCost, SystemEstimate, estimate_system
from lionheart.system.inputs import find_partition
from lionheart.system.pipeline import Stage, Step
from lionheart.system.platform import PlatformSpec
from lionheart.system.programming import estimate_programming
from lionheart.system.read_policy import TilePlan
from lionheart.system.work import Residency, digital_projection

_TILE_TIMES = (
    "queue",
    "process",
    "tile_repeated_reads",
    "dequeue",
)  # time components during which the crossbars of a layer are busy
_N_ROUNDS = 4


@final
@dataclass(frozen=True)
class LayerWork:
    """Work of a core for one layer in one inference, including the operations that are scheduled after the layer.

    The work for the first and last layer also includes the network's input and output.

    Args:
        cost: Time and energy of this work in one inference.
        steps: Steps into which the time in `cost` is divided, in the order in which they run. If the core and the tiles
            alternate for each product, the work of the core for all products is combined into one step, which is followed by
            one step for the tiles.
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
    """Return the work of a core for each layer in one inference, by layer name.

    The work of the first layer includes reading the network's input. The work of the last layer includes writing the network's
    output.

    Args:
        graph: Layer graph of the network.
        estimate: Cost estimate of the network for one core.
        mapped: Whether to return the work of the mapped network; False = of the all-digital network.
        crossbars: Indices of the crossbars that each layer uses, by layer name; needed only if layers share crossbars.
        programming: Cost of programming each reprogrammed layer once per inference, by layer name; None = no layer is
            reprogrammed.
    """
    preceding, following = _sort_ops(graph, estimate.other_ops)
    found = {}
    for row in estimate.layers if mapped else estimate.digital_layers:
        fqn, program = row.fqn, (programming or {}).get(row.fqn, Cost())
        parts = _split(row, program)
        around = [cost for _, cost in (*preceding.get(fqn, ()), *following.get(fqn, ()))]
        times = [(kind, cost.latency_s) for kind, cost in preceding.get(fqn, ())] + parts
        times += [(kind, cost.latency_s) for kind, cost in following.get(fqn, ())]
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
    """Return the costs of the operations that run before each layer and after each layer, as two dicts by layer name.

    Each cost is paired with the type of its work. The cost of the network's input is an operation before the first layer, and
    the cost of the network's output is an operation after the last layer.
    """
    first, last = graph.nodes[0], graph.nodes[-1]
    preceding: dict[str, list[tuple[WorkKind, Cost]]] = {}
    following: dict[str, list[tuple[WorkKind, Cost]]] = {}
    written: list[tuple[WorkKind, Cost]] = []
    for op in ops:
        if op.name == NETWORK_IO:
            share = first.n_inputs / (first.n_inputs + last.n_outputs)
            preceding.setdefault(first.fqn, []).insert(0, (WorkKind.NETWORK_IO, scale_cost(op.cost, share)))
            written.append((WorkKind.NETWORK_IO, scale_cost(op.cost, 1 - share)))
        elif op.scheduled_after:
            following.setdefault(op.scheduled_after, []).append((WorkKind.OTHER, op.cost))
        else:
            preceding.setdefault(first.fqn, []).append((WorkKind.OTHER, op.cost))
    following.setdefault(last.fqn, []).extend(written)
    return preceding, following


def _split(row: LayerCost, program: Cost) -> list[tuple[WorkKind, float]]:
    """Return the type and the time [s] of each part of a layer's work.

    An analog layer has three parts: work of the core without tiles, programming of the tiles at the cost `program`, and work of
    the tiles. A digital layer has only one part.
    """
    if row.placement is Placement.DIGITAL:
        return [(WorkKind.DIGITAL, row.latency_s)]
    on_tile = sum(row.cost.time_s.get(name, 0.0) for name in _TILE_TIMES)
    support = sum(value for name, value in row.cost.time_s.items() if name not in _TILE_TIMES)
    return [(WorkKind.SUPPORT, support), (WorkKind.PROGRAM, program.latency_s), (WorkKind.TILE, on_tile)]


def programming_cost(partition: TilePartition, platform: PlatformSpec, tile: TileSpec | None = None) -> Cost:
    """Return the cost of programming the tiles of one layer once.

    The cost does not include the leakage of the last-level cache, which `pipeline_energy` computes for the total
    time of all inferences.

    Args:
        partition: Tiles of the layer.
        platform: Platform that gives the times and energies of the programming.
        tile: Device, converters and read policy of the tiles; None = PCM devices, with the platform's converters.

    Raises:
        ConfigError: The platform has no programming constants for the tile's devices.
    """
    found = estimate_programming({"": partition}, platform, tile)
    if found.reason_unknown:
        raise ConfigError(
            f"reprogram: {found.reason_unknown}",
            hint="add these tables to a platform file, or switch off reprogramming: layers without tiles then stay digital",
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
    """Assign consecutive layers to cores so that the slowest core is as fast as possible.

    All layers of a loop, in which a later layer feeds an earlier layer, are assigned to the same core. If there are several
    cores, each core additionally needs the time `handover_s`. An additional core is used only if the slowest core is then
    faster, including the time `handover_s`.

    Args:
        graph: Layer graph of the network.
        costs: Cost of each layer and the operations that follow it, by layer name.
        n_cores: Number of available cores.
        handover_s: Time that a core needs to hand its result over to the next core [s].

    Returns:
        Names of the layers of each core that is used, in the order of the network.

    Raises:
        ConfigError: `n_cores` is below 1.
    """
    if n_cores < 1:
        raise ConfigError(f"cores: got {n_cores}, expected at least one", hint="set the number of cores to 1 or more")
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
    """Return the layers in the order of the network, divided into blocks that must each stay on one core.

    A loop is a part of the network in which a later layer feeds an earlier layer. The layers of a loop form one block. Every
    other layer is a block by itself.
    """
    place = {fqn: index for index, fqn in enumerate(graph.fqns)}
    until = list(range(len(place)))  # index of the last layer of the loop that starts at each layer
    for producer, consumer in graph.edges:
        if place[consumer] < place[producer]:
            until[place[consumer]] = max(until[place[consumer]], place[producer])
    blocks: list[tuple[str, ...]] = []
    first = reach = 0
    for index, end in enumerate(until):
        reach = max(reach, end)
        if reach == index:
            blocks.append(graph.fqns[first : index + 1])
            first = reach = index + 1
    return blocks


def _add_stage(slowest: Sequence[float], ends: Sequence[float]) -> tuple[list[float], list[int]]:
    """Compute the fastest division of the first 1, 2, ... blocks among cores if one more core is available.

    A block is a group of consecutive layers that stay on one core. The new core runs the last blocks of each division. If its
    first block is later in the network, the time of the new core is shorter and the time of the slowest earlier core is longer.
    The division is therefore fastest where the two times are most similar.

    Args:
        slowest: Time of the slowest core without the new core, by index of the last block [s].
        ends: Total time of all blocks up to and including each block, by index of the block [s].

    Returns:
        Time of the slowest core with the new core [s], and index of the first block on the new core, which is one more than the
        last block if the new core stays unused. Both lists are indexed by the last block of the division.
    """
    found, cuts = [], []
    for end, total in enumerate(ends):
        meet = bisect.bisect_left(range(end), 0.0, key=lambda cut: slowest[cut] - (total - ends[cut]))
        options = [(max(slowest[cut], total - ends[cut]), cut + 1) for cut in (meet - 1, meet) if 0 <= cut < end]
        value, first = min([*options, (slowest[end], end + 1)])  # the last option leaves the new core without layers
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
    tile: TileSpec | TilePlan | None = None,
) -> tuple[Stage, ...]:
    """Return the stages of a mapped network on at most `n_cores` cores. A stage is the work of one core.

    A stage is named after its first and last layer. The time of a digital layer depends on the weights that other cores read
    through the shared cache, and therefore on the assignment of layers to cores. Assignment and times are recomputed for up to
    four rounds, and the stages whose slowest core is fastest are returned.

    Args:
        graph: Layer graph of the network.
        mapping: Placement of each projection (weight matrix).
        platform: Cores, memory and tiles.
        n_cores: Number of available cores.
        partitions: Tiles of the analog projections, by name; None = computed from the platform's tile.
        fit: Crossbars of each layer, and layers that are reprogrammed in every inference; None = no crossbar is shared and no
            layer is reprogrammed.
        tile: Device, converters and read policies of the tiles; None = PCM devices, with the platform's converters.

    Raises:
        ConfigError: `n_cores` is below 1 or above the number of cores of the platform, the mapping belongs to another network,
            `partitions` has no entry for an analog projection, or an operation or the programming has no known cost.
        TilingError: A partition does not match the shape of its projection.
    """
    if n_cores > platform.n_cores:
        raise ConfigError(
            f"cores: got {n_cores}, expected at most the {platform.n_cores} of platform {platform.name!r}",
            hint="use fewer cores, or a platform file with a larger n_cores",
        )
    plan = TilePlan.of(tile).follow(mapping, platform)
    estimate = estimate_system(graph, mapping, platform, partitions, tile=plan)
    crossbars, programming = fit.crossbars if fit else {}, {}
    for fqn in fit.reprogrammed if fit else ():
        own = plan.find(fqn)
        programming[fqn] = programming_cost(find_partition(graph[fqn], platform, partitions, own), platform, own)
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
    """Return the stage (work of one core) that runs `layers` one after another, from the `work` of each layer by name."""
    name = layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
    steps = itertools.chain.from_iterable(work[fqn].steps for fqn in layers)
    return Stage(name, add_costs(work[fqn].cost for fqn in layers), steps=tuple(steps))


def list_layers(stage: Stage) -> list[str]:
    """Return the names of the layers in a stage, without layers that take no time."""
    return list(dict.fromkeys(step.layer for step in stage.steps))


def _slowest_s(stages: Sequence[Stage], handover_s: float) -> float:
    return max(stage.cost.latency_s for stage in stages) + (handover_s if len(stages) > 1 else 0.0)


def share_cache(
    estimate: SystemEstimate, graph: LayerGraph, platform: PlatformSpec, cores: Sequence[Sequence[str]]
) -> SystemEstimate:
    """Return a copy of `estimate` with the costs that digital layers have if several cores share the last-level cache.

    A weight matrix that a layer reads repeatedly shares the cache with the largest such matrix of each other core. The fraction
    of these matrices that does not fit in the cache is read from DRAM.

    Args:
        estimate: Cost estimate of the network for one core.
        graph: Layer graph of the network.
        platform: Cores and memory.
        cores: Names of the layers of each core.
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
            other_bytes = sum(largest) - largest[core_of[row.fqn]]
            own = Residency(resident, graph[row.fqn].weights * size + other_bytes)
            row = replace(row, cost=price_work(digital_projection(graph[row.fqn], platform, own), platform))
        rows.append(row)
    return replace(estimate, layers=tuple(rows))
