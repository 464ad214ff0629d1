"""A whole mapping in a blink: consistent results, budgets, exact undoing; killed anywhere and resumed, the same to the bit."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from paths import SUPPORT
from quadrants import build_loader_task, build_task, make_context, make_settings
from torch import nn

import lionheart.jobs.evaluate
import lionheart.jobs.map
import lionheart.jobs.problem
import lionheart.runs.journal
import lionheart.training.loop
from lionheart.analog import analog_layers, program_chip_
from lionheart.data import BatchSlice, take_samples
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import ChipEnsemble, evaluate_accuracy
from lionheart.files import read_json
from lionheart.jobs import MappingResult, estimate_run, evaluate_run, map_layers, resume_run
from lionheart.jobs.problem import MappingProblem
from lionheart.mapping import LayerMapping
from lionheart.record import Record
from lionheart.report import report_run
from lionheart.runs import (
    Decision,
    DigitalBaseline,
    Evaluation,
    HoldoutTest,
    Results,
    RunDescription,
    RunDirectory,
    SearchOutcome,
)
from lionheart.search import Trial
from lionheart.system import CoresRequest, audit_coverage
from lionheart.tasks import Task, accuracy_scores

FINAL_FILES = {
    "run.json",
    "graph.json",
    "journal.jsonl",
    "mapping.json",
    "weights.safetensors",
    "results.json",
    ".lock",
}


pytestmark = pytest.mark.usefixtures("small_noise_pool")


class KilledError(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> MappingResult:
    """The run that nobody killed."""
    return map_layers(build_task(), make_settings(), run_dir=tmp_path_factory.mktemp("unbroken") / "run")


def timeless(data: Any) -> Any:
    """Return plain data without wall times, the one thing that two equal runs do not share."""
    if isinstance(data, Record):
        return timeless(data.to_json())
    if isinstance(data, Mapping):
        return {k: timeless(v) for k, v in data.items() if k not in ("elapsed_s", "final_figures_s")}
    return [timeless(item) for item in data] if isinstance(data, (list, tuple)) else data


def assert_same_state(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert list(one) == list(other)
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


def assert_same_run(one: MappingResult, other: MappingResult) -> None:
    assert one.mapping == other.mapping
    assert timeless(one.results) == timeless(other.results)
    assert_same_state(one.model.state_dict(), other.model.state_dict())
    weights = [result.run.file("weights.safetensors").read_bytes() for result in (one, other)]
    assert weights[0] == weights[1]


def files_of(run: RunDirectory) -> set[str]:
    return {path.name for path in run.path.iterdir()}


def decisions_of(run: RunDirectory) -> tuple[Decision, ...]:
    """Return the decisions that the journal has."""
    return tuple(run.journal.read(f"decision {index}", Decision) for index in range(run.journal.count("decision")))


# --------------------------------------------------------------------------------------------------------- end to end


def test_the_folder_holds_the_result(mapped: MappingResult):
    run = mapped.run
    assert files_of(run) == FINAL_FILES
    assert LayerMapping.load(run.file("mapping.json")) == mapped.mapping
    assert run.results() == mapped.results
    assert read_json(run.file("results.json")) == mapped.results.to_json()
    assert read_json(run.file("graph.json"))["projections"][1]["fqn"] == "3"
    events = [event["event"] for event in run.journal.events()]
    assert events == ["baseline", "decision 0", "decision 1", "decision 2", "finished"]
    assert decisions_of(run) == mapped.results.decisions
    assert run.description().settings == make_settings().to_json()


def test_the_example_has_every_kind_of_decision(mapped: MappingResult):
    """Otherwise the kills below would not meet keeping, undoing, and keeping after undoing."""
    verdicts = {each.fqn: each.accepted for each in mapped.results.decisions}
    assert verdicts == {"3": True, "7": False, "0": True}
    assert list(verdicts) == ["3", "7", "0"]  # 576, 512 and 216 weights
    assert mapped.outcome is SearchOutcome.MAPPED


def test_results_agree_with_each_other(mapped: MappingResult):
    results = mapped.results
    assert mapped.mapping.analog == ("0", "3")
    assert results.mapping == mapped.mapping
    assert set(analog_layers(mapped.model)) == {"0", "3"}
    # MACs: 27*8*64 + 72*8*16 of these and 128*4; tiles of 32x32: 1 for 27x8, 3 for 72x8
    assert results.analog_mac_share == pytest.approx((13_824 + 9_216) / (13_824 + 9_216 + 512))
    assert results.analog_weight_share == pytest.approx((216 + 576) / (216 + 576 + 512))
    assert results.n_tiles == 1 + 3
    assert results.n_steps == 3 * 2 * 4
    assert results.elapsed_s == pytest.approx(sum(each.elapsed_s for each in results.decisions))
    baseline = results.baseline.validation_accuracy
    for each in results.decisions:
        assert each.drop_pp == pytest.approx(100 * (baseline - each.accuracy.mean))
        assert each.drop_ucb_pp == each.drop_pp
        assert each.accepted == (each.drop_pp <= 20.0)
        assert each.accuracy.t_inference == 86_400.0
        assert len(each.accuracy.scores) == 2
    assert results.validation_drop_pp == pytest.approx(100 * (baseline - results.validation.mean))
    assert [each.t_inference for each in results.test_over_time] == [1.0, 3_600.0, 86_400.0]
    assert [each.platform for each in results.system] == ["alpine-high-power", "alpine-low-power"]
    placed = {layer.fqn: layer.placement for layer in results.system[0].layers}
    assert placed == {"0": "analog", "3": "analog", "7": "digital"}


def test_figures_are_of_the_right_model_and_split(mapped: MappingResult):
    task = build_task()
    baseline = mapped.results.baseline
    assert baseline.validation_accuracy == evaluate_accuracy(task.model, task.validation, accuracy_scores)
    assert baseline.test_accuracy == evaluate_accuracy(task.model, task.test, accuracy_scores)
    digital = build_task().model
    plain = {k: v for k, v in mapped.model.state_dict().items() if "analog_" not in k}
    digital.load_state_dict(plain)
    assert mapped.results.retrained_test_accuracy == evaluate_accuracy(digital, task.test, accuracy_scores)
    n_chips, n_test = 2, 96
    for each in mapped.results.test_over_time:
        assert all(float(score * n_test).is_integer() for score in each.scores)
        assert each.n_chips == n_chips
    # fresh chips, and not those that decided: with this much noise no two agree to the last sample
    assert mapped.results.validation.scores != mapped.results.decisions[-1].accuracy.scores


def test_the_tasks_own_model_is_untouched(tmp_path: Path):
    task = build_task()
    state = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    modes = {name: module.training for name, module in task.model.named_modules()}
    random_state = torch.get_rng_state()
    result = map_layers(task, make_settings(), run_dir=tmp_path / "run")
    assert_same_state(task.model.state_dict(), state)
    assert {name: module.training for name, module in task.model.named_modules()} == modes
    assert not analog_layers(task.model)
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    moved = [n for n, t in result.model.state_dict().items() if n in state and not torch.equal(t, state[n])]
    assert {"0.weight", "3.weight", "7.weight", "1.running_mean"} <= set(moved)  # the whole network retrains


def test_the_model_comes_back_ready_to_program(mapped: MappingResult):
    model, pictures = mapped.model, next(build_task().test.epoch(torch.Generator()))[0]
    assert not any(layer.is_programmed for layer in analog_layers(model).values())
    program_chip_(model, torch.Generator().manual_seed(0))
    assert model.eval()(pictures).shape == (32, 4)
    lionheart.analog.clear_chip_(model)


def test_the_seed_decides_everything(mapped: MappingResult, tmp_path: Path):
    again = map_layers(build_task(), make_settings(), run_dir=tmp_path / "again")
    assert_same_run(again, mapped)
    other = map_layers(build_task(), make_settings(seed=1), run_dir=tmp_path / "other")
    assert not torch.equal(other.model.state_dict()["3.weight"], mapped.model.state_dict()["3.weight"])


def test_a_finished_run_is_loaded_as_it_is(mapped: MappingResult):
    journal = mapped.run.file("journal.jsonl").read_bytes()
    loaded = resume_run(build_task(), mapped.run.path)
    assert_same_run(loaded, mapped)
    assert loaded.outcome is mapped.outcome
    assert mapped.run.file("journal.jsonl").read_bytes() == journal


def test_excluded_layers_stay_digital_and_untried(tmp_path: Path):
    settings = make_settings(search={"exclude": ["0", "[7]"]})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    assert [each.fqn for each in result.results.decisions] == ["3"]
    assert result.mapping.analog == ("3",)
    reasons = {row["fqn"]: row["reason"] for row in read_json(result.run.file("graph.json"))["candidates"]}
    assert reasons == {"0": "kept digital by the user", "3": "", "7": "kept digital by the user"}


def test_everything_excluded_is_infeasible(tmp_path: Path):
    result = map_layers(build_task(), make_settings(search={"exclude": ["*"]}), run_dir=tmp_path / "run")
    assert result.outcome is SearchOutcome.INFEASIBLE
    assert result.results.decisions == ()


@pytest.mark.filterwarnings("ignore::lionheart.errors.CalibrationWarning")
def test_an_impossible_bound_is_infeasible_and_leaves_the_weights(tmp_path: Path):
    settings = make_settings(search={"max_drop_pp": 0.001}, tile={"output_noise": 50.0})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    assert result.outcome is SearchOutcome.INFEASIBLE
    assert result.mapping.analog == ()
    assert len(result.results.decisions) == 3
    assert_same_state(result.model.state_dict(), build_task().model.state_dict())
    assert (result.results.analog_mac_share, result.results.n_tiles) == (0.0, 0)
    assert [each.speedup for each in result.results.system] == [1.0, 1.0]
    assert files_of(result.run) == FINAL_FILES


def test_a_task_of_data_loaders(tmp_path: Path):
    results = [map_layers(build_loader_task(), make_settings(), run_dir=tmp_path / str(i)) for i in range(2)]
    assert results[0].mapping.analog
    assert len(results[0].results.decisions) == 3
    assert_same_run(*results)  # the loader's shuffling follows the run's seed


def test_final_figures_on_the_first_samples_only(tmp_path: Path):
    settings = make_settings(search={"final_samples": 25, "exclude": ["0", "7"]})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    results, task = result.results, build_task()
    assert results.final_samples == 25
    figures = [*results.validation_over_time, *results.test_over_time]
    assert {each.n_samples for each in figures} == {25}
    assert all(round(score * 25, 9).is_integer() for each in figures for score in each.scores)
    for split, source in (("validation", task.validation), ("test", task.test)):
        expected = evaluate_accuracy(task.model, source.take(25), task.metric)
        assert getattr(results.baseline, f"{split}_accuracy") == pytest.approx(expected)
    assert round(results.retrained_test_accuracy * 25, 9).is_integer()
    drop_pp = 100 * (results.baseline.validation_accuracy - results.validation.mean)
    assert results.validation_drop_pp == pytest.approx(drop_pp)
    whole = map_layers(build_task(), make_settings(search={"exclude": ["0", "7"]}), run_dir=tmp_path / "whole")
    assert whole.results.decisions[0].accuracy == results.decisions[0].accuracy  # decides nothing
    page = (report_run(tmp_path / "run")).read_text(encoding="utf-8")
    assert "on the first 25 test samples" in page
    assert "on the test set" not in page


def test_decisions_on_the_first_samples_only(tmp_path: Path):
    settings = make_settings(search={"validation_samples": 40, "exclude": ["0", "7"]})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    accuracy = result.results.decisions[0].accuracy
    assert accuracy.n_samples == 40
    assert all(round(score * 40, 9).is_integer() for score in accuracy.scores)
    baseline = result.run.journal.read("baseline", DigitalBaseline)
    assert baseline.validation == result.results.baseline.validation_accuracy
    source = build_task().validation
    assert take_samples(source, None) is source
    assert take_samples(source, 40).n_samples == 40
    whole_batches = take_samples(build_loader_task().validation, 40)
    assert isinstance(whole_batches, BatchSlice)
    assert [len(y) for _, y in whole_batches.epoch(torch.Generator())] == [32, 32]
    for n_samples in (0, -1):
        with pytest.raises(ConfigError, match=f"samples: got {n_samples}, expected a number > 0"):
            take_samples(source, n_samples)


# ----------------------------------------------------------------------------------------------------------- promises


def test_a_promise_decides_on_half_and_tests_on_the_rest(tmp_path: Path):
    result = map_layers(
        build_task(), make_settings(search={"confidence_level": 0.8, "max_drop_pp": 30.0}), run_dir=tmp_path / "run"
    )
    for each in result.results.decisions:
        assert each.accuracy.n_samples == 64
        assert each.drop_ucb_pp > each.drop_pp
        assert each.accepted == (each.drop_ucb_pp <= 30.0)
    tests, journal = result.results.holdout_tests, result.run.journal
    assert tuple(journal.read(f"holdout {number}", HoldoutTest) for number in range(journal.count("holdout"))) == tests
    assert tests[0].drop.confidence == pytest.approx(0.9)
    assert tests[0].accuracy.n_samples == 64
    assert list(tests[0].analog) == [each.fqn for each in result.results.decisions if each.accepted][::-1]
    assert tests[-1].accepted == bool(result.mapping.analog)


def test_an_impossible_promise_ends_all_digital_with_the_tasks_weights(tmp_path: Path):
    """Retraining may have moved the weights; what is promised is the network that the user brought."""
    settings = make_settings(search={"confidence_level": 0.999_999_9, "strategy": "all-analog", "max_drop_pp": 0.5})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    assert result.outcome is SearchOutcome.INFEASIBLE
    assert result.mapping.analog == ()
    assert result.results.holdout_tests
    assert not any(test.accepted for test in result.results.holdout_tests)
    assert_same_state(result.model.state_dict(), build_task().model.state_dict())
    assert result.results.validation_drop_pp == pytest.approx(0)


def test_a_promise_needs_samples_to_hold_out(tmp_path: Path):
    settings = make_settings(search={"confidence_level": 0.9, "validation_samples": 128})
    with pytest.raises(ConfigError, match="128 samples for decisions leave none for the hold-out test"):
        map_layers(build_task(), settings, run_dir=tmp_path / "run")


def test_a_lifetime_counts_its_worst_time(tmp_path: Path):
    settings = make_settings(search={"lifetime": "1h", "include": ["3"], "max_drop_pp": 90.0})
    result = map_layers(build_task(), settings, run_dir=tmp_path / "run")
    over_time = result.results.validation_over_time
    assert [each.t_inference for each in over_time] == [1.0, 10.0, 100.0, 1000.0, 3600.0]
    assert result.results.validation.mean == min(each.mean for each in over_time)
    assert result.results.decisions[0].accuracy.t_inference in {each.t_inference for each in over_time}
    assert {1.0, 3600.0, 86_400.0} <= {each.t_inference for each in result.results.test_over_time}


def test_a_yield_asks_more_than_the_mean(tmp_path: Path):
    limits = []
    for number, chip_yield in enumerate((None, 0.9)):
        search = {"chip_yield": chip_yield, "include": ["3"], "n_chips": 4, "max_drop_pp": 90.0}
        run_dir = tmp_path / str(number)
        mapped = map_layers(build_task(), make_settings(search=search), run_dir=run_dir)
        limits.append(mapped.results.decisions[0].drop_ucb_pp)
    assert limits[1] > limits[0]


def test_a_measurement_that_may_stop_early_stops_when_it_is_clear(tmp_path: Path):
    """Everything analog is far beyond a bound of 1 pp here, as a few samples show; what is kept is measured to the end."""
    for number, (bound, verdict) in enumerate(((1.0, False), (90.0, True))):
        settings = make_settings(
            search={"strategy": "exhaustive", "max_drop_pp": bound, "n_chips": 6}, tile={"output_noise": 3.0}
        )
        result = map_layers(build_task(), settings, run_dir=tmp_path / str(number))
        first = result.results.decisions[0]
        assert first.accepted is verdict
        assert (first.accuracy.n_samples == 128) is verdict


# ------------------------------------------------------------------------------------------------------------ budgets


def test_budget_of_epochs(tmp_path: Path):
    result = map_layers(build_task(), make_settings(search={"max_epochs": 3}), run_dir=tmp_path / "run")
    assert result.outcome is SearchOutcome.BUDGET
    assert [len(each.train.losses) for each in result.results.decisions] == [2, 1]
    assert [each.train.outcome for each in result.results.decisions] == ["cap", "budget"]
    assert result.mapping.analog == tuple(each.fqn for each in result.results.decisions if each.accepted)


def test_a_budget_that_is_just_enough_is_no_end(mapped: MappingResult, tmp_path: Path):
    enough = map_layers(build_task(), make_settings(search={"max_epochs": 6}), run_dir=tmp_path / "run")
    assert enough.outcome is SearchOutcome.MAPPED
    assert enough.mapping == mapped.mapping


def test_budget_of_minutes(tmp_path: Path):
    result = map_layers(build_task(), make_settings(search={"max_minutes": 1e-9}), run_dir=tmp_path / "run")
    assert result.outcome is SearchOutcome.BUDGET
    assert (result.mapping.analog, result.results.decisions) == ((), ())


def test_minutes_before_a_kill_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wire = Tripwire(monkeypatch, kill_at=("after decision", 0))
    with pytest.raises(KilledError):
        map_layers(build_task(), make_settings(search={"max_minutes": 60.0}), run_dir=tmp_path / "run")
    wire.undo()
    journal = tmp_path / "run" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert lines[-1]["event"] == "decision 0"
    lines[-1]["value"]["elapsed_s"] = 3_600.0
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = resume_run(build_task(), tmp_path / "run")
    assert result.outcome is SearchOutcome.BUDGET
    assert [each.fqn for each in result.results.decisions] == ["3"]


# ----------------------------------------------------------------------------------------- kill anywhere, then resume


class Tripwire:
    """Counts what a run does to its files and chips, and kills it at a chosen step.

    A step is a text and how often it came before, for example ``("before chip", 3)``.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_at: tuple[str, int] | int | None = None) -> None:
        self.steps: list[tuple[str, int]] = []
        self.kill_at, self.undo = kill_at, monkeypatch.undo
        for owner, name, step in (
            (lionheart.training.loop, "save_training_state", "epoch"),
            (lionheart.jobs.problem, "save_training_state", "keep"),
            (lionheart.jobs.problem, "load_training_state", "restore"),
            (ChipEnsemble, "program", "chip"),
            (lionheart.jobs.map, "save_weights", "weights"),
            (LayerMapping, "save", "mapping"),
        ):
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name), step))
        write = RunDirectory.write
        monkeypatch.setattr(RunDirectory, "write", lambda run, name, data: self._watched(write, name)(run, name, data))
        append = lionheart.runs.journal._append_line
        monkeypatch.setattr(lionheart.runs.journal, "_append_line", self._watched_append(append))

    def pass_(self, text: str) -> None:
        step = (text, sum(text == each for each, _ in self.steps))
        self.steps.append(step)
        if self.kill_at in (step, len(self.steps)):
            raise KilledError(step)

    def _watched(self, function: Callable[..., Any], step: str) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.pass_(f"before {step}")
            result = function(*args, **kwargs)
            self.pass_(f"after {step}")
            return result

        return watched

    def _watched_append(self, append: Callable[[Path, str], None]) -> Callable[[Path, str], None]:
        def watched(journal: Path, line: str) -> None:
            event = json.loads(line)["event"].partition(" ")[0]  # decisions 0, 1, ... are one kind of step
            before = journal.read_bytes() if journal.exists() else b""
            self.pass_(f"before {event}")
            append(journal, line)
            whole = journal.read_bytes()
            for share in (0.0, 0.3, 0.95):  # a kill in the middle of writing the line
                journal.write_bytes(whole[: len(before) + 1 + int(share * (len(whole) - len(before) - 1))])
                self.pass_(f"{share:.0%} of {event}")
            journal.write_bytes(whole)
            self.pass_(f"after {event}")

        return watched


