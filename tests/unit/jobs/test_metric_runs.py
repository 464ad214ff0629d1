"""Whole small runs with metrics that are not shares of correct samples: regression, segmentation, F1 over a set, a loss.

Before, every score was a share: a negative RMSE was printed as "-228.61 %", a bound of 10 meant 0.1 of its unit, and a metric
over a whole set could not be given at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lionheart
import lionheart.jobs.bound
from lionheart.errors import ConfigError, NumericsError
from lionheart.evaluation import ChipEnsemble, evaluate_accuracy, evaluate_over_chips, score_samples
from lionheart.jobs import MapSettings, map_layers, profile_layers, resume_run
from lionheart.metrics import (
    MAE,
    RMSE,
    Metric,
    corpus_f1,
    macro_f1,
    mean_iou,
    root_mean_squared_error,
    token_accuracy,
)
from lionheart.report import report_run
from lionheart.rng import RandomStreams
from lionheart.tasks import Task

SMALL: dict[str, Any] = {
    "n_chips": 3,
    "n_chips_final": 3,
    "strategy": "training-free",
    "report_times": ["1s"],
    "tile": {"rows": 32, "cols": 32, "hwa": {"weight_clip_sigma": None}},
}


def draw_net(*layers: nn.Module) -> nn.Sequential:
    net = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator))
    return net


def make_task(
    net: nn.Module, shape: tuple[int, ...], label: Callable[[Tensor, Tensor], Tensor], metric: Metric, loss: Any
) -> Task:
    """Return a task whose targets are outputs of the network with an error that `label` adds to them."""
    generator = torch.Generator().manual_seed(2)

    def draw() -> list[tuple[Tensor, Tensor]]:
        inputs = torch.randn(96, *shape, generator=generator)
        with torch.no_grad():
            outputs = net(inputs)
        targets = label(outputs, torch.randn(outputs.shape, generator=generator))
        return list(zip(inputs.split(32), targets.split(32), strict=True))

    return Task(net, draw(), draw(), draw(), metric=metric, loss=loss, name="own")


def regression(metric: Metric, scale: float = 1.0) -> Task:
    net = draw_net(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 1))
    return make_task(net, (12,), lambda y, noise: scale * (y + 0.1 * noise), metric, nn.functional.mse_loss)


def segmentation(metric: Metric) -> Task:
    net = draw_net(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    return make_task(net, (2, 6, 6), lambda y, noise: (y + 0.1 * noise).argmax(1), metric, nn.functional.cross_entropy)


def tagging(metric: Metric) -> Task:
    net = draw_net(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())

    return make_task(net, (10, 6), lambda y, noise: (y + 0.1 * noise).argmax(-1), metric, loss)


# ---------------------------------------------------------------------------------------------------------- whole runs


@pytest.mark.parametrize(
    ("task", "bound", "max_drop", "shown"),
    [
        (regression(root_mean_squared_error("K")), 0.5, 0.5, "0.5 K"),
        (regression(MAE), "0.5 MAE", 0.5, "0.5 MAE"),
        (regression(root_mean_squared_error("K")), "900 % rel", None, "(900 % of the digital RMSE)"),
        (segmentation(mean_iou(3)), 30, 30.0, "30 pp"),
        (segmentation(mean_iou(3)), "40 % rel", None, "(40 % of the digital mIoU)"),
        (tagging(corpus_f1(4)), "30 F1 points", 30.0, "30 F1 points"),
        (tagging(token_accuracy()), "30 pp", 30.0, "30 pp"),
    ],
    ids=lambda value: getattr(getattr(value, "metric", None), "name", None),
)
def test_a_run_uses_the_unit_and_the_direction_of_its_metric(
    task: Task, bound: float | str, max_drop: float | None, shown: str, tmp_path: Path
):
    metric = task.metric
    result = lionheart.map_layers(task, max_drop=bound, run_dir=tmp_path / "run", **SMALL)
    results = result.results
    digital = evaluate_accuracy(task.model, task.validation, metric)
    assert results.baseline.validation_accuracy == pytest.approx(digital)
    factor = (1 if metric.kind == "plain" else 100) * (-1 if metric.rises_with_drop else 1)
    assert results.validation_drop_pp == pytest.approx(factor * (digital - results.validation.mean), abs=1e-9)
    if max_drop is None:
        max_drop = float(str(bound).split()[0]) / 100 * abs(factor) * digital
    assert results.max_drop_pp == pytest.approx(max_drop)
    assert result.mapping.analog, "the bound is wide, so something goes on tiles"
    for decision in results.decisions:
        assert decision.accepted == (decision.drop_ucb_pp <= max_drop)
        assert decision.accuracy.n_samples == 96  # a picture or a sentence is one sample
    stored = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (stored["metric"]["name"], stored["metric"]["drop_unit"]) == (metric.name, metric.drop_unit)
    for text in (str(result), report_run(tmp_path / "run").read_text().replace("\u00a0", " ")):
        assert shown in text
        assert metric.name in text
        assert (" pp" in text) == (metric.drop_unit == "pp")
    evaluated = lionheart.evaluate_run(task, tmp_path / "run", times="1s", n_chips=3)
    assert evaluated.accuracy_over_time[0].scores == pytest.approx(results.test_over_time[0].scores)
    assert evaluated.accuracy_over_time[0].n_samples == 96


def test_a_run_without_a_bound_allows_one_percent_of_the_digital_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task, measured = regression(RMSE), []
    measure = lionheart.jobs.bound.measure_digital
    monkeypatch.setattr(
        lionheart.jobs.bound, "measure_digital", lambda *args: measured.append(measure(*args)) or measured[-1]
    )
    result = map_layers(task, MapSettings.preset("quick", **SMALL), run_dir=tmp_path / "run")
    assert len(measured) == 1  # the check before the run directory exists and the run share the value
    assert result.results.max_drop_pp == pytest.approx(0.01 * evaluate_accuracy(task.model, task.validation, RMSE))
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["search"]
    assert (settings["max_drop"], settings["max_drop_pp"]) == ("1 % rel", None)
    again = resume_run(task, tmp_path / "run")
    assert again.results == result.results


def test_an_absolute_bound_of_a_share_is_stored_in_pp(tmp_path: Path):
    task = segmentation(mean_iou(3))
    lionheart.map_layers(task, max_drop="2 pp", run_dir=tmp_path / "run", **SMALL)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["search"]
    assert (settings["max_drop"], settings["max_drop_pp"]) == (None, 2.0)
    assert "max_drop" not in json.loads((tmp_path / "run" / "results.json").read_text())


def test_a_loss_may_be_the_metric_and_may_be_negative(tmp_path: Path):
    def minus_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1) - 5.0

    task = regression(Metric("loss", kind="plain", higher_is_better=False, compute=minus_likelihood))
    result = lionheart.map_layers(task, max_drop="10 % rel", run_dir=tmp_path / "run", **SMALL)
    baseline = result.results.baseline.validation_accuracy
    assert baseline < -4.9
    assert result.results.max_drop_pp == pytest.approx(-0.1 * baseline)
    assert result.results.validation.mean >= baseline  # the analog network is worse
    assert result.results.validation_drop_pp == result.results.validation.mean - baseline


def test_drops_far_below_a_billionth_count(tmp_path: Path):
    """Before, drops were rounded to 9 decimals and compared with a tolerance of 1e-9, whatever their unit."""
    task = regression(
        Metric("error", unit="m", higher_is_better=False, compute=lambda y, t: 1e-12 * (y - t).abs().mean(1))
    )
    result = lionheart.map_layers(task, max_drop=1e-15, run_dir=tmp_path / "run", **SMALL)
    assert not result.mapping.analog
    assert all(decision.drop_pp > 1e-15 for decision in result.results.decisions)


# --------------------------------------------------------------------------------------------------------- wrong bounds


def constant(value: float) -> Metric:
    return Metric("level", unit="dB", compute=lambda outputs, targets: torch.full((len(outputs),), value))


@pytest.mark.parametrize(
    ("metric", "bound", "message"),
    [
        (
            RMSE,
            {"max_drop_pp": 10},
            "max_drop_pp: got 10 in percentage points, but a drop of the RMSE has the unit 'RMSE'",
        ),
        (RMSE, {"max_drop": "2 pp"}, "search.max_drop: got '2 pp', but a drop of the RMSE has the unit 'RMSE'"),
        (root_mean_squared_error("K"), {"max_drop": "2 mm"}, "got '2 mm', but a drop of the RMSE has the unit 'K'"),
        (RMSE, {"max_drop": "2 % rel", "max_drop_pp": 1}, "max_drop_pp: got 1.0 together with max_drop='2 % rel'"),
        (
            constant(0.0),
            {"max_drop": "2 % rel"},
            "relative bound '2 % rel', but the digital network's level is 0.000 dB",
        ),
        (constant(1.0), {"max_drop": "100 %"}, "got '100 %', expected less than 100 %"),
        (constant(1.0), {"max_drop": "0 dB"}, "max_drop: got '0 dB', expected a finite number above 0"),
        (constant(1.0), {"max_drop": float("inf")}, "max_drop: got inf, expected a finite number above 0"),
        (constant(1.0), {"max_drop": True}, "max_drop: got True, expected a number or a number with a unit"),
        (RMSE, {"max_drop": 1, "confidence_level": 0.9}, "the RMSE is computed over the whole set"),
        (
            replace(MAE, name="share", kind="share"),
            {"max_drop": "2 %"},
            "which itself is in percent; expected a clear unit",
        ),
    ],
)
def test_a_wrong_bound_is_refused_before_anything_is_written(
    metric: Metric, bound: dict[str, Any], message: str, tmp_path: Path
):
    with pytest.raises(ConfigError) as caught:
        lionheart.map_layers(regression(metric), run_dir=tmp_path / "run", **bound, **SMALL)
    assert message in str(caught.value)
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("bound", [0.5, "50 % rel"])
def test_a_run_that_fails_before_its_first_decision_leaves_no_folder(bound: float | str, tmp_path: Path):
    """Cause: the value of a relative bound in the journal counted as a result of the search, so the folder was kept."""
    task = regression(MAE)
    batches = list(task.train.epoch(torch.Generator()))
    batches[2][0][0, 0] = float("nan")
    search = {**SMALL, "strategy": "lionheart", "train": {"max_epochs": 1, "steps_per_epoch": None}}
    with pytest.raises(NumericsError, match=r"Task\.train: batch 3"):
        lionheart.map_layers(replace(task, train=batches), max_drop=bound, run_dir=tmp_path / "run", **search)
    assert list(tmp_path.iterdir()) == []


def test_a_constant_metric_has_no_drop(tmp_path: Path):
    result = lionheart.map_layers(regression(constant(-3.0)), max_drop="1 % rel", run_dir=tmp_path / "run", **SMALL)
    assert len(result.mapping.analog) == 2
    assert result.results.max_drop_pp == pytest.approx(0.03)
    assert result.results.validation_drop_pp == 0


def test_a_confidence_level_holds_for_the_mean_of_an_error(tmp_path: Path):
    search = {**SMALL, "confidence_level": 0.9, "validation_samples": None}
    result = lionheart.map_layers(regression(MAE), max_drop=1.0, run_dir=tmp_path / "run", **search)
    [test] = result.results.holdout_tests
    assert test.accepted
    assert 0 < test.drop.drop_pp < test.drop.drop_ucb_pp < 1.0


def test_the_yield_of_a_metric_over_the_set_counts_bad_chips(tmp_path: Path):
    drops = []
    for name, chip_yield in (("mean", None), ("yield", 0.9)):
        search = {**SMALL, "chip_yield": chip_yield}
        result = lionheart.map_layers(regression(RMSE), max_drop=2.0, run_dir=tmp_path / name, **search)
        drops.append(result.results.decisions[0].drop_ucb_pp)
    assert drops[1] > drops[0] > 0  # a bad chip has a higher error


# ---------------------------------------------------------------------------------------- evaluation, profile, front


def test_the_score_of_a_chip_is_that_of_the_whole_set_not_the_mean_over_batches():
    task, metric = regression(RMSE), RMSE
    model = task.model
    lionheart.convert_to_analog_(model, lionheart.TileSpec(rows=32, cols=32))
    lionheart.calibrate_(model, task.train)
    kept: list[Tensor] = []

    def finish(squares: Tensor) -> Tensor:
        kept.append(squares)
        return squares.mean().sqrt()

    watched = replace(metric, finish=finish)
    streams = RandomStreams(0)
    [point] = evaluate_over_chips(model, task.validation, watched, times=[1.0], n_chips=2, streams=streams)
    assert [tuple(each.shape) for each in kept] == [(96, 1), (96, 1)]
    assert point.scores == tuple(float(each.mean().sqrt()) for each in kept)
    assert (point.n_samples, point.samples) == (96, None)
    squares = Metric("MSE", kind="plain", higher_is_better=False, compute=metric.compute)
    [mean] = evaluate_over_chips(model, task.validation, squares, times=[1.0], n_chips=2, streams=streams)
    assert point.scores == pytest.approx([score**0.5 for score in mean.scores])  # the same chips


def test_chunks_of_chips_do_not_change_the_score_of_the_set(monkeypatch: pytest.MonkeyPatch):
    task = regression(RMSE)
    lionheart.convert_to_analog_(task.model, lionheart.TileSpec(rows=32, cols=32))
    lionheart.calibrate_(task.model, task.train)
    found = []
    for memory_bytes in (1, 1 << 30):
        ensemble = ChipEnsemble(
            task.model, n_chips=3, times=[1.0, 100.0], streams=RandomStreams(0), memory_bytes=memory_bytes
        )
        found.append(ensemble.evaluate(task.validation, RMSE).chips.tolist())
    assert found[0] == found[1]


def test_evaluate_shows_the_unit_and_the_worst_chip():
    task = regression(root_mean_squared_error("mm"))
    lionheart.convert_to_analog_(task.model, lionheart.TileSpec(rows=32, cols=32))
    lionheart.calibrate_(task.model, task.train)
    found = lionheart.evaluate(task.model, task.test, "1s", 3, metric=task.metric)
    text, [point] = str(found), found.accuracy_over_time
    assert "Lower values are better" in text
    assert text.splitlines()[-1].split()[-3:-1] == [f"{max(point.scores):.4g}", "mm"]
    assert "%" not in text.splitlines()[-1]


def test_a_profile_sorts_by_the_loss_of_quality(tmp_path: Path):
    profile = profile_layers(
        regression(RMSE), MapSettings.preset("quick", tile=SMALL["tile"]), n_chips=3, out=tmp_path / "p.json"
    )
    points = [row.over_time[0] for row in profile.projections]
    assert [point.drop_pp for point in points] == sorted((point.drop_pp for point in points), reverse=True)
    for point in points:
        assert point.drop_pp == pytest.approx(point.mean - profile.digital)
        assert point.drop_low_pp <= point.drop_pp <= point.drop_high_pp
        assert point.change.mean == pytest.approx(point.drop_pp)
    assert "scope" in json.loads((tmp_path / "p.json").read_text())["metric"]


@pytest.mark.parametrize("metric", [RMSE, MAE])
def test_a_front_prefers_the_lower_error(metric: Metric, tmp_path: Path):
    pytest.importorskip("optuna")
    task = regression(metric)
    settings = MapSettings.preset("quick", pareto={"n_trials": 4, "bounds": ("50 % rel", 5)}, **SMALL)
    found = lionheart.find_pareto_front(task, settings, run_dir=tmp_path / "front").results
    assert min(found.mappings, key=lambda row: row.accuracy.mean).on_front
    for row in found.mappings:
        assert row.drop_pp == pytest.approx(row.accuracy.mean - found.baseline.decision)
    assert [bound.max_drop for bound in found.bounds] == ["50 % rel", None]
    assert found.bounds[0].max_drop_pp == pytest.approx(0.5 * found.baseline.decision)
    assert found.bounds[1].max_drop_pp == 5
    assert found.rows[found.bounds[1].number].cost == min(row.cost for row in found.front_rows)
    assert (tmp_path / "front" / "mapping-5.json").exists()


def test_a_front_refuses_bounds_in_pp_for_an_error(tmp_path: Path):
    pytest.importorskip("optuna")
    settings = MapSettings.preset("quick", pareto={"bounds_pp": (1.0,)}, **SMALL)
    with pytest.raises(ConfigError, match="pareto.bounds_pp: got 1 in percentage points"):
        lionheart.find_pareto_front(regression(RMSE), settings, run_dir=tmp_path / "front")
    assert not (tmp_path / "front").exists()


def test_scores_of_samples_are_statistics_for_a_metric_over_the_set():
    task = tagging(macro_f1(4))
    assert score_samples(task.model, task.test, task.metric).shape == (96, 12)
    assert score_samples(task.model, task.test, token_accuracy()).shape == (96, 2)  # 960 tokens, 96 samples
