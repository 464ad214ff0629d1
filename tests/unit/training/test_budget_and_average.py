"""Warm-up, averaged weights, evaluations and a budget of minutes: what is kept, and the same after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kills import KilledError, kill_at
from torch import nn

from conftest import TinyData
from lionheart.data import TensorBatches
from lionheart.errors import ArtifactError, ConfigError
from lionheart.rng import RandomStreams
from lionheart.training import (
    TrainHooks,
    TrainSession,
    TrainSpec,
    TrainTrace,
    build_optimizer,
    noise_strength_at,
    train,
)
from lionheart.training import loop as training_loop
from lionheart.training.average import WeightAverage
from lionheart.training.schedule import count_affordable_steps, learning_rate_at

SPEC = TrainSpec(learning_rate=0.05, schedule="one_cycle", max_epochs=4, patience=None)
STREAMS = RandomStreams(5)


def build_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
        )


def run(net: nn.Module, data: TinyData, spec: TrainSpec, **settings: Any) -> TrainTrace:
    """Train; `settings` are those of `TrainSession` and `TrainHooks`. An epoch has 4 steps."""
    session = TrainSession(checkpoint=settings.pop("checkpoint", None))
    batches = TensorBatches(data.images, data.labels, mean=(0.5,) * 3, std=(0.25,) * 3, batch_size=16, shuffle=True)
    loss = settings.pop("loss", F.cross_entropy)
    optimizer, hooks = build_optimizer(net, spec), TrainHooks(**settings)
    return train(net, batches, loss, spec, optimizer, streams=STREAMS, hooks=hooks, session=session)


def differing(one: nn.Module, other: nn.Module) -> list[str]:
    return [n for n, tensor in one.state_dict().items() if not torch.equal(tensor, other.state_dict()[n])]


# ------------------------------------------------------------------------------------------------------------ warm-up


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_learning_rate_rises_over_the_warmup(schedule: str):
    spec = TrainSpec(learning_rate=0.4, schedule=schedule, warmup=0.1)
    assert learning_rate_at(spec, 0.0) == pytest.approx(0.04 * 0.4)
    assert learning_rate_at(spec, 0.05) == pytest.approx(0.2)
    assert learning_rate_at(spec, 0.1) == pytest.approx(0.4)
    middle = 0.4 if schedule == "constant" else 0.2
    assert learning_rate_at(spec, 0.55) == pytest.approx(middle)  # half-way through the rest


def test_noise_rises_linearly_and_stays():
    spec = TrainSpec(noise_warmup=0.5)
    assert [noise_strength_at(spec, p) for p in (0.0, 0.125, 0.25, 0.5, 1.0)] == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert {noise_strength_at(TrainSpec(), p) for p in (0.0, 0.5, 1.0)} == {1.0}


def test_hooks_get_the_progress_of_every_step(tiny_data: TinyData):
    seen: list[float] = []
    run(build_net(), tiny_data, SPEC, before_step=seen.append)
    assert seen == [step / 16 for step in range(16)]


# ------------------------------------------------------------------------------------------------------------ average


def test_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    average = WeightAverage(model, 0.9)
    expected = 1.0
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update_(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-5)
    with average.used_by(model):
        assert model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert model.weight.item() == 199.0


def test_infinite_limits_are_not_averaged():
    model = nn.Linear(2, 2)
    model.register_buffer("limit", torch.tensor(math.inf))
    average = WeightAverage(model, 0.5)
    average.update_(model, 1)
    average.put_(model)
    assert float(model.limit) == math.inf
    assert sorted(average.state) == ["bias", "weight"]


def test_kept_weights_are_the_average_of_all_steps(tiny_data: TinyData):
    plain, averaged, steps = build_net(), build_net(), []
    run(plain, tiny_data, SPEC, after_step=lambda: steps.append(plain[4].weight.detach().clone()))
    mean = build_net()[4].weight.detach().clone()
    for n, weight in enumerate(steps, 1):
        mean.lerp_(weight, 1 - min(0.8, (1 + n) / (10 + n)))
    run(averaged, tiny_data, SPEC.replace(ema_decay=0.8))
    assert torch.equal(averaged[4].weight, mean)
    assert not torch.equal(averaged[4].weight, plain[4].weight)


# --------------------------------------------------------------------------------------------------------- evaluations


def scripted(net: nn.Module, drops: list[float], seen: list[torch.Tensor]) -> Callable[[], float]:
    """Return an evaluation with given results, which records the weights that it got."""

    def evaluate() -> float:
        seen.append(net[4].weight.detach().clone())
        return drops[len(seen) - 1]

    return evaluate


@pytest.mark.parametrize("decay", [None, 0.8])
@pytest.mark.parametrize(
    ("drops", "kept"),
    [([5.0, 4.0, 1.0, 2.0, 3.0], 2), ([0.5, 4.0, 1.0, 2.0, 3.0], 0), ([5.0, 4.0, 3.0, 3.0, 3.0], 4)],
    ids=["middle", "before", "last of equals"],
)
def test_the_weights_with_the_smallest_drop_are_kept(drops, kept: int, decay, tiny_data: TinyData):
    net, seen = build_net(), []
    spec = SPEC.replace(evaluate_every=1, ema_decay=decay)
    trace = run(net, tiny_data, spec, evaluate=scripted(net, drops, seen))
    assert [each.drop_pp for each in trace.evaluations] == drops
    assert [each.epoch for each in trace.evaluations] == [0, 1, 2, 3, 4]
    assert trace.kept_epoch == kept
    assert torch.equal(net[4].weight, seen[kept])
    if kept == 0:
        assert differing(net, build_net()) == []


def test_evaluations_are_rare_but_the_last_weights_are_always_evaluated(tiny_data: TinyData):
    net = build_net()
    drops = iter([9.0, 8.0, 7.0, 6.0])
    trace = run(net, tiny_data, SPEC.replace(max_epochs=5, evaluate_every=2), evaluate=lambda: next(drops))
    assert [each.epoch for each in trace.evaluations] == [0, 2, 4, 5]
    assert trace.kept_epoch == 5


def test_without_evaluations_nothing_is_evaluated(tiny_data: TinyData):
    def refuse() -> float:
        raise AssertionError

    assert run(build_net(), tiny_data, SPEC, evaluate=refuse).kept_epoch is None


def drop_by_size(net: nn.Module, sign: int) -> Callable[[], float]:
    """Return an evaluation whose result rises or falls with the size of the weights."""
    return lambda: sign * float(net[4].weight.detach().abs().sum())


@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
@pytest.mark.parametrize(("sign", "kept"), [(1, 0), (-1, 4)], ids=["before is best", "last is best"])
def test_killed_run_keeps_the_same_weights(epoch: int, sign: int, kept: int, tiny_data: TinyData, tmp_path: Path):
    """The drop is a function of the weights, so the resumed run must have the same averages and the same best weights."""
    spec, path = SPEC.replace(ema_decay=0.7, evaluate_every=1, momentum=0.5), tmp_path / "state"
    reference, killed, resumed, ended = (build_net() for _ in range(4))
    trace = run(reference, tiny_data, spec, evaluate=drop_by_size(reference, sign))
    assert trace.kept_epoch == kept
    evaluate = drop_by_size(killed, sign)
    with pytest.raises(KilledError):
        run(killed, tiny_data, spec, before_epoch=kill_at(epoch), checkpoint=path, evaluate=evaluate)
    again = run(resumed, tiny_data, spec, checkpoint=path, evaluate=drop_by_size(resumed, sign))
    assert differing(resumed, reference) == []
    assert again.replace(elapsed_s=0.0) == trace.replace(elapsed_s=0.0)
    # a checkpoint of an ended training gives the kept weights too
    run(ended, tiny_data, spec, checkpoint=path, before_epoch=kill_at(4), evaluate=drop_by_size(ended, sign))
    assert differing(ended, reference) == []


def test_a_checkpoint_without_a_weight_of_the_average_is_refused(tiny_data: TinyData, tmp_path: Path, monkeypatch):
    write = training_loop.save_training_state

    def damage(*args: Any, copies: Any, **kwargs: Any) -> None:
        lacking = {name: {k: v for k, v in each.items() if k != "4.bias"} for name, each in copies.items()}
        write(*args, copies=lacking, **kwargs)

    spec, path = SPEC.replace(ema_decay=0.5), tmp_path / "state"
    monkeypatch.setattr(training_loop, "save_training_state", damage)
    with pytest.raises(KilledError):
        run(build_net(), tiny_data, spec, before_epoch=kill_at(2), checkpoint=path)
    with pytest.raises(ArtifactError, match="the copy 'average' of the weights lacks 4.bias"):
        run(build_net(), tiny_data, spec, checkpoint=path)


# -------------------------------------------------------------------------------------------------------------- budget


class Clock:
    """Replaces the clock of the loop: each step takes 2 s, each evaluation 10 s, nothing else takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(training_loop.time, "perf_counter", lambda: self.now)

    def step(self) -> None:
        self.now += 2.0

    def evaluate(self) -> float:
        self.now += 10.0
        return 1.0


