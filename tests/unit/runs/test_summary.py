"""The summary of a run: one record, whose words the terminal, ``results.json``, ``print`` and the page show.

The terminal ended with the drop on validation "within the bound" where the page said that the test drop exceeds it, and closed
with "100 % analog" where its table said 0.55×. ``results.json`` said neither, and no place named the layers that lose on tiles.
"""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import lionheart_command
from paths import SUPPORT

from lionheart.errors import ArtifactError, LionHeartWarning
from lionheart.jobs import load_result, map_layers, resume_run
from lionheart.metrics import PERPLEXITY, Metric
from lionheart.record import read_record
from lionheart.runs import Accuracy, Environment, Results, RunDirectory
from lionheart.runs.environment import compare_environments, find_environment_cautions
from lionheart.runs.summary import Summary
from lionheart.runs.upgrade import upgrade
from lionheart.tables import MOST_LINES

pytestmark = pytest.mark.usefixtures("small_noise_pool")

DAY, YEAR = 86_400.0, 31_536_000.0
WRITTEN = SUPPORT / "version_1"


def point(t: float, mean: float, half: float = 0.0, n_chips: int = 10) -> dict[str, Any]:
    return {
        "t_inference": t, "mean": mean, "low": mean - half, "high": mean + half, "std": 0.001, "n_chips": n_chips,
        "scores": [mean] * n_chips,
    }  # fmt: skip


def layer(fqn: str, analog: bool, factor: float) -> dict[str, Any]:
    return {
        "fqn": fqn, "placement": "analog" if analog else "digital", "n_tiles": int(analog), "latency_s": factor * 1e-6,
        "energy_j": factor * 1e-6, "digital_latency_s": 1e-6, "digital_energy_j": 1e-6,
    }  # fmt: skip


def system(platform: str, speedup: float, energy_gain: float, **layers: float) -> dict[str, Any]:
    digital = {"latency_s": 1e-3, "energy_j": 1e-3}
    return {
        "platform": platform, "all_digital": digital, "mapped": digital, "speedup": speedup, "energy_gain": energy_gain,
        "n_tiles": 3, "layers": [layer(fqn, factor != 1, factor) for fqn, factor in layers.items()],
    }  # fmt: skip


def make(
    validation: float = 0.90,
    test: float | None = 0.90,
    baseline: float | None = 0.91,
    half: float = 0.0,
    **changes: Any,
) -> Results:
    """Results with a bound of 1.5 pp and digital scores of 91 %."""
    data = {
        "schema_version": 2, "outcome": "mapped", "max_drop_pp": 1.5, "t_inference": DAY, "confidence": 0.95,
        "metric": {"name": "accuracy", "drop_unit": "pp", "kind": "share"},
        "mapping": {"schema_version": 1, "placements": {"a": "analog", "b": "analog", "c": "digital"}},
        "analog_mac_share": 0.8, "analog_weight_share": 0.7, "n_tiles": 3,
        "baseline": {"validation_accuracy": 0.91, "test_accuracy": baseline}, "validation": point(DAY, validation),
        "decisions": [], "test_over_time": [] if test is None else [point(1.0, 0.91), point(DAY, test, half)], **changes,
    }  # fmt: skip
    return Results.from_json(data, "results")


def codes(summary: Summary) -> list[str]:
    return [caution.code for caution in summary.cautions]


# -- the bound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("validation", "test", "words", "within"),
    [
        (0.90, 0.90, "kept on the test set 1 day after programming: drop 1.0 pp (validation: 1.0 pp, kept)", (True, True)),
        (0.90, 0.89, "exceeded on the test set 1 day after programming: drop 2.0 pp (validation: 1.0 pp, kept)", (True, False)),
        (0.89, 0.90, "drop 1.0 pp (validation: 2.0 pp, exceeded)", (False, True)),
        (0.91, 0.894999, "drop 1.5001 pp", (True, False)),
        (0.91, 0.92, "kept on the test set 1 day after programming: drop −1.0 pp (validation: 0.0 pp, kept)", (True, True)),
    ],
)  # fmt: skip
def test_the_conclusion_is_about_the_test_drop(validation: float, test: float, words: str, within: tuple[bool, bool]):
    summary = make(validation, test).summary
    assert words in summary.conclusion
    assert summary.conclusion.startswith("Bound of 1.5 pp ")
    assert (summary.validation.within_bound, summary.test.within_bound) == within


