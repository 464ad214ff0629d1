"""Results of version 1 are read as those of this version: every figure under its present name, nothing made up."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lionheart.errors import ArtifactError
from lionheart.metrics import ACCURACY, PERPLEXITY
from lionheart.runs import Results, RunDescription, RunDirectory, SearchOutcome
from lionheart.runs.upgrade import upgrade

WHERE = Path("results.json")


def accuracy(mean: float, t: float = 86_400.0, **more: Any) -> dict[str, Any]:
    scores = [mean - 0.01, mean + 0.01]
    return {
        "t_inference": t, "mean": mean, "low": mean - 0.1, "high": mean + 0.1, "std": 0.014, "n_chips": 2,
        "scores": scores, "n_samples": 64, **more,
    }  # fmt: skip


def cost(size: float) -> dict[str, Any]:
    breakdown = {"queue": size / 2, "process": size / 2}
    return {"latency_s": size, "energy_j": size, "time_breakdown_s": breakdown, "energy_breakdown_j": breakdown}


#: As version 1 wrote them, with every key that it knew.
VERSION_1: dict[str, Any] = {
    "schema_version": 1,
    "outcome": "mapped",
    "measure": {"name": "perplexity", "drop_unit": "log-%", "kind": "perplexity"},
    "max_drop_pp": 2.0,
    "t_inference": 86400.0,
    "confidence": 0.95,
    "mapping": {"schema_version": 1, "placements": {"a": "analog", "b": "digital", "c": "analog"}},
    "analog_mac_share": 0.75,
    "analog_weight_share": 0.5,
    "objective": "energy",
    "n_tiles": 3,
    "max_tiles": 8,
    "notes": {"b": "would cost 2 J more on tiles"},
    "final_samples": 64,
    "baseline": {"validation_accuracy": 0.9, "test_accuracy": 0.875},
    "validation": accuracy(0.885, drop_pp=1.5),
    "validation_over_time": [accuracy(0.89, t=1.0), accuracy(0.885, drop_pp=1.5)],
    "decisions": [
        {
            "index": 0, "fqn": "a", "macs": 64, "accepted": True, "accuracy": accuracy(0.895), "drop_pp": 0.5,
            "train": {"losses": [0.5, 0.25], "n_steps": 8, "elapsed_s": 1.5, "outcome": "cap"}, "elapsed_s": 2.5,
            "analog": ["a"], "n_remeasured": 2, "limit_pp": 1.25, "note": "b leaves its tiles to others",
        },
        {
            "index": 1, "fqn": "b", "macs": 32, "accepted": False, "accuracy": accuracy(0.8), "drop_pp": 10.0,
            "train": {"losses": [], "n_steps": 0, "elapsed_s": 0.0, "outcome": "none"}, "elapsed_s": 0.5,
            "analog": None, "n_remeasured": 0, "limit_pp": None,
        },
        {
            "index": 2, "fqn": "c", "macs": 16, "accepted": True, "accuracy": accuracy(0.89), "drop_pp": 1.0,
            "train": {}, "elapsed_s": 0.25,
        },
    ],
    "test_over_time": [accuracy(0.86, t=1.0), accuracy(0.855)],
    "test_digital_accuracy": 0.88,
    "n_steps": 8,
    "system": [
        {
            "platform": "alpine-high-power", "clock_hz": 2.3e9, "counted": ["products"], "not_counted": ["wires"],
            "assumptions": ["one core"], "all_digital": cost(3e-5), "mapped": cost(2e-5), "speedup": 1.5,
            "energy_gain": 1.5, "n_tiles": 3, "tiles_missing": 1,
            "programming": {
                "technology": "pcm", "n_devices": 64, "write": "row", "time_s": 1e-3, "energy_j": 1e-3,
                "time_breakdown_s": {"pulses": 1e-3}, "energy_breakdown_j": {"pulses": 1e-3}, "break_even_time": 100,
                "break_even_energy": None, "reason_unknown": "",
                "reprogramming": {"reprogram_after": 3600.0, "power_w": 1.0, "time_share": 0.1, "inferences_per_s": None},
            },
            "layers": [
                {"fqn": "a", "placement": "analog", **cost(1e-5), "n_tiles": 3, "digital_latency_s": 2e-5,
                 "digital_energy_j": 2e-5},
            ],
            "other_ops": [{"name": "relu", "latency_s": 1e-6, "energy_j": 1e-6, "reason_free": ""}],
        },
    ],
    "pipelines": None,
    "tiles": {"a": {"drift_compensation": "none"}},
    "reprogramming": {
        "holds_until_s": 86400.0, "longest_s": 315576000.0,
        "measured": [
            {"age_s": 86400.0, "drop_pp": 1.5, "limit_pp": 1.75, "within": True},
            {"age_s": 172800.0, "drop_pp": 2.5, "limit_pp": 2.75, "within": False},
        ],
    },
    "certificate": [
        {"analog": ["a", "b", "c"], "accuracy": accuracy(0.87), "drop_pp": 3.0, "limit_pp": 4.0, "chip_error_pp": 0.1,
         "sample_error_pp": 0.2, "confidence": 0.95, "chip_yield": 0.9, "accepted": False},
        {"analog": ["a", "c"], "accuracy": accuracy(0.89), "drop_pp": 1.0, "limit_pp": 1.9, "confidence": 0.975,
         "accepted": True},
    ],
    "elapsed_s": 12.5,
    "final_figures_s": 20.0,
}  # fmt: skip


def read(data: Any) -> Results:
    return Results.from_json(upgrade(data, WHERE), str(WHERE))


def test_every_figure_has_its_present_name():
    results = read(VERSION_1)
    assert (results.schema_version, results.outcome, results.metric) == (2, SearchOutcome.MAPPED, PERPLEXITY)
    assert (results.mapping.analog, results.n_tiles, results.max_tiles) == (("a", "c"), 3, 8)
    assert (results.retrained_test_accuracy, results.baseline.test_accuracy) == (0.88, 0.875)
    assert (results.validation.mean, results.validation_drop_pp) == (0.885, 1.5)
    assert (results.system[0].layers[0].fqn, results.system[0].programming.reprogramming.power_w) == ("a", 1.0)
    first, second, third = results.decisions
    assert (first.drop_pp, first.drop_ucb_pp, first.note, first.n_remeasured) == (
        0.5, 1.25, "b leaves its tiles to others", 2,
    )  # fmt: skip
    assert (first.train.losses, first.train.n_steps, first.train.outcome) == ((0.5, 0.25), 8, "cap")
    assert (second.drop_ucb_pp, second.analog, second.note) == (10.0, None, "")  # the drop itself was the limit
    assert (third.drop_ucb_pp, third.train.n_steps, third.train.outcome) == (1.0, 0, "none")
    assert [(row.age_s, row.drop_ucb_pp, row.within) for row in results.refresh.measured] == [
        (86400.0, 1.75, True), (172800.0, 2.75, False),
    ]  # fmt: skip
    assert (results.refresh.holds_until_s, results.refresh.longest_s) == (86400.0, 315576000.0)
    failed, passed = results.holdout_tests
    assert (failed.analog, failed.accepted, failed.accuracy.mean) == (("a", "b", "c"), False, 0.87)
    assert failed.drop.to_json() == {
        "drop_pp": 3.0, "drop_ucb_pp": 4.0, "chip_error_pp": 0.1, "sample_error_pp": 0.2, "confidence": 0.95,
        "chip_yield": 0.9,
    }  # fmt: skip
    assert (passed.drop.drop_ucb_pp, passed.drop.chip_yield, passed.drop.chip_error_pp) == (1.9, None, 0.0)


RENAMED = {
    "measure": "metric",
    "test_digital_accuracy": "retrained_test_accuracy",
    "certificate": "holdout_tests",
    "reprogramming": "refresh",
}


def test_no_figure_is_lost_and_none_changes():
    data = read(VERSION_1).to_json()
    again = Results.from_json(data, "results.json")
    assert again == read(VERSION_1)
    assert upgrade(data, WHERE) == data  # of this version already
    for old, value in VERSION_1.items():
        new = RENAMED.get(old, old)
        if old not in ("schema_version", "mapping", "decisions", "certificate", "reprogramming", "pipelines"):
            assert subset(value, data[new]), old
    assert data["mapping"]["placements"] == VERSION_1["mapping"]["placements"]
    for old_row, row in zip(VERSION_1["decisions"], data["decisions"], strict=True):
        kept = {key: value for key, value in old_row.items() if key not in ("limit_pp", "train")}
        assert subset(kept, row)
        assert subset(old_row["train"], row["train"])


def subset(old: Any, new: Any) -> bool:
    """Return whether all that the old data say is in the new; the drop of a validation moved to the results."""
    if isinstance(old, dict):
        return all(
            key in new and subset(value, new[key]) for key, value in old.items() if key != "drop_pp" or key in new
        )
    if isinstance(old, list):
        return len(old) == len(new) and all(subset(a, b) for a, b in zip(old, new, strict=True))
    return old == new


def test_the_data_that_are_upgraded_stay_as_they_are():
    before = copy.deepcopy(VERSION_1)
    upgrade(VERSION_1, WHERE)
    assert before == VERSION_1


REQUIRED = (
    "schema_version", "outcome", "max_drop_pp", "t_inference", "confidence", "mapping", "analog_mac_share",
    "analog_weight_share", "n_tiles", "baseline", "validation", "decisions",
)  # fmt: skip


@pytest.mark.parametrize("absent", ["left out", "null"])
def test_what_version_1_did_not_have_yet_is_not_made_up(absent: str):
    """Only what it always had."""
    old = {key: VERSION_1[key] if key in REQUIRED else None for key in VERSION_1}
    results = read(old if absent == "null" else {key: old[key] for key in REQUIRED})
    assert (results.metric, results.objective, results.notes, results.tiles) == (ACCURACY, "macs", {}, {})
    assert (results.refresh, results.holdout_tests, results.system, results.test_over_time) == (None, (), (), ())
    assert (results.retrained_test_accuracy, results.elapsed_s, results.n_steps, results.max_tiles) == (
        None, None, 0, None,
    )  # fmt: skip


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_an_unknown_version_is_refused(version: Any):
    with pytest.raises(ArtifactError, match=r"results\.json: schema_version: got .*, expected 1 or 2") as caught:
        upgrade({**VERSION_1, "schema_version": version}, WHERE)
    assert "another version of lionheart" in caught.value.hint
    for nothing in ([], 1, None):
        with pytest.raises(ArtifactError, match=r"results\.json"):
            upgrade(nothing, WHERE)


def test_damaged_parts_are_refused_with_all_faults_named():
    data = copy.deepcopy(VERSION_1)
    del data["n_tiles"]
    data["outcome"] = "perfect"
    data["decisions"][0]["accuracy"]["mean"] = "high"
    del data["decisions"][1]["drop_pp"]
    data["certificate"][0]["accepted"] = None
    data["reprogramming"]["measured"][1]["age_s"] = "old"
    data["mapping"]["placements"]["a"] = "elsewhere"
    with pytest.raises(ArtifactError) as caught:
        read(data)
    faults = caught.value.message
    for expected in (
        "results.json.n_tiles: missing",
        "results.json.outcome: got 'perfect', expected one of 'mapped', 'infeasible' or 'budget'",
        "results.json.decisions[0].accuracy.mean: got a str, expected a finite number",
        "results.json.decisions[1].drop_pp: missing",
        "results.json.holdout_tests[0].accepted: got None, expected true or false",
        "results.json.refresh.measured[1].age_s: got a str, expected a finite number",
        "results.json.mapping.placements.a",
    ):
        assert expected in faults
    assert all(line.startswith("results.json.") for line in faults.splitlines())


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [
        ("decisions", None, "results.json.decisions"),
        ("decisions", {"0": {}}, "results.json.decisions: got a dict, expected a list"),
        ("decisions", [1], "results.json.decisions[0]: got 1, expected an object"),
        ("certificate", "signed", "results.json.holdout_tests: got a str, expected a list"),
        ("certificate", ["signed"], "results.json.holdout_tests[0]: got a str, expected an object"),
        ("reprogramming", [], "results.json.refresh: got a list, expected an object"),
        ("reprogramming", {**VERSION_1["reprogramming"], "measured": 3}, "results.json.refresh.measured: got 3"),
        ("measure", "accuracy", "results.json.metric"),
        ("test_over_time", 5, "results.json.test_over_time: got 5, expected a list"),
    ],
)
def test_a_damaged_part_is_no_missing_part(part: str, value: Any, fault: str):
    """Was read as if there had been no decisions, no tests or no refresh interval."""
    with pytest.raises(ArtifactError) as caught:
        read({**VERSION_1, part: value})
    assert fault in caught.value.message


def test_results_without_decisions_are_damaged():
    with pytest.raises(ArtifactError, match=r"results\.json\.decisions: missing"):
        read({key: value for key, value in VERSION_1.items() if key != "decisions"})


# ------------------------------------------------------------------------------------------------------- in a run folder


@pytest.fixture
def old_run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory.create(tmp_path / "run", RunDescription(task="old", seed=1, settings={}))
    run.file("run.json").write_text(json.dumps({**run.description().to_json(), "schema_version": 1}))
    return run


def test_a_finished_run_of_version_1_is_read(old_run: RunDirectory):
    old_run.file("results.json").write_text(json.dumps(VERSION_1))
    assert RunDirectory.open(old_run.path).results() == read(VERSION_1)


def test_results_that_are_no_results_are_named(old_run: RunDirectory):
    for text in ("", "{", "[]", '{"schema_version": 7}', '{"schema_version": 2}'):
        old_run.file("results.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"results\.json"):
            old_run.results()