def kill_and_resume(step: tuple[str, int], run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> MappingResult:
    with monkeypatch.context() as patch:
        Tripwire(patch, kill_at=step)
        with pytest.raises(KilledError):
            map_layers(build_task(), make_settings(), run_dir=run_dir)
    return resume_run(build_task(), run_dir)


KINDS = [
    *("after run.json", "before graph.json", "after graph.json"),
    *("before baseline", "0% of baseline", "30% of baseline", "95% of baseline", "after baseline"),
    *("before epoch", "after epoch", "before chip"),
    *("before keep", "after keep", "before restore", "after restore"),
    *("before decision", "0% of decision", "30% of decision", "95% of decision", "after decision"),
    *(
        "before weights",
        "after weights",
        "before mapping",
        "after mapping",
        "before results.json",
        "after results.json",
    ),
    *("before finished", "0% of finished", "30% of finished", "95% of finished", "after finished"),
]


@pytest.fixture(scope="module")
def all_steps(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    with pytest.MonkeyPatch.context() as patch:
        wire = Tripwire(patch)
        map_layers(build_task(), make_settings(), run_dir=tmp_path_factory.mktemp("steps") / "run")
    return wire.steps


def test_no_step_is_forgotten(all_steps: list[tuple[str, int]]):
    # before run.json there is nothing to resume, and after a chip comes nothing that is kept
    assert {text for text, _ in all_steps} - {"before run.json", "after chip"} == set(KINDS)
    assert sum(text == "before epoch" for text, _ in all_steps) == 3 * 2
    assert sum(text == "before chip" for text, _ in all_steps) == (3 + 1 + 1) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_is_the_same(
    kind: str,
    all_steps: list[tuple[str, int]],
    mapped: MappingResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    steps = [step for step in all_steps if step[0] == kind]
    for number, step in enumerate(steps):
        result = kill_and_resume(step, tmp_path / str(number), monkeypatch)
        assert_same_run(result, mapped)
        assert result.outcome is mapped.outcome
        assert files_of(result.run) == FINAL_FILES, step


SHARED = {"search": {"strategy": "shared", "max_drop_pp": 12.0}}
HESSIAN = {"search": {"strategy": "hessian", "max_drop_pp": 12.0}}
EXHAUSTIVE = {"search": {"strategy": "exhaustive", "max_drop_pp": 12.0}}
RANDOM = {"search": {"ranking": "random"}, "seed": 3}
PROMISED = {
    "search": {"confidence_level": 0.8, "chip_yield": 0.6, "strategy": "shared", "max_drop_pp": 25.0, "n_chips": 4},
    "tile": {"column_calibration": "affine"},
    "train": {"distillation": 0.5},
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search": {"max_epochs": 3}},
        {"train": {"precision": "bfloat16"}},
        SHARED,
        HESSIAN,
        EXHAUSTIVE,
        RANDOM,
        PROMISED,
    ],
)
def test_killed_again_and_again(changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    unbroken = map_layers(build_task(), make_settings(**changes), run_dir=tmp_path / "unbroken")
    draw = random.Random(20)  # noqa: S311
    with monkeypatch.context() as patch:
        Tripwire(patch, kill_at=10)
        with pytest.raises(KilledError):
            map_layers(build_task(), make_settings(**changes), run_dir=tmp_path / "run")
    for _ in range(7):
        with monkeypatch.context() as patch:
            Tripwire(patch, kill_at=draw.randint(1, 14))
            with pytest.raises(KilledError):
                resume_run(build_task(), tmp_path / "run")
    result = resume_run(build_task(), tmp_path / "run")
    assert_same_run(result, unbroken)
    assert decisions_of(result.run) == result.results.decisions
    events = [event["event"] for event in result.run.journal.events() if event["event"] != "resumed"]
    assert events == [event["event"] for event in unbroken.run.journal.events()]  # nothing was computed twice


def test_a_kill_before_there_is_a_run_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        Tripwire(patch, kill_at=("before run.json", 0))
        with pytest.raises(KilledError):
            map_layers(build_task(), make_settings(), run_dir=tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_between_making_the_run_and_its_graph(tmp_path: Path, mapped: MappingResult):
    """Only run.json is there: what Ctrl-C in the first moment leaves."""
    run = RunDirectory.create(tmp_path / "run", mapped.run.description())
    assert_same_run(resume_run(build_task(), run.path), mapped)


def test_leftovers_of_a_kill_are_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mapped: MappingResult):
    """A real kill leaves temporary files, and the trial's file once its decision is written; both used to stay."""
    with monkeypatch.context() as patch:
        Tripwire(patch, kill_at=("after decision", 1))
        with pytest.raises(KilledError):
            map_layers(build_task(), make_settings(), run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "trial-001.safetensors").exists()
    (tmp_path / "run" / "checkpoints" / ".trial-002.safetensors.abc").write_bytes(b"half")
    result = resume_run(build_task(), tmp_path / "run")
    assert files_of(result.run) == FINAL_FILES
    assert_same_run(result, mapped)


LIONHEART = [sys.executable, "-c", "from lionheart.cli import main; main()"]


@pytest.mark.slow
def test_sigkill_of_a_process(tmp_path: Path):
    settings = tmp_path / "tiny.toml"
    settings.write_text(
        '[search]\nmax_drop_pp = 20.0\nranking = "weights"\nn_chips = 2\nn_chips_final = 2\nreport_times = [1.0]\n'
        "[tile]\nrows = 32\ncols = 32\noutput_noise = 0.9\n"
        "[train]\nmax_epochs = 6\nsteps_per_epoch = 8\nlearning_rate = 0.01\n"
    )
    paths = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "80"}

    def start(name: str) -> tuple[subprocess.Popen[bytes], Path]:
        out = tmp_path / name
        arguments = ["map", "quadrants:build_task", "--config", str(settings), "--out", str(out)]
        with (tmp_path / f"{name}.log").open("wb") as log:
            return subprocess.Popen([*LIONHEART, *arguments], stderr=log, env=environment), out

    def wait_for_baseline(process: subprocess.Popen[bytes], out: Path) -> float:
        while not (out / "journal.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.002)
        return time.monotonic()

    process, whole = start("unkilled")
    begin = wait_for_baseline(process, whole)
    assert process.wait(timeout=120) == 0
    duration = time.monotonic() - begin
    expected = timeless(read_json(whole / "results.json"))

    draw = random.Random(7)  # noqa: S311
    for number in range(2):
        process, out = start(f"killed{number}")
        wait_for_baseline(process, out)
        time.sleep(draw.uniform(0.0, 0.6) * duration)
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL
        assert not (out / "results.json").exists()
        resumed = subprocess.run(
            [*LIONHEART, "map", "--trust-task", "--resume", str(out)], env=environment, capture_output=True, timeout=120
        )
        assert resumed.returncode == 0, resumed.stderr.decode()
        assert timeless(read_json(out / "results.json")) == expected
        assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
        assert (out / "mapping.json").read_bytes() == (whole / "mapping.json").read_bytes()


# --------------------------------------------------------------------------------------------------- resuming, refused


def test_another_network_is_refused(mapped: MappingResult, tmp_path: Path):
    task = build_task()
    wider = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(ArtifactError, match="the run belongs to another network"):
        resume_run(Task(wider, task.train, task.validation, task.test), mapped.run.path)


def test_a_run_is_not_started_twice_in_one_folder(mapped: MappingResult):
    with pytest.raises(ArtifactError, match="the directory already holds a run"):
        map_layers(build_task(), make_settings(), run_dir=mapped.run.path)


@pytest.mark.parametrize("file", ["run.json", "results.json", "weights.safetensors", "graph.json"])
def test_a_damaged_file_is_named(file: str, mapped: MappingResult, tmp_path: Path):
    copy = tmp_path / "run"
    copy.mkdir()
    for path in mapped.run.path.iterdir():
        whole = path.read_bytes()
        (copy / path.name).write_bytes(whole[: len(whole) // 2] if path.name == file else whole)
    with pytest.raises(ArtifactError, match=file.replace(".", r"\.")):
        resume_run(build_task(), copy)


@pytest.mark.parametrize("change", [{"outcome": "perfect"}, {"outcome": None}, {"mapping": None}, {"mapping": {}}])
def test_wrong_content_of_results_is_named(change: dict[str, Any], mapped: MappingResult, tmp_path: Path):
    """Was a KeyError or ValueError, reported as a bug in lionheart."""
    copy = tmp_path / "run"
    copy.mkdir()
    for path in mapped.run.path.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "results.json").write_text(json.dumps({**mapped.results.to_json(), **change}))
    with pytest.raises(ArtifactError, match=r"results\.json"):
        resume_run(build_task(), copy)


def as_version_1(results: Results) -> dict[str, Any]:
    """Return results as the version before wrote them."""
    renamed = {"metric": "measure", "retrained_test_accuracy": "test_digital_accuracy", "holdout_tests": "certificate"}
    data = {renamed.get(key, key): value for key, value in results.to_json().items()}
    data["reprogramming"] = data.pop("refresh")
    data["validation"]["drop_pp"] = data.pop("validation_drop_pp")
    for row in data["decisions"]:
        row["drop_ucb_pp"] = row.pop("drop_ucb_pp")
    return {**data, "schema_version": 1}


def test_a_run_of_version_1_is_read_but_does_not_go_on(mapped: MappingResult, tmp_path: Path):
    path = shutil.copytree(mapped.run.path, tmp_path / "run")
    (path / "run.json").write_text(json.dumps({**mapped.run.description().to_json(), "schema_version": 1}))
    (path / "results.json").write_text(json.dumps(as_version_1(mapped.results)))
    loaded = resume_run(build_task(), path)
    assert (loaded.results, loaded.mapping, loaded.outcome) == (mapped.results, mapped.mapping, mapped.outcome)
    assert_same_state(loaded.model.state_dict(), mapped.model.state_dict())
    assert (
        evaluate_run(build_task(), path, times=[1.0], n_chips=2).accuracy_over_time == mapped.results.test_over_time[:1]
    )
    (path / "results.json").unlink()
    before = (path / "journal.jsonl").read_bytes()
    with pytest.raises(ArtifactError, match=r"an older version started the run \(schema_version 1, expected 2\)"):
        resume_run(build_task(), path)
    assert (path / "journal.jsonl").read_bytes() == before


def test_a_damaged_line_of_the_journal_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        Tripwire(patch, kill_at=("after decision", 0))
        with pytest.raises(KilledError):
            map_layers(build_task(), make_settings(), run_dir=tmp_path / "run")
    journal = tmp_path / "run" / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"accepted": true', '"accepted": "perhaps"'))
    with pytest.raises(ArtifactError, match=r"journal\.jsonl: decision 0\.accepted: got a str, expected true or false"):
        resume_run(build_task(), tmp_path / "run")


def test_a_corrupt_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        Tripwire(patch, kill_at=("after decision", 0))
        with pytest.raises(KilledError):
            map_layers(build_task(), make_settings(), run_dir=tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "accepted.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"accepted\.safetensors: not a readable safetensors file"):
        resume_run(build_task(), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"strategy": "lionhart"}}, "search.strategy: got 'lionhart'"),
        ({"search": {"ranking": "mac"}}, "ranking: got 'mac'"),
        ({"search": {"exclude": ["9"]}}, "exclude: '9' matches no projection"),
        ({"platforms": ("alpine",)}, "platform: got 'alpine'"),
        ({"search": {"ranking": "energy"}, "platforms": ()}, "ranking: got 'energy', which needs a platform"),
    ],
)
def test_bad_settings_leave_no_folder(changes: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        map_layers(build_task(), make_settings(**changes), run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_fails_leaves_no_folder(tmp_path: Path):
    task = build_task()
    broken = Task(nn.Sequential(nn.Flatten(), nn.Linear(5, 4)), task.train, task.validation, task.test)
    with pytest.raises(
        ConfigError, match=r"Task\.validation: Sequential failed on the first batch, inputs \(32, 3, 8, 8\)"
    ):
        map_layers(broken, make_settings(), run_dir=tmp_path / "run")
    empty = Task(task.model, [], task.validation, task.test)
    with pytest.raises(ConfigError, match=r"Task\.train: got no batches"):
        map_layers(empty, make_settings(), run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------- exact undoing


def make_problem(path: Path) -> MappingProblem:
    run = RunDirectory.create(path, RunDescription(task="quadrants", seed=0, settings=make_settings().to_json()))
    return MappingProblem(make_context(build_task(), journal=run.journal), build_task().model, run)


def decide(index: int, fqn: str, trial: Trial, *, accepted: bool) -> Decision:
    return Decision(
        index=index, fqn=fqn, macs=1, accepted=accepted, accuracy=trial.accuracy, drop_pp=trial.drop_pp,
        drop_ucb_pp=trial.drop_ucb_pp, train=trial.train, elapsed_s=trial.elapsed_s,
    )  # fmt: skip


def settle(problem: MappingProblem, decision: Decision, mapping: LayerMapping) -> None:
    """Keep or undo a trial and write its decision down, as a search does."""

    def settle_it() -> Decision:
        (problem.commit if decision.accepted else problem.rollback)(decision, mapping)
        return decision

    assert problem.decide_once(decision.index, settle_it) == decision


def test_a_rejected_trial_leaves_no_trace(tmp_path: Path):
    """Weights, BatchNorm statistics, input ranges and momentum are those of the last accepted trial, to the bit."""
    problem = make_problem(tmp_path / "run")
    model, graph = problem.model, problem.context.graph
    start = LayerMapping.all_digital(graph)

    def state() -> dict[str, torch.Tensor]:
        tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for number, parameter in enumerate(model.parameters()):
            momentum = problem.optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum/{number}"] = momentum.clone()
        return tensors

    def try_and_settle(fqn: str, index: int, before: LayerMapping, *, accept: bool) -> LayerMapping:
        tried = LayerMapping.from_analog(graph, [*before.analog, fqn])
        trial = problem.try_mapping(tried, index, fqn, retrain=True, early_stop=False)
        after = tried if accept else before
        settle(problem, decide(index, fqn, trial, accepted=accept), after)
        return after

    original = state()
    assert try_and_settle("7", 0, start, accept=False) == start
    assert_same_state(state(), original)  # no momentum either: there was none
    assert not analog_layers(model)

    mapping = try_and_settle("3", 1, start, accept=True)
    kept = state()
    changed = {name for name in original if not torch.equal(kept[name], original[name])}
    assert {"0.weight", "1.running_mean", "1.running_var", "1.num_batches_tracked", "7.weight", "7.bias"} <= changed
    assert sum(name.startswith("momentum/") for name in kept) == len(list(model.parameters()))

    tried = LayerMapping.from_analog(graph, ["3", "0"])
    trial = problem.try_mapping(tried, 2, "0", retrain=True, early_stop=False)
    moved = state()
    assert not any(torch.equal(moved[name], kept[name]) for name in kept if "weight" in name and "bound" not in name)
    assert not any(torch.equal(moved[name], kept[name]) for name in kept if name.startswith("momentum/"))
    settle(problem, decide(2, "0", trial, accepted=False), mapping)
    assert_same_state(state(), kept)
    assert set(analog_layers(model)) == {"3"}
    parameters = {id(parameter) for parameter in model.parameters()}
    held = {id(parameter) for group in problem.optimizer.param_groups for parameter in group["params"]}
    assert held == parameters  # the optimiser moves the model's own parameters, not orphans


def test_undoing_without_a_retraining_reads_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A trial that left the weights alone is undone to the bit from memory: a walk over thousands of mappings reads no file."""
    problem = make_problem(tmp_path / "run")
    model, graph = problem.model, problem.context.graph

    def try_and_settle(index: int, tried: list[str], kept: LayerMapping, *, retrain: bool) -> None:
        mapping = LayerMapping.from_analog(graph, tried)
        trial = problem.try_mapping(mapping, index, "trial", retrain=retrain, early_stop=False)
        settle(problem, decide(index, "trial", trial, accepted=tuple(tried) == kept.analog), kept)

    kept = LayerMapping.from_analog(graph, ["0", "3"])
    try_and_settle(0, ["0", "3"], kept, retrain=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def refuse(*args: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(lionheart.jobs.problem, "load_training_state", refuse)
    monkeypatch.setattr(lionheart.jobs.problem, "save_training_state", refuse)
    for index, tried in enumerate((["0", "3", "7"], ["7"], ["0"], []), start=1):
        try_and_settle(index, tried, kept, retrain=False)
        assert_same_state(model.state_dict(), before)


def test_too_many_candidates_for_exhaustive_leave_no_folder(tmp_path: Path):
    task = build_task()
    deep = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), *[nn.Linear(4, 4) for _ in range(12)])
    many = Task(deep, task.train, task.validation, task.test)
    settings = make_settings(search={"strategy": "exhaustive"})
    with pytest.raises(ConfigError, match="at most 12 layers that may become analog, got 13"):
        map_layers(many, settings, run_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------- evaluate, simulate


def test_evaluation_repeats_the_runs_own_test_figures(mapped: MappingResult):
    times = [each.t_inference for each in mapped.results.test_over_time]
    found = evaluate_run(build_task(), mapped.run.path, times=times, n_chips=2)
    assert found.accuracy_over_time == mapped.results.test_over_time
    assert mapped.run.read("evaluation.json", Evaluation) == found
    other = evaluate_run(build_task(), mapped.run.path, times=times, n_chips=2, seed=99)
    assert other.accuracy_over_time != found.accuracy_over_time
    mapped.run.file("evaluation.json").unlink()


def test_the_same_evaluation_is_read_from_the_journal(
    mapped: MappingResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = shutil.copytree(mapped.run.path, tmp_path / "run")
    asked = {"times": [1.0, 3_600.0], "n_chips": 2, "n_samples": 40}
    found = evaluate_run(build_task(), path, **asked)
    run = RunDirectory.open(path)
    n_events = len(run.journal.events())
    run.file("evaluation.json").unlink()
    evaluate = lionheart.jobs.evaluate.evaluate_over_chips

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(lionheart.jobs.evaluate, "evaluate_over_chips", refuse)
    assert evaluate_run(build_task(), path, **asked) == found
    assert run.read("evaluation.json", Evaluation) == found
    assert len(RunDirectory.open(path).journal.events()) == n_events
    others = [
        {"times": [1.0]},
        {"n_chips": 3},
        {"n_samples": 41},
        {"n_samples": None},
        {"seed": 5},
        {"split": "validation"},
    ]
    for change in others:
        with pytest.raises(AssertionError, match="measured again"):
            evaluate_run(build_task(), path, **{**asked, **change})
    lionheart.training.save_weights(path / "weights.safetensors", mapped.model, {"another": "file"})
    with pytest.raises(AssertionError, match="measured again"):
        evaluate_run(build_task(), path, **asked)
    monkeypatch.setattr(lionheart.jobs.evaluate, "evaluate_over_chips", evaluate)
    again = evaluate_run(build_task(), path, **asked)
    assert again == found
    assert len(RunDirectory.open(path).journal.events()) == n_events + 1


def test_evaluation_of_bad_requests(mapped: MappingResult, tmp_path: Path):
    task, path = build_task(), mapped.run.path
    with pytest.raises(ConfigError, match="split: got 'train'"):
        evaluate_run(task, path, times=[1.0], split="train")
    with pytest.raises(ConfigError, match="samples: got 0"):
        evaluate_run(task, path, times=[1.0], n_samples=0)
    with pytest.raises(ConfigError, match="n_chips: got 0"):
        evaluate_run(task, path, times=[1.0], n_chips=0)
    assert not mapped.run.has("evaluation.json")
    unfinished = RunDirectory.create(tmp_path / "run", mapped.run.description())
    with pytest.raises(ArtifactError, match="the run has not finished") as caught:
        evaluate_run(task, unfinished.path, times=[1.0])
    assert f"--resume {unfinished.path}" in caught.value.hint


def test_simulation_repeats_the_runs_own_estimates(mapped: MappingResult):
    data = estimate_run(mapped.run.path, ["alpine-high-power", "alpine-low-power"])
    assert tuple(data) == mapped.results.system
    mapped.run.file("system.json").unlink()


def test_simulation_prices_the_tiles_of_each_layer(mapped: MappingResult, tmp_path: Path):
    """The tiles that a search chose for single layers were priced as the tile of the settings."""
    copied = tmp_path / "run"
    shutil.copytree(mapped.run.path, copied)
    before = estimate_run(copied, ["alpine-high-power"])[0]
    fqn = mapped.mapping.analog[0]
    stored = read_json(copied / "results.json")
    (copied / "results.json").write_text(json.dumps({**stored, "tiles": {fqn: {"n_reads": "4"}}}))
    cores = CoresRequest(n_cores=1, n_inferences=1)
    after = estimate_run(copied, ["alpine-high-power"], cores)[0]
    [row] = [layer for layer in after.layers if layer.policy]
    assert (row.fqn, row.policy.policy) == (fqn, "4 reads")
    added = after.mapped.latency_s - before.mapped.latency_s
    assert added == pytest.approx(row.policy.latency_s) == pytest.approx(3 * row.time_breakdown_s["process"])
    assert after.pipeline.mapped.latency_s == pytest.approx(after.mapped.latency_s)
    assert after.programming.n_devices == before.programming.n_devices


def test_inspection_needs_no_training():
    task = build_task()
    graph = task.trace()
    data = audit_coverage(graph, task.name, tile=make_settings().tile)
    assert [(row.fqn, row.n_tiles) for row in data.projections] == [("0", 1), ("3", 3), ("7", 4)]
    assert data.totals.macs_mappable == data.totals.macs == 13_824 + 9_216 + 512
    assert data.totals.n_tiles_all_analog == 8