def test_of_the_times_at_which_the_bound_must_hold_the_worst_counts():
    times = [point(1.0, 0.91), point(DAY, 0.90), point(YEAR, 0.893)]
    results = make(validation_over_time=times, test_over_time=times, t_inference=DAY)
    test = results.summary.test
    assert (test.within_bound, test.t_inference, test.drop_pp) == (False, YEAR, 1.7)
    assert [check.is_required for check in test.over_time] == [True, True, True]
    assert "1 year after programming is 89.3 %" in results.summary.headline


def test_later_times_are_a_caution_and_not_the_conclusion():
    results = make(test_over_time=[point(DAY, 0.90), point(30 * DAY, 0.894), point(YEAR, 0.80)])
    summary = results.summary
    assert summary.test.within_bound
    assert [check.within_bound for check in summary.test.over_time] == [True, False, False]
    [caution] = [each for each in summary.cautions if each.code == "later_times"]
    assert caution.text == (
        "The bound need not hold 1 month after programming; the test drop is then 1.6 pp, which exceeds it."
    )


@pytest.mark.parametrize(("results", "words"), [
    (make(test=None), "kept on the validation set 1 day after programming: drop 1.0 pp; test drop unknown"),
    (make(baseline=None), "kept on the validation set 1 day after programming: drop 1.0 pp; test drop unknown"),
    (make(test_over_time=[point(1.0, 0.9)]), "test drop unknown"),
    (make(validation=0.8, test=None), "exceeded on the validation set 1 day after programming: drop 11.0 pp"),
])  # fmt: skip
def test_without_a_test_the_conclusion_says_so(results: Results, words: str):
    assert results.summary.test is None
    assert words in results.summary.conclusion


def test_the_share_of_chips_within_the_bound():
    chips = {**point(DAY, 0.9, n_chips=4), "scores": [0.91, 0.90, 0.895, 0.88]}
    assert make(test_over_time=[chips]).summary.test.over_time[0].share_of_chips_within == 0.75


# -- cost ----------------------------------------------------------------------------------------------------------------


def test_slower_than_digital_is_said():
    """ "100 % analog" closed a run whose table said 0.55×."""
    found = make(system=[system("P", 0.5, 0.8, a=2.5, b=0.5, c=1), system("Q", 2.0, 1.0, a=0.5, b=0.9, c=1)]).summary
    assert found.conclusion.endswith(
        "Against all digital: P 2.00× slower, 1.25× more energy; Q 2.00× faster, as much energy."
    )
    first, second = found.platforms
    assert (first.slower_on_tiles, second.slower_on_tiles) == ({"a": 2.5}, {})
    assert (first.speedup, first.energy_gain) == (0.5, 0.8)
    [caution] = [each for each in found.cautions if each.code == "slower_on_tiles"]
    assert caution.text == "Slower on tiles than on the core of P: a (2.50×)."


def test_many_slower_layers_are_counted():
    layers = {f"l{i}": 2.0 + i for i in range(9)}
    placements = {"schema_version": 1, "placements": dict.fromkeys(layers, "analog")}
    [caution] = [
        each
        for each in make(mapping=placements, system=[system("P", 0.5, 1.0, **layers)]).summary.cautions
        if each.code == "slower_on_tiles"
    ]
    assert caution.text.startswith("Slower on tiles than on the core of P: l8 (10.00×), l7 (9.00×)")
    assert caution.text.endswith("and 3 other layers.")


def test_missing_tiles_are_a_caution():
    row = {**system("P", 2.0, 2.0, a=0.5), "tiles_missing": 2}
    assert "P has 2 tiles too few for this mapping." in [each.text for each in make(system=[row]).summary.cautions]


