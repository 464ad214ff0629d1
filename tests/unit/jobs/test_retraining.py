"""Retraining in a run: noise that warms up, ranges that follow, evaluations on fresh chips, and the same after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from quadrants import build_task, make_context, make_settings
from torch import Tensor, nn

import lionheart.jobs.retraining
import lionheart.training.loop
from lionheart.analog import analog_layers, calibrate_input_ranges_, convert_to_analog_
from lionheart.data import call_model, read_first
from lionheart.errors import ConfigError
from lionheart.jobs import MappingResult, MapSettings, map_layers, resume_run
from lionheart.jobs.checks import check_task
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.calibration import calibrate_on_training_batch_, compute_weight_limits
from lionheart.jobs.retraining import retrain
from lionheart.mapping import LayerMapping, Placement
from lionheart.runs import TrainTrace
from lionheart.training import build_optimizer

pytestmark = pytest.mark.usefixtures("small_noise_pool")

FULL = {
    "noise_warmup": 0.4,
    "ema_decay": 0.9,
    "recalibrate_every": 1,
    "evaluate_every": 1,
    "evaluation_chips": 2,
    "evaluation_samples": 64,
    "max_epochs": 3,
}
HWA = {"weight_clip_sigma": 2.0}


class KilledError(BaseException):
    """Stands for the end of the process."""


def analog_twin(context: Context) -> nn.Module:
    """Return the network of a task with layers 0 and 3 on tiles and their ranges, as a search has it before it retrains."""
    model = build_task().model
    placements = {"0": Placement.ANALOG, "3": Placement.ANALOG}
    convert_to_analog_(model, LayerMapping(placements), context.settings.tile)
    calibrate_on_training_batch_(model, context.task, context.streams, digitally=True, warn_of_clipping=False)
    return model


def retrained(folder: Path, **train: Any) -> tuple[nn.Module, TrainTrace, Context]:
    """Retrain with settings that replace those of `quadrants`."""
    settings = make_settings(train={"patience": None, **train}, tile={"hwa": HWA, "output_noise": 0.3})
    context = make_context(build_task(), settings)
    model = analog_twin(context)
    trace = retrain(
        context,
        model,
        build_optimizer(model, settings.train),
        index=0,
        checkpoint=folder / "state",
        label="retraining",
        should_stop=lambda trace: False,
    )
    return model, trace, context


def digital_ranges(model: nn.Module, context: Context) -> dict[str, float]:
    """Return the ranges that a digital pass over the batch of the calibration gives for the present weights."""
    inputs = read_first(context.task.train_batches, context.streams.generator("calibration"), "train")[0]
    kept = {fqn: float(layer.analog_input_range) for fqn, layer in analog_layers(model).items()}
    found = calibrate_input_ranges_(
        model, lambda net: call_model(net, inputs), list(kept), digitally=True, warn_of_clipping=False
    )
    for fqn, layer in analog_layers(model).items():
        layer.analog_input_range.fill_(kept[fqn])
    return found


def ranges_of(model: nn.Module) -> dict[str, float]:
    return {fqn: float(layer.analog_input_range) for fqn, layer in analog_layers(model).items()}


# ----------------------------------------------------------------------------------------------------------- the parts


def test_noise_and_bounds_follow_the_warmup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    noise: list[float] = []
    bounds: list[float] = []
    set_strength, clip = lionheart.jobs.retraining.set_noise_strength_, lionheart.jobs.retraining.clip_weights_

    def record_strength(model: nn.Module, strength: float) -> None:
        noise.append(strength)
        set_strength(model, strength)

    def record_bound(model: nn.Module, *, strength: float) -> None:
        bounds.append(strength)
        clip(model, strength=strength)

    monkeypatch.setattr(lionheart.jobs.retraining, "set_noise_strength_", record_strength)
    monkeypatch.setattr(lionheart.jobs.retraining, "clip_weights_", record_bound)
    model, _, _ = retrained(tmp_path, noise_warmup=0.5, max_epochs=2, steps_per_epoch=4)
    expected = [0.0, 0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]
    assert bounds == expected
    assert noise == [*expected, 1.0]  # the last one ends the warm-up
    assert all(layer.noise.strength is None for layer in analog_layers(model).values())


def test_many_steps_of_no_learning_clip_once(tmp_path: Path):
    """The limits are those of the weights before the training, although each step clips."""
    model, trace, context = retrained(tmp_path, learning_rate=1e-30, max_epochs=25, steps_per_epoch=8)
    assert trace.n_steps == 200
    clipped = analog_twin(context)
    for layer in analog_layers(clipped).values():
        layer.clip_weights_()
    original = analog_layers(analog_twin(context))
    for fqn, layer in analog_layers(clipped).items():
        assert not torch.equal(layer.weight, original[fqn].weight)
        assert torch.equal(analog_layers(model)[fqn].weight, layer.weight)


def test_ranges_stay_without_the_setting_and_follow_the_weights_with_it(tmp_path: Path):
    context = make_context(build_task(), make_settings(tile={"hwa": HWA, "output_noise": 0.3}))
    before = ranges_of(analog_twin(context))
    model, _, context = retrained(tmp_path / "a", learning_rate=0.1)
    assert ranges_of(model) == before
    model, _, context = retrained(tmp_path / "b", learning_rate=0.1, recalibrate_every=1)
    assert ranges_of(model) == pytest.approx(digital_ranges(model, context), rel=1e-6)
    assert ranges_of(model) != pytest.approx(before, rel=1e-3)


def test_ranges_in_training_are_a_moving_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    measured: list[dict[str, float]] = []
    set_: list[dict[str, float]] = []
    measure, put = lionheart.jobs.retraining.calibrate_on_training_batch_, lionheart.jobs.retraining.set_input_ranges_

    def record(*args: Any, **kwargs: Any) -> dict[str, float]:
        measured.append(measure(*args, **kwargs))
        return measured[-1]

    def record_put(layers: Any, ranges: dict[str, float]) -> None:
        set_.append(ranges)
        put(layers, ranges)

    monkeypatch.setattr(lionheart.jobs.retraining, "calibrate_on_training_batch_", record)
    monkeypatch.setattr(lionheart.jobs.retraining, "set_input_ranges_", record_put)
    settings = {"learning_rate": 0.1, "max_epochs": 5, "recalibrate_every": 2, "recalibration_decay": 0.75}
    model, _, context = retrained(tmp_path, **settings)
    mean = ranges_of(analog_twin(context))
    assert (len(measured), len(set_)) == (3, 2)  # after epochs 2 and 4, and after the training
    for found, put_ranges in zip(measured, set_, strict=False):
        mean = {fqn: 0.75 * mean[fqn] + 0.25 * found[fqn] for fqn in found}
        assert put_ranges == pytest.approx(mean, rel=1e-6)
    assert ranges_of(model) == pytest.approx(measured[-1])


def test_ranges_of_a_compiled_model_are_measured_eagerly(tmp_path: Path):
    """Cause: compiled code runs neither the hooks that record inputs nor digital layers."""
    model, _, context = retrained(tmp_path, max_epochs=1, recalibrate_every=1)
    work = lionheart.jobs.retraining._Retraining(context, model, context.streams.scope("retraining", 0))

    def refuse(*args: Any) -> None:
        raise AssertionError

    model._compiled_call_impl = refuse
    work.recalibrate(0)
    assert model._compiled_call_impl is refuse


def test_evaluations_are_paired_and_the_best_weights_are_kept(tmp_path: Path):
    model, trace, context = retrained(tmp_path, **{**FULL, "recalibrate_every": None})
    assert [each.epoch for each in trace.evaluations] == [0, 1, 2, 3]
    best = min(each.drop_pp for each in trace.evaluations)
    assert [each.drop_pp for each in trace.evaluations if each.epoch == trace.kept_epoch] == [best]
    work = lionheart.jobs.retraining._Retraining(context, model, context.streams.scope("retraining", 0))
    assert work.evaluate() == best  # the same chips again
    assert model.training


def test_weights_before_the_retraining_are_kept_if_it_only_harms(tmp_path: Path):
    model, trace, context = retrained(
        tmp_path, **{**FULL, "learning_rate": 5.0, "ema_decay": None, "noise_warmup": 0.0}
    )
    assert trace.kept_epoch == 0
    before = analog_twin(context).state_dict()
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_a_backend_without_strengths_of_noise_is_refused():
    settings = make_settings(train={"noise_warmup": 0.2}).replace(backend="another")
    with pytest.raises(ConfigError, match=r"train.noise_warmup: got 0.2 with backend='another'"):
        check_task(build_task(), settings)


def test_spared_layers_are_named_and_have_no_limit():
    """The largest weights of layer 7 never see an input, and carry nothing; one of layer 3 carries its output."""
    task = build_task()
    with torch.no_grad():
        task.model[3].weight[0, 0, 0, 0] = 40 * task.model[3].weight.abs().max()
    notes: list[str] = []

    class Notes:
        def note(self, text: str) -> None:
            notes.append(text)

    settings = make_settings(tile={"output_noise": 0.02, "hwa": {**HWA, "weight_clip_spares": True}})
    context = make_context(task, settings)
    object.__setattr__(context, "progress", Notes())
    limits = compute_weight_limits(context)
    assert notes == ["not clipped in retraining, because a few large weights carry most of the outputs: 3"]
    assert {fqn: bool(limit.isinf()) for fqn, limit in limits.items()} == {"0": False, "3": True, "7": False}


# ---------------------------------------------------------------------------------------------------------- whole runs


def full_settings() -> MapSettings:
    tile = {"hwa": {**HWA, "weight_noise_kind": "device", "weight_clip_spares": True}}
    return make_settings(train=FULL, tile=tile, search={"max_epochs": 12})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> MappingResult:
    return map_layers(build_task(), full_settings(), run_dir=tmp_path_factory.mktemp("runs") / "whole")


def state_of(result: MappingResult) -> dict[str, Tensor]:
    return dict(result.model.state_dict())


def test_the_record_says_which_weights_were_kept(whole: MappingResult):
    traces = [decision.train for decision in whole.results.decisions]
    assert all(len(trace.evaluations) == 4 for trace in traces)
    for trace in traces:
        drops = {each.epoch: each.drop_pp for each in trace.evaluations}
        assert trace.kept_epoch in drops
        assert drops[trace.kept_epoch] == min(drops.values())


@pytest.mark.parametrize("n_saves", [1, 3, 6])
def test_a_killed_run_gives_the_same(
    n_saves: int, whole: MappingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    left, save = [n_saves], lionheart.training.loop.save_training_state

    def save_or_die(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(lionheart.training.loop, "save_training_state", save_or_die)
        with pytest.raises(KilledError):
            map_layers(build_task(), full_settings(), run_dir=tmp_path / "run")
    again = resume_run(build_task(), tmp_path / "run")
    assert again.mapping == whole.mapping
    expected = state_of(whole)
    assert [name for name, each in state_of(again).items() if not torch.equal(each, expected[name])] == []
    traces = [[decision.train.replace(elapsed_s=0.0) for decision in run.results.decisions] for run in (again, whole)]
    assert traces[0] == traces[1]


def test_a_run_with_a_budget_of_minutes(tmp_path: Path):
    settings = make_settings(train={"minutes": 0.01, "max_epochs": 500}, search={"strategy": "all-analog"})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    [trace] = [decision.train for decision in result.results.decisions if decision.train.losses]
    assert trace.planned_steps == trace.n_steps < 4 * 500
    assert trace.outcome == "cap"