def test_steps_that_fit_by_hand():
    assert count_affordable_steps(100.0, 2.0, 0.0, 10) == 50
    assert count_affordable_steps(100.0, 2.0, 5.0, 10) == 40  # 10 steps and an evaluation take 25 s
    assert count_affordable_steps(-1.0, 2.0, 0.0, 10) == 1


def test_schedule_ends_within_its_minutes(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch):
    clock, rates, net = Clock(monkeypatch), [], build_net()
    spec = SPEC.replace(minutes=1.0, max_epochs=1)

    def after_step() -> None:
        clock.step()

    trace = run(net, tiny_data, spec, before_step=rates.append, after_step=after_step)
    # 60 s; two timed steps (more than 5 % of the budget) take 4 s and leave 56 s: 28 steps of 7 epochs
    assert (trace.planned_steps, trace.n_steps, len(trace.losses), trace.outcome) == (28, 28, 7, "cap")
    assert clock.now == 60.0
    assert rates[2:] == [step / 28 for step in range(28)]


def scripted_loss(losses: list[float]) -> dict[str, Any]:
    """Return hooks and a loss function with which each epoch has a given loss."""
    level, script = [0.0], iter(losses)

    def before_epoch(epoch: int) -> None:
        level[0] = next(script)

    return {"before_epoch": before_epoch, "loss": lambda outputs, targets: 0 * outputs.sum() + level[0]}


