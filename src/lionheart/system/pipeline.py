"""Pipelines over several cores: their stages, and time and energy of a number of inferences in closed form.

`lionheart.system.schedule` simulates the same stages, including tiles that several stages share; `lionheart.system.cores`
creates the stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.errors import ConfigError
from lionheart.runs.costs import WorkKind
from lionheart.system.cost import Cost, add_costs
from lionheart.system.platform import PlatformSpec

_PER_TIME = ("llc_leakage", "memory_controller", "core_idle")  # components of the whole run, not of a stage


@final
@dataclass(frozen=True)
class Step:
    """Uninterrupted work of one core.

    Args:
        layer: Name of the projection that the work belongs to.
        kind: Type of work.
        duration_s: Duration in each inference [s].
        crossbars: Indices of the crossbars that are busy during the step and serve no other step.
    """

    layer: str
    kind: WorkKind
    duration_s: float
    crossbars: tuple[int, ...] = ()


@final
@dataclass(frozen=True)
class Stage:
    """Work of one core, or of several cores in parallel, for each inference.

    Args:
        name: Name in results.
        cost: Cost of one inference on one of the cores.
        n_cores: Number of cores that work in parallel, each on a part.
        n_handovers: Number of handovers in each inference for which the cores wait.
        steps: The same time as a sequence of steps, for a simulation; empty = one step without tiles.
    """

    name: str
    cost: Cost
    n_cores: int = 1
    n_handovers: int = 1
    steps: tuple[Step, ...] = ()


@final
@dataclass(frozen=True)
class PipelineEstimate:
    """Time and energy of consecutive inferences in a pipeline; a stage starts the next inference as soon as it is free.

    Args:
        stages: Stages in the order in which an inference passes them.
        n_inferences: Number of inferences.
        stage_s: Time of each stage in one inference, including its handovers [s].
        total_s: Time until the last inference ends [s].
        energy: Energy of each component for all inferences [J].
    """

    stages: tuple[Stage, ...]
    n_inferences: int
    stage_s: tuple[float, ...]
    total_s: float
    energy: Mapping[str, float]

    @property
    def latency_s(self) -> float:
        """Time of the first inference [s]."""
        return sum(self.stage_s)

    @property
    def interval_s(self) -> float:
        """Time from one result to the next once the pipeline is full [s]."""
        return max(self.stage_s)

    @cached_property
    def energy_j(self) -> float:
        """Energy of all inferences [J]."""
        return sum(self.energy.values())


def estimate_pipeline(
    stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int = 1, *, count_memory_controller: bool = False
) -> PipelineEstimate:
    """Return time and energy of `n_inferences` that pass `stages` one after another.

    ``total = sum(stage) + (n - 1) * max(stage)``, but at least the time of the DRAM traffic of all cores. The equation is exact
    for stages that take the same time in every inference and never fill their queue. A handover takes ``handover_cycles``, in
    which the cores are idle; a single stage on one core has no handover. The last-level cache leaks over the whole run.

    Args:
        stages: Stages of the pipeline, at least one.
        platform: Cores and memory.
        n_inferences: Number of inferences, at least 1.
        count_memory_controller: Whether the energy includes the power of memory controller and IO over the whole time.

    Raises:
        ConfigError: There is no stage, no inference, or the stages need more cores than the platform has.
    """
    check_pipeline(stages, platform, n_inferences)
    handover_s = handover_time_s(stages, platform)
    times = tuple(stage.cost.latency_s + stage.n_handovers * handover_s for stage in stages)
    total_s = max(sum(times) + (n_inferences - 1) * max(times), dram_time_s(stages, platform, n_inferences))
    energy = pipeline_energy(stages, platform, n_inferences, total_s, count_memory_controller=count_memory_controller)
    return PipelineEstimate(tuple(stages), n_inferences, times, total_s, energy)


def check_pipeline(stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int) -> None:
    """Check that a pipeline has stages and inferences, and that the platform has enough cores.

    Raises:
        ConfigError: There is no stage, no inference, or the stages need more cores than the platform has.
    """
    n_cores = sum(stage.n_cores for stage in stages)
    if not stages or n_inferences < 1:
        raise ConfigError(
            f"pipeline: got {len(stages)} stages and {n_inferences} inferences, expected at least one of each",
            hint="give at least one stage, and set the number of inferences to 1 or more",
        )
    if n_cores > platform.n_cores:
        raise ConfigError(
            f"pipeline: got {n_cores} cores, expected at most the {platform.n_cores} of {platform.name}",
            hint="assign several layers to one core",
        )


def handover_time_s(stages: Sequence[Stage], platform: PlatformSpec) -> float:
    """Return the time of one handover [s]; 0 for a single core."""
    return platform.handover_cycles / platform.clock_hz if sum(stage.n_cores for stage in stages) > 1 else 0.0


def dram_time_s(stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int) -> float:
    """Return the shortest time in which the DRAM can transfer the traffic of all cores [s]."""
    n_bytes = sum(stage.n_cores * stage.cost.dram_bytes for stage in stages)
    return n_inferences * n_bytes / platform.dram_bandwidth_bytes_per_s


def pipeline_energy(
    stages: Sequence[Stage],
    platform: PlatformSpec,
    n_inferences: int,
    total_s: float,
    *,
    count_memory_controller: bool = False,
) -> dict[str, float]:
    """Return the energy of a run by component [J]: work, leakage over the whole run, and idle cores."""
    busy = [stage.cost for stage in stages for _ in range(stage.n_cores)]
    idle_s = len(busy) * total_s - n_inferences * sum(cost.latency_s for cost in busy)
    energy = _active_energy(busy, n_inferences)
    energy["llc_leakage"] = platform.llc_leakage_w * total_s
    energy["core_idle"] = platform.clock_hz * platform.idle_energy_j_per_cycle * idle_s
    energy["core_idle"] += platform.clock_hz * platform.idle_energy_j_per_cycle * platform.idle_cores * total_s
    if count_memory_controller:
        energy["memory_controller"] = platform.memory_controller_power_w * total_s
    return energy


def _active_energy(costs: Iterable[Cost], n_inferences: int) -> dict[str, float]:
    total = add_costs(costs).energy
    return {name: n_inferences * joules for name, joules in total.items() if name not in _PER_TIME}
