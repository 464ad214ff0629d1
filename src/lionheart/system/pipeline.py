"""Layers on several cores: the stages of a pipeline, and the time and energy of a number of inferences in closed form.

`lionheart.system.schedule` simulates the same stages, also where they share tiles; `lionheart.system.cores` makes them.
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

_PER_TIME = ("llc_leakage", "memory_controller", "core_idle")  # paid for the whole run, not for a stage


@final
@dataclass(frozen=True)
class Step:
    """Work of one core without a pause.

    Args:
        layer: The projection that it belongs to.
        kind: What it is.
        duration_s: Seconds per inference.
        crossbars: Numbers of the crossbars that it keeps busy; nothing else uses them meanwhile.
    """

    layer: str
    kind: WorkKind
    duration_s: float
    crossbars: tuple[int, ...] = ()


@final
@dataclass(frozen=True)
class Stage:
    """What a core, or several cores side by side, do for each inference.

    Args:
        name: Shown in results.
        cost: Of one inference on one of its cores.
        n_cores: Cores that do this at the same time, each a part.
        n_handovers: Times that its cores wait for others in each inference.
        steps: The same time step by step, for a simulation; empty = one step that uses no tile.
    """

    name: str
    cost: Cost
    n_cores: int = 1
    n_handovers: int = 1
    steps: tuple[Step, ...] = ()


@final
@dataclass(frozen=True)
class PipelineEstimate:
    """A pipeline that works on one inference after another; a stage takes the next as soon as it is free.

    Args:
        stages: In the order in which an inference passes them.
        n_inferences: How many pass.
        stage_s: Seconds of each stage per inference, with its handovers.
        total_s: Seconds until the last one is through.
        energy: Component -> joules of all of them.
    """

    stages: tuple[Stage, ...]
    n_inferences: int
    stage_s: tuple[float, ...]
    total_s: float
    energy: Mapping[str, float]

    @property
    def latency_s(self) -> float:
        """Seconds of the first inference."""
        return sum(self.stage_s)

    @property
    def interval_s(self) -> float:
        """Seconds from one result to the next once the pipeline is full."""
        return max(self.stage_s)

    @cached_property
    def energy_j(self) -> float:
        """Joules of all inferences."""
        return sum(self.energy.values())


def estimate_pipeline(
    stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int = 1, *, count_memory_controller: bool = False
) -> PipelineEstimate:
    """Return time and energy of `n_inferences` that pass `stages` one after another.

    ``total = sum(stage) + (n - 1) * max(stage)``, which is exact for stages that take the same time for every inference and
    never fill their queue, and not less than the DRAM traffic of all cores takes. A handover takes ``handover_cycles``, in
    which the cores idle; a single stage on one core has none. The last-level cache leaks over the whole run.

    Args:
        stages: At least one.
        platform: Cores and memory.
        n_inferences: At least 1.
        count_memory_controller: Add the power of memory controller and IO over the whole time.

    Raises:
        ConfigError: No stage, no inference, or more cores than the platform has.
    """
    check_pipeline(stages, platform, n_inferences)
    handover_s = handover_time_s(stages, platform)
    times = tuple(stage.cost.latency_s + stage.n_handovers * handover_s for stage in stages)
    total_s = max(sum(times) + (n_inferences - 1) * max(times), dram_time_s(stages, platform, n_inferences))
    energy = pipeline_energy(stages, platform, n_inferences, total_s, count_memory_controller=count_memory_controller)
    return PipelineEstimate(tuple(stages), n_inferences, times, total_s, energy)


def check_pipeline(stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int) -> None:
    """Make sure that there is something to do and that the platform has the cores.

    Raises:
        ConfigError: No stage, no inference, or more cores than the platform has.
    """
    n_cores = sum(stage.n_cores for stage in stages)
    if not stages or n_inferences < 1:
        raise ConfigError(
            f"pipeline: got {len(stages)} stages and {n_inferences} inferences, expected at least one of each",
            hint="let at least one inference pass at least one stage",
        )
    if n_cores > platform.n_cores:
        raise ConfigError(
            f"pipeline: got {n_cores} cores, expected at most the {platform.n_cores} of {platform.name}",
            hint="put several layers on one core",
        )


def handover_time_s(stages: Sequence[Stage], platform: PlatformSpec) -> float:
    """Return the time of one handover [s]; a single core has none."""
    return platform.handover_cycles / platform.clock_hz if sum(stage.n_cores for stage in stages) > 1 else 0.0


def dram_time_s(stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int) -> float:
    """Return the time that the DRAM traffic of all cores takes at least [s]."""
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
    """Return the energy of a run by component [J]: work, leakage over the whole run, and cores that idle when not at work."""
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
