"""Layers on several cores: the stages of a pipeline, the time and the energy of a number of inferences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.errors import ConfigError
from lionheart.system.platform import PlatformSpec
from lionheart.system.price import Cost, add_costs

_PER_TIME = ("llc_leakage", "memory_controller", "core_idle")  # paid for the whole run, not for a stage


@final
@dataclass(frozen=True)
class Stage:
    """What a core, or several cores side by side, do for each inference.

    Args:
        name: Shown in results.
        cost: Of one inference on one of its cores.
        n_cores: Cores that do this at the same time, each a part.
        n_handovers: Times that its cores wait for others in each inference.
    """

    name: str
    cost: Cost
    n_cores: int = 1
    n_handovers: int = 1


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
    n_cores = sum(stage.n_cores for stage in stages)
    if not stages or n_inferences < 1:
        raise ConfigError(
            f"pipeline: got {len(stages)} stages and {n_inferences} inferences, expected at least one of each"
        )
    if n_cores > platform.n_cores:
        raise ConfigError(
            f"pipeline: got {n_cores} cores, expected at most the {platform.n_cores} of {platform.name}",
            hint="put several layers on one core",
        )
    handover_s = platform.handover_cycles / platform.clock_hz if n_cores > 1 else 0.0
    times = tuple(stage.cost.latency_s + stage.n_handovers * handover_s for stage in stages)
    busy = [stage.cost for stage in stages for _ in range(stage.n_cores)]
    total_s = max(
        sum(times) + (n_inferences - 1) * max(times),
        n_inferences * sum(cost.dram_bytes for cost in busy) / platform.dram_bandwidth_bytes_per_s,
    )
    idle_s = n_cores * total_s - n_inferences * sum(cost.latency_s for cost in busy)
    energy = _active_energy(busy, n_inferences)
    energy["llc_leakage"] = platform.llc_leakage_w * total_s
    energy["core_idle"] = platform.clock_hz * platform.idle_energy_j_per_cycle * idle_s
    energy["core_idle"] += platform.clock_hz * platform.idle_energy_j_per_cycle * platform.idle_cores * total_s
    if count_memory_controller:
        energy["memory_controller"] = platform.memory_controller_power_w * total_s
    return PipelineEstimate(tuple(stages), n_inferences, times, total_s, energy)


def _active_energy(costs: Iterable[Cost], n_inferences: int) -> dict[str, float]:
    total = add_costs(costs).energy
    return {name: n_inferences * joules for name, joules in total.items() if name not in _PER_TIME}
