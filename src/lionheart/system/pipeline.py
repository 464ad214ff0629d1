"""Pipelines of stages on several cores: time and energy of a number of inferences in closed form.

A stage is the work of one core, or of several cores that divide the work equally.

`lionheart.system.schedule` simulates the same stages, including tiles that several stages share. `lionheart.system.cores`
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
    """Uninterrupted work of one core in each inference.

    Args:
        layer: Name of the projection (weight matrix) for which the work is done.
        kind: Type of work.
        duration_s: Duration in each inference [s].
        crossbars: Indices of the crossbars that no other step can use while this step runs.
    """

    layer: str
    kind: WorkKind
    duration_s: float
    crossbars: tuple[int, ...] = ()


@final
@dataclass(frozen=True)
class Stage:
    """Work of one core in each inference, or of several cores that divide the work equally.

    Args:
        name: Name of the stage in results.
        cost: Cost of one inference on each of the cores.
        n_cores: Number of cores that work in parallel.
        n_handovers: Number of handovers in each inference, during which the cores wait.
        steps: Steps into which the simulation divides the time in `cost`; empty = a single step without crossbars.
    """

    name: str
    cost: Cost
    n_cores: int = 1
    n_handovers: int = 1
    steps: tuple[Step, ...] = ()


@final
@dataclass(frozen=True)
class PipelineEstimate:
    """Time and energy of consecutive inferences in a pipeline of stages.

    A stage starts the next inference as soon as the stage is free and its input has arrived.

    Args:
        stages: Stages in the order in which an inference passes them.
        n_inferences: Number of inferences.
        stage_s: Time of each stage in one inference, including its handovers [s].
        total_s: Time at which the last inference ends [s].
        energy: Energy of each component for all inferences together [J].
    """

    stages: tuple[Stage, ...]
    n_inferences: int
    stage_s: tuple[float, ...]
    total_s: float
    energy: Mapping[str, float]

    @property
    def latency_s(self) -> float:
        """Time from the start to the result of the first inference [s]."""
        return sum(self.stage_s)

    @property
    def interval_s(self) -> float:
        """Time from one result to the next when all stages are busy [s]."""
        return max(self.stage_s)

    @cached_property
    def energy_j(self) -> float:
        """Energy of all inferences together [J]."""
        return sum(self.energy.values())


def estimate_pipeline(
    stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int = 1, *, count_memory_controller: bool = False
) -> PipelineEstimate:
    """Return the time and energy of `n_inferences` consecutive inferences that pass through `stages` in order.

    The total time of n inferences is ``sum(stage_s) + (n - 1) * max(stage_s)``, where ``stage_s`` are the times of the stages
    including handovers. If the DRAM needs more time for the traffic of all cores, the total time is that time of the DRAM. The
    equation is exact if each stage takes the same time in every inference and no stage waits for a full queue. A handover takes
    ``handover_cycles`` of the platform, in which the cores are idle. A single stage on one core has no handover. The leakage
    energy of the last-level cache is computed for the total time.

    Args:
        stages: Stages of the pipeline, at least one.
        platform: Cores and memory.
        n_inferences: Number of inferences, at least 1.
        count_memory_controller: Whether to add the energy of the memory controller and IO, which is their power times the
            total time.

    Raises:
        ConfigError: `stages` is empty, `n_inferences` is below 1, or the stages need more cores than the platform has.
    """
    check_pipeline(stages, platform, n_inferences)
    handover_s = handover_time_s(stages, platform)
    times = tuple(stage.cost.latency_s + stage.n_handovers * handover_s for stage in stages)
    total_s = max(sum(times) + (n_inferences - 1) * max(times), dram_time_s(stages, platform, n_inferences))
    energy = pipeline_energy(stages, platform, n_inferences, total_s, count_memory_controller=count_memory_controller)
    return PipelineEstimate(tuple(stages), n_inferences, times, total_s, energy)


def check_pipeline(stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int) -> None:
    """Check that a pipeline has at least one stage and one inference, and that the platform has enough cores.

    Raises:
        ConfigError: `stages` is empty, `n_inferences` is below 1, or the stages need more cores than the platform has.
    """
    n_cores = sum(stage.n_cores for stage in stages)
    if not stages or n_inferences < 1:
        raise ConfigError(
            f"pipeline: got {len(stages)} stage{'s' * (len(stages) != 1)} and {n_inferences} "
            f"inference{'s' * (n_inferences != 1)}, expected at least one of each",
            hint="give at least one stage, and set the number of inferences to 1 or more",
        )
    if n_cores > platform.n_cores:
        raise ConfigError(
            f"pipeline: the stages need {n_cores} cores, expected at most the {platform.n_cores} of platform {platform.name!r}",
            hint="assign the layers to fewer cores, or use a platform file with a larger n_cores",
        )


def handover_time_s(stages: Sequence[Stage], platform: PlatformSpec) -> float:
    """Return the time of one handover between cores [s]; 0 if the stages use only one core."""
    return platform.handover_cycles / platform.clock_hz if sum(stage.n_cores for stage in stages) > 1 else 0.0


def dram_time_s(stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int) -> float:
    """Return the time that the DRAM needs to transfer the bytes of all cores in all inferences at its full bandwidth [s]."""
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
    """Return the energy of all inferences together, by component [J], including leakage and idle cores for the total time.

    Args:
        stages: Stages of the pipeline.
        platform: Cores and memory.
        n_inferences: Number of inferences.
        total_s: Total time of all inferences [s].
        count_memory_controller: Whether to add the energy of the memory controller and IO, which is their power times the
            total time.
    """
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
