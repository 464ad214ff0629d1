"""Stages on several cores, simulated event by event: who works on what when, and who waits for tiles or for room."""

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

_Use = tuple[int, int, int]  # sorts the uses of a crossbar: wave, minus the stage, step


@final
@dataclass(frozen=True)
class Schedule:
    """What the cores did when.

    Args:
        stages: In the order in which an inference passes them.
        events: By start.
        finished_s: When each inference was through [s].
        total_s: When the last one was [s].
        energy: Component -> joules of all inferences.
    """

    stages: tuple[Stage, ...]
    events: tuple[ScheduleEvent, ...]
    finished_s: tuple[float, ...]
    total_s: float
    energy: Mapping[str, float]

    @property
    def n_inferences(self) -> int:
        """How many passed."""
        return len(self.finished_s)

    @property
    def latency_s(self) -> float:
        """Seconds until the first result."""
        return self.finished_s[0]

    @property
    def interval_s(self) -> float:
        """Seconds from one result to the next on average; of a single inference, until its result."""
        n = self.n_inferences
        return (self.finished_s[-1] - self.finished_s[0]) / (n - 1) if n > 1 else self.latency_s

    @cached_property
    def energy_j(self) -> float:
        """Joules of all inferences."""
        return sum(self.energy.values())

    @cached_property
    def utilisation(self) -> tuple[float, ...]:
        """Share of the time in which each core works, handovers and waits left out, 0 to 1."""
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
    """Simulate `n_inferences` that pass `stages` one after another.

    A core works through the steps of its stage, hands over, and takes the next inference. It waits when nothing has come, when
    the queue to the next stage is full, and for crossbars that another stage uses. A crossbar is granted in an order that is
    fixed before the run: the better of two, in which each stage is one or two inferences ahead of the next. Neither depends on
    how many crossbars there are, so sharing them can never make the run shorter. Where the DRAM cannot carry the traffic of all
    cores, everything slows down alike.

    Without shared crossbars the result is that of `estimate_pipeline`, whatever the queues hold.

    Args:
        stages: At least one.
        platform: Cores and memory.
        n_inferences: At least 1.
        queue_slots: Results that wait between two stages at most; None = any number.
        count_memory_controller: Add the power of memory controller and IO over the whole time.

    Raises:
        ConfigError: No stage, no inference, a queue without room, or more cores than the platform has.
    """
    check_pipeline(stages, platform, n_inferences)
    if queue_slots is not None and queue_slots < 1:
        raise ConfigError(
            f"pipeline: got {queue_slots} slots of a queue, expected at least one", hint="None = any number"
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
    """Who uses a crossbar after whom: one event for the end of each use.

    Uses are sorted by inference + lead * stage, then later stages first, then steps. Everything that a use waits for, with
    queues of one slot or more, comes before it in this order, so nobody waits for ever.
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
        """Return the place of a use in the order."""
        return inference + self._lead * stage, -stage, step

    def _chain(self, crossbar: int, keys: Iterable[_Use]) -> None:
        last: simpy.Event | None = None
        for key in keys:
            if last is not None:
                self._before[crossbar, key] = last
            last = self._ends[crossbar, key] = self._env.event()

    def wait(self, step: Step, key: _Use) -> simpy.Event:
        """Return what happens when all crossbars of a step are free for it."""
        return self._env.all_of([self._before[c, key] for c in step.crossbars if (c, key) in self._before])

    def leave(self, step: Step, key: _Use) -> None:
        """Give the crossbars of a step to the next."""
        for crossbar in step.crossbars:
            if (crossbar, key) in self._ends:
                self._ends[crossbar, key].succeed()


@final
class _Simulation:
    """One run: a process for each stage, a store between each two."""

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
        """Return all events and when each inference was through."""
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
