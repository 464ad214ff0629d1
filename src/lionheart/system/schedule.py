"""Event-driven simulation of pipeline stages on several cores.

A stage is the work of one or more cores. A core waits if other stages use its tiles, if its input has not arrived, or if the
queue to the next stage is full.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import simpy

from lionheart.errors import ConfigError
from lionheart.runs.costs import ScheduleEvent, WorkKind
from lionheart.system.pipeline import (
    Stage,
    Step,
    check_pipeline,
    dram_time_s,
    handover_time_s,
    pipeline_energy,
)
from lionheart.system.platform import PlatformSpec

_Use = tuple[int, int, int]  # sort key of a use of a crossbar: (inference + lead * stage, -stage, step)


@final
@dataclass(frozen=True)
class Schedule:
    """Schedule of a number of inferences on several cores: times of all pieces of work, and the energy.

    Args:
        stages: Stages (work of one or more cores) in the order in which an inference passes them.
        events: Pieces of work in the order of their start times.
        finished_s: Time at which each inference ends [s].
        total_s: Time at which the last inference ends [s].
        energy: Energy of each component for all inferences together [J].
    """

    stages: tuple[Stage, ...]
    events: tuple[ScheduleEvent, ...]
    finished_s: tuple[float, ...]
    total_s: float
    energy: Mapping[str, float]

    @property
    def n_inferences(self) -> int:
        """Number of simulated inferences."""
        return len(self.finished_s)

    @property
    def latency_s(self) -> float:
        """Time from the start of the simulation to the first result [s]."""
        return self.finished_s[0]

    @property
    def interval_s(self) -> float:
        """Mean time from one result to the next [s]; for a single inference, the time until its result."""
        n = self.n_inferences
        return (self.finished_s[-1] - self.finished_s[0]) / (n - 1) if n > 1 else self.latency_s

    @cached_property
    def energy_j(self) -> float:
        """Energy of all inferences together [J]."""
        return sum(self.energy.values())

    @cached_property
    def utilisation(self) -> tuple[float, ...]:
        """Fraction of the total time in which each core works, excluding handovers and waits, 0 to 1."""
        busy = [0.0] * sum(stage.n_cores for stage in self.stages)
        for event in self.events:
            if event.kind is not WorkKind.HANDOVER:
                busy[event.core] += event.end_s - event.start_s
        return tuple(seconds / self.total_s if self.total_s else 0.0 for seconds in busy)


def simulate_pipeline(
    stages: Sequence[Stage],
    platform: PlatformSpec,
    n_inferences: int = 1,
    *,
    queue_slots: int | None = None,
    count_memory_controller: bool = False,
) -> Schedule:
    """Simulate `n_inferences` consecutive inferences that pass through `stages` in order.

    A core executes the steps of its stage, hands the result over, and starts the next inference. A core waits if its input has
    not arrived, if the queue to the next stage is full, or if another stage uses the crossbars of the next step.

    The order in which stages use a shared crossbar is fixed before the simulation. If stages share crossbars, two orders are
    simulated. In the first order, each stage is one inference ahead of the next stage. In the second order, each stage is two
    inferences ahead. The faster of the two schedules is returned. Neither order depends on the number of crossbars, so sharing
    crossbars never shortens the total time.

    If the DRAM bandwidth is too low for the traffic of all cores, all times are multiplied by the same factor. Without shared
    crossbars, `estimate_pipeline` returns the same total time, for any size of the queues.

    Args:
        stages: Stages of the pipeline, at least one.
        platform: Cores and memory.
        n_inferences: Number of inferences, at least 1.
        queue_slots: Largest number of results that may wait between two consecutive stages, at least 1; None = no limit.
        count_memory_controller: Whether to add the energy of the memory controller and IO, which is their power times the
            total time.

    Raises:
        ConfigError: `stages` is empty, `n_inferences` or `queue_slots` is below 1, or the stages need more cores than the
            platform has.
    """
    check_pipeline(stages, platform, n_inferences)
    if queue_slots is not None and queue_slots < 1:
        raise ConfigError(
            f"queue_slots: got {queue_slots}, expected at least 1",
            hint="use queue_slots=None for queues without a limit",
        )
    leads = (1, 2) if _share_crossbars(stages) else (1,)
    runs = [_Simulation(stages, platform, n_inferences, queue_slots, lead).run() for lead in leads]
    events, finished_s = min(runs, key=lambda run: run[1][-1])
    total_s = max(finished_s[-1], dram_time_s(stages, platform, n_inferences))
    slowdown = total_s / finished_s[-1] if finished_s[-1] else 1.0
    events = [replace(each, start_s=each.start_s * slowdown, end_s=each.end_s * slowdown) for each in events]
    events.sort(key=lambda each: (each.start_s, each.core))
    energy = pipeline_energy(stages, platform, n_inferences, total_s, count_memory_controller=count_memory_controller)
    return Schedule(tuple(stages), tuple(events), tuple(each * slowdown for each in finished_s), total_s, energy)


def _share_crossbars(stages: Sequence[Stage]) -> bool:
    used = [{crossbar for step in stage.steps for crossbar in step.crossbars} for stage in stages]
    return sum(map(len, used)) > len(set().union(*used))


@final
class _Turns:
    """The order in which stages use each shared crossbar, with one simulation event for the end of each use.

    A use is one step of a stage in one inference. The uses of a crossbar are sorted by ``inference + lead * stage``, so that
    each stage is `lead` inferences ahead of the next stage. In case of a tie, uses of later stages come first, and then uses of
    earlier steps. If every queue has at least one slot, a use only waits for work that is earlier in this order, so no deadlock
    can occur.
    """

    def __init__(self, env: simpy.Environment, stages: Sequence[Stage], n_inferences: int, lead: int) -> None:
        self._env, self._lead = env, lead
        self._ends: dict[tuple[int, _Use], simpy.Event] = {}
        self._before: dict[tuple[int, _Use], simpy.Event] = {}
        uses: dict[int, list[_Use]] = {}
        for place, stage in enumerate(stages):
            for number, step in enumerate(stage.steps):
                for crossbar in step.crossbars:
                    keys = [self.key(place, inference, number) for inference in range(n_inferences)]
                    uses.setdefault(crossbar, []).extend(keys)
        for crossbar, keys in uses.items():
            if len({stage for _, stage, _ in keys}) > 1:
                self._chain(crossbar, sorted(keys))

    def key(self, stage: int, inference: int, step: int) -> _Use:
        """Return the sort key ``(inference + lead * stage, -stage, step)`` for the use of a crossbar by one step.

        The arguments are the indices of the stage, the inference and the step in the stage, each starting at 0.
        """
        return inference + self._lead * stage, -stage, step

    def _chain(self, crossbar: int, keys: Iterable[_Use]) -> None:
        last: simpy.Event | None = None
        for key in keys:
            if last is not None:
                self._before[crossbar, key] = last
            last = self._ends[crossbar, key] = self._env.event()

    def wait(self, step: Step, key: _Use) -> simpy.Event:
        """Return an event that occurs when all uses of the crossbars of `step` that precede the use `key` have ended."""
        return self._env.all_of([self._before[c, key] for c in step.crossbars if (c, key) in self._before])

    def leave(self, step: Step, key: _Use) -> None:
        """End the use `key` of the crossbars of `step`, so that the next use in the order can start."""
        for crossbar in step.crossbars:
            if (crossbar, key) in self._ends:
                self._ends[crossbar, key].succeed()


@final
class _Simulation:
    """Simulation of a pipeline for one order of crossbar uses. Each stage is a SimPy process, with queues between stages."""

    def __init__(
        self, stages: Sequence[Stage], platform: PlatformSpec, n_inferences: int, queue_slots: int | None, lead: int
    ) -> None:
        self.env = simpy.Environment()
        self.stages = [stage if stage.steps else _with_one_step(stage) for stage in stages]
        self.n_inferences = n_inferences
        self.handover_s = handover_time_s(stages, platform)
        slots = float("inf") if queue_slots is None else queue_slots
        self.queues = [simpy.Store(self.env, capacity=slots) for _ in stages[1:]]
        self.turns = _Turns(self.env, self.stages, n_inferences, lead)
        self.events: list[ScheduleEvent] = []
        self.finished_s: list[float] = []

    def run(self) -> tuple[list[ScheduleEvent], list[float]]:
        """Run the simulation, and return all pieces of work and the time at which each inference ended [s]."""
        core = 0
        for place, stage in enumerate(self.stages):
            self.env.process(self._work(place, stage, range(core, core + stage.n_cores)))
            core += stage.n_cores
        self.env.run()
        return self.events, self.finished_s

    def _work(self, place: int, stage: Stage, cores: Iterable[int]) -> Generator[simpy.Event, Any, None]:
        is_last = place == len(self.queues)
        for inference in range(self.n_inferences):
            if place:
                yield self.queues[place - 1].get()
            for number, step in enumerate(stage.steps):
                key = self.turns.key(place, inference, number)
                if step.crossbars:
                    yield self.turns.wait(step, key)
                yield from self._spend(cores, inference, step)
                self.turns.leave(step, key)
            pause_s = stage.n_handovers * self.handover_s
            if pause_s:
                yield from self._spend(cores, inference, Step(stage.name, WorkKind.HANDOVER, pause_s))
            if is_last:
                self.finished_s.append(self.env.now)
            else:
                yield self.queues[place].put(inference)

    def _spend(self, cores: Iterable[int], inference: int, step: Step) -> Generator[simpy.Event, Any, None]:
        start_s = self.env.now
        yield self.env.timeout(step.duration_s)
        self.events += [ScheduleEvent(core, inference, step.layer, step.kind, start_s, self.env.now) for core in cores]


def _with_one_step(stage: Stage) -> Stage:
    return replace(stage, steps=(Step(stage.name, WorkKind.OTHER, stage.cost.latency_s),))