# -- cautions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("test", "half", "expected"), [
    (0.90, 0.01, "The mean is within the bound of 1.5 pp, but the lower end of its interval is not"),
    (0.89, 0.01, "The mean exceeds the bound of 1.5 pp, but the upper end of its interval does not"),
    (0.90, 0.001, None),
    (0.80, 0.001, None),
])  # fmt: skip
def test_undecided(test: float, half: float, expected: str | None):
    found = [each.text for each in make(test=test, half=half).summary.cautions if each.code == "undecided"]
    assert [text.partition(";")[0] for text in found] == ([] if expected is None else [expected])


def test_few_chips():
    assert "few_chips" not in codes(make().summary)
    summary = make(test_over_time=[point(DAY, 0.9, n_chips=1)]).summary
    [text] = [each.text for each in summary.cautions if each.code == "few_chips"]
    assert text == "The final results are measured on 1 chip only; evaluate more chips."


@pytest.mark.parametrize(("retrained", "expected"), [(0.85, True), (0.905, False), (None, False), (0.92, False)])
def test_retrained_weights_that_need_their_converters(retrained: float | None, expected: bool):
    """ "The retrained network, run digitally, reaches 92.8 %" (before: 97.8) stood in the report without a word why."""
    summary = make(retrained_test_accuracy=retrained).summary
    assert ("retrained_weights" in codes(summary)) == expected
    if expected:
        assert "run digitally, reaches 85.0 % on the test set, 6.0 pp below the digital network" in str(
            summary.cautions
        )


def test_a_digital_network_has_no_cautions():
    placements = {"schema_version": 1, "placements": {"a": "digital"}}
    summary = make(outcome="infeasible", mapping=placements, system=[system("P", 1.0, 1.0, a=1)]).summary
    assert summary.cautions == ()
    assert summary.conclusion == "No projection runs analog, so the bound cannot be exceeded."


def environment(**changes: Any) -> Environment:
    usual = {
        "lionheart": "1", "python": "3", "torch": "2", "cpu": "x", "cpu_capability": "AVX2", "threads": 2,
        "device": "cpu", "system": "Linux",
    }  # fmt: skip
    return Environment(**{**usual, **changes})


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, []),
    ({"python": "4", "system": "other"}, []),
    ({"threads": 1}, ["threads: 2, then 1"]),
    ({"device": "cuda", "gpu": "H"}, ["PyTorch device: cpu, then cuda", "GPU: None, then H"]),
    ({"torch": "3"}, ["PyTorch: 2, then 3"]),
])  # fmt: skip
def test_environments(changes: dict[str, Any], expected: list[str]):
    assert compare_environments(environment(), environment(**changes)) == expected
    assert compare_environments(None, environment(**changes)) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from quadrants import build_task, make_settings

    path = tmp_path_factory.mktemp("summary") / "run"
    map_layers(build_task(), make_settings(), run_dir=path)
    return path


def test_a_run_resumed_with_other_threads_says_so(finished: Path, tmp_path: Path):
    """A 2-thread and a 1-thread run give other weights and figures, and a resume did not say so."""
    from quadrants import build_task

    run = RunDirectory(Path(shutil.copytree(finished, tmp_path / "run")))
    run.file("results.json").unlink()
    started = json.loads(run.file("run.json").read_text())
    started["environment"]["threads"] += 7
    run.file("run.json").write_text(json.dumps(started))
    with pytest.warns(LionHeartWarning, match=r"resumed in another environment \(threads: .* OMP_NUM_THREADS="):
        result = resume_run(build_task(), run.path)
    assert "other_environment" in codes(result.results.summary)
    assert run.results().cautions == result.results.cautions
    stored = json.loads(run.file("results.json").read_text())
    del stored["cautions"], stored["untried"]  # as an older version wrote it: computed when the file is read
    run.file("results.json").write_text(json.dumps(stored))
    assert run.results() == result.results