@pytest.mark.parametrize(
    ("settings", "outcome", "n_epochs"),
    [({}, "flat", 3), ({"noise_warmup": 0.5}, "cap", 6), ({"noise_warmup": 0.2}, "flat", 5)],
    ids=["no warm-up", "half", "a fifth"],
)
def test_a_loss_that_rises_with_the_noise_is_not_flat(settings, outcome: str, n_epochs: int, tiny_data: TinyData):
    hooks = scripted_loss([1.0, 2.0, 3.0, 4.0, 5.0, 0.5])
    spec = SPEC.replace(max_epochs=6, patience=2, **settings)
    trace = run(build_net(), tiny_data, spec, **hooks)
    assert (trace.outcome, len(trace.losses)) == (outcome, n_epochs)


def test_a_budget_of_minutes_is_used_up_by_a_flat_loss_too(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch):
    clock, hooks = Clock(monkeypatch), scripted_loss([1.0] * 9)
    spec = SPEC.replace(minutes=1.0, patience=1)
    trace = run(build_net(), tiny_data, spec, after_step=clock.step, **hooks)
    assert (trace.outcome, trace.n_steps) == ("cap", 28)


def test_the_last_epoch_is_as_short_as_the_budget(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    trace = run(build_net(), tiny_data, SPEC.replace(minutes=0.5), after_step=clock.step)
    assert (trace.planned_steps, trace.n_steps, len(trace.losses)) == (13, 13, 4)


def test_evaluations_are_part_of_the_budget(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    spec = SPEC.replace(minutes=2.0, evaluate_every=2)
    trace = run(build_net(), tiny_data, spec, after_step=clock.step, evaluate=clock.evaluate)
    # 120 s, 10 s of the first evaluation and 4 to 6 s of timed steps; 4 steps with half an evaluation take 13 s
    assert trace.planned_steps == 32
    assert clock.now <= 120.0
    assert trace.elapsed_s == clock.now


def test_timed_steps_leave_no_trace(tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    timed, plain = build_net(), build_net()
    spec = SPEC.replace(ema_decay=0.8)
    trace = run(timed, tiny_data, spec.replace(minutes=34 / 60), after_step=clock.step)  # 2 timed steps and 15
    assert trace.planned_steps == 15
    monkeypatch.setattr(training_loop._Training, "total_steps", property(lambda self: 15))
    assert run(plain, tiny_data, spec).losses == trace.losses
    assert differing(timed, plain) == []


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_resumed_run_takes_the_steps_that_were_planned(
    epoch: int, tiny_data: TinyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock, spec = Clock(monkeypatch), SPEC.replace(minutes=1.0, ema_decay=0.9)
    reference = build_net()
    trace = run(reference, tiny_data, spec, after_step=clock.step)
    calls = [0]

    def kill(current: int) -> None:
        calls[0] += 1
        if current == epoch and calls[0] > 1:  # the first call is that of the timed steps
            raise KilledError

    with pytest.raises(KilledError):
        run(build_net(), tiny_data, spec, before_epoch=kill, after_step=clock.step, checkpoint=tmp_path / "state")

    def slow_step() -> None:
        clock.now += 50.0

    resumed = build_net()
    again = run(resumed, tiny_data, spec, after_step=slow_step, checkpoint=tmp_path / "state")
    assert again.planned_steps == trace.planned_steps == 28
    assert again.losses == trace.losses
    assert differing(resumed, reference) == []


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"ema_decay": 1.0}, {"noise_warmup": 1.0}, {"warmup": -0.1}])
def test_impossible_settings_are_refused(wrong: dict[str, float]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainSpec(**wrong)