def test_events_that_cannot_be_read_are_skipped(finished: Path):
    description = RunDirectory(finished).description()
    events = [{"event": "resumed"}, {"event": "resumed", "environment": 3}, {"event": 5}, {}]
    assert find_environment_cautions(description, events) == ()


# -- one record, the same words everywhere -------------------------------------------------------------------------------


def read_plain(text: str) -> str:
    return " ".join(html.unescape(text).replace("\u00a0", " ").split())


@pytest.mark.parametrize("source", ["new", "version 1"])
def test_terminal_json_print_and_page_say_the_same(source: str, finished: Path, tmp_path: Path):
    run = RunDirectory(Path(shutil.copytree(finished if source == "new" else WRITTEN, tmp_path / "run")))
    summary = run.results().summary
    words = [summary.headline, *summary.remarks, *(each.text for each in summary.cautions), summary.conclusion]
    assert lionheart_command("report", run.path).exit_code == 0
    page = read_plain(run.file("report.html").read_text())
    task = "quadrants:build_task"
    shown = lionheart_command("map", task, "--resume", run.path)
    assert shown.exit_code == 0, shown.output
    terminal, data = read_plain(shown.stderr), lionheart_command("map", task, "--resume", run.path, "--json")
    assert terminal.endswith(summary.conclusion)
    for text in words:
        assert text in page
        assert text in terminal
    plain = json.loads(data.stdout)["summary"]
    assert read_record(Summary, plain, "summary") == summary
    if source == "new":
        assert json.loads(run.file("results.json").read_text())["summary"] == plain


def test_print_says_the_same_and_whether_a_chip_is_programmed(finished: Path):
    from quadrants import build_task

    from lionheart import program_

    result = load_result(build_task(), RunDirectory(finished))
    text = str(result)
    assert result.results.summary.conclusion[:60] in " ".join(text.split())
    assert "no chip is programmed" in text
    assert len(text.splitlines()) <= MOST_LINES
    program_(result.model.eval())
    assert "programmed on a simulated chip" in str(result)


def test_numbers_too_large_to_compare_are_an_error_of_the_file():
    with pytest.raises(ArtifactError, match="results"):
        make(validation=1e308)


# -- intervals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "ends", "expected"), [
    (Metric(), (-0.1, 0.5), (0.0, 0.5)),
    (Metric(), (0.95, 1.02), (0.95, 1.0)),
    (Metric(), (0.25, 0.75), (0.25, 0.75)),
    (Metric(), (-3.0, -2.0), (-3.0, -2.0)),  # no share at all
    (PERPLEXITY, (-0.2, 0.1), (-0.2, 0.0)),
])  # fmt: skip
def test_intervals_are_within_possible_scores(metric: Metric, ends: tuple[float, float], expected: tuple[float, float]):
    """With few chips, intervals of accuracies exceeded 100 %, and intervals of perplexities fell below 1."""
    assert metric.clip_interval(*ends) == expected
    assert metric.format_interval(*ends) == metric.format_interval(*expected)


def test_intervals_of_older_files_are_limited_when_read():
    data = make().to_json()
    data["validation"] |= {"low": -0.5, "high": 1.5}
    data["test_over_time"][0]["high"] = 1.01
    found = Results.from_json(upgrade(data, Path("results.json")), "results")
    assert (found.validation.low, found.validation.high, found.test_over_time[0].high) == (0.0, 1.0, 1.0)
    old = json.loads((WRITTEN / "results.json").read_text())
    assert max(each["high"] for each in old["test_over_time"]) > 1
    assert max(each.high for each in RunDirectory(WRITTEN).results().test_over_time) == 1
    deep: Any = {}
    for _ in range(3000):
        deep = {"a": deep}
    assert upgrade({**data, "extra": deep}, Path("results.json"))["validation"]["high"] == 1.0


def test_accuracy_of_results(finished: Path):
    results = RunDirectory(finished).results()
    points: list[Accuracy] = [
        *results.test_over_time,
        results.validation,
        *(each.accuracy for each in results.decisions),
    ]
    assert all(0 <= each.low <= each.mean <= each.high <= 1 for each in points)
