"""A finished run that version 1 of the results wrote: it opens, with the same figures, in everything that reads a run."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import lionheart_command
from paths import SUPPORT

from lionheart.errors import ArtifactError
from lionheart.files import read_json
from lionheart.runs import Results, RunDirectory

pytestmark = pytest.mark.usefixtures("small_noise_pool")

WRITTEN = SUPPORT / "version_1"  # the folder of a run with hold-out tests, other corrections and a refresh interval


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.open(Path(shutil.copytree(WRITTEN, tmp_path / "run")))


@pytest.fixture
def old(run: RunDirectory) -> dict[str, Any]:
    """The plain data as version 1 wrote them."""
    data: dict[str, Any] = read_json(run.file("results.json"))
    return data


def test_the_results_have_the_old_figures(run: RunDirectory, old: dict[str, Any]):
    results = run.results()
    assert results.schema_version == 2
    for name in ("max_drop_pp", "t_inference", "analog_mac_share", "n_tiles", "n_steps", "tiles", "notes", "elapsed_s"):
        assert getattr(results, name) == old[name]
    assert results.outcome == old["outcome"]
    assert results.metric.name == old["measure"]["name"]
    assert results.mapping.placements == old["mapping"]["placements"]
    assert results.validation.mean == old["validation"]["mean"]
    assert results.validation_drop_pp == pytest.approx(old["validation"]["drop_pp"], abs=1e-9)
    assert results.retrained_test_accuracy == old["test_digital_accuracy"]
    assert [point.scores for point in results.test_over_time] == [tuple(p["scores"]) for p in old["test_over_time"]]
    assert [d.drop_ucb_pp for d in results.decisions] == [d["limit_pp"] for d in old["decisions"]]
    assert [s.mapped.energy_j for s in results.system] == [s["mapped"]["energy_j"] for s in old["system"]]
    [test], [was] = results.holdout_tests, old["certificate"]
    assert (test.analog, test.accepted, test.accuracy.mean) == (
        tuple(was["analog"]),
        was["accepted"],
        was["accuracy"]["mean"],
    )
    drop = (test.drop.drop_pp, test.drop.drop_ucb_pp, test.drop.confidence, test.drop.chip_error_pp)
    assert drop == (was["drop_pp"], was["limit_pp"], was["confidence"], was["chip_error_pp"])
    assert results.refresh.holds_until_s == old["reprogramming"]["holds_until_s"]
    assert [age.drop_ucb_pp for age in results.refresh.measured] == [
        age["limit_pp"] for age in old["reprogramming"]["measured"]
    ]
    assert Results.from_json(results.to_json(), "again") == results


def test_the_report_shows_them(run: RunDirectory, tmp_path: Path):
    result = lionheart_command("report", run.path, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    page = html.unescape((tmp_path / "page.html").read_text()).replace("\u00a0", " ")
    for text in (
        "2 of 3 projections, 41.3 % of the MACs, run analog",
        "95.3 % [88.7, 100.0] over 2 fresh chips, 4.7 pp below the digital network (100.0 %; bound 20 pp, "
        "on validation: 5.5 pp)",
        "drift compensation none for 2 of 2 (3, 7).",
        "Chips meet the bound of 20 pp for up to 5 years",
        "Confidence level 60 %: on held-out validation samples and "
        "2 fresh chips, the drop is 8.6 pp, and with 80.0 % confidence at "
        "most 11.8 pp.",
        "rolled back in step 3: drop 37.5 pp",
    ):
        assert text in page, text


def test_the_network_can_be_evaluated_and_priced(run: RunDirectory, old: dict[str, Any]):
    result = lionheart_command("evaluate", run.path, "--trust-task", "--times", "1d", "--chips", "2", "--json")
    assert result.exit_code == 0, result.output
    [point] = json.loads(result.stdout)["accuracy_over_time"]
    assert abs(point["mean"] - old["test_over_time"][-1]["mean"]) < 0.2  # other chips of the same weights
    priced = json.loads(lionheart_command("simulate", run.path, "--platform", "alpine-high-power", "--json").stdout)
    assert priced[0]["mapped"]["latency_s"] == old["system"][0]["mapped"]["latency_s"]


def test_a_finished_run_is_loaded_and_an_unfinished_one_is_not_continued(run: RunDirectory):
    again = lionheart_command("map", "--trust-task", "--resume", run.path, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["schema_version"] == 2
    run.file("results.json").unlink()
    refused = lionheart_command("map", "--trust-task", "--resume", run.path)
    assert refused.exit_code == 2
    assert "an older version started the run" in refused.stderr


def test_damage_is_named(run: RunDirectory, old: dict[str, Any]):
    old["certificate"][0]["accuracy"]["mean"] = "high"
    old["decisions"][1]["drop_pp"] = None
    del old["n_tiles"]
    run.file("results.json").write_text(json.dumps(old))
    with pytest.raises(ArtifactError) as caught:
        run.results()
    for fault in ("n_tiles: missing", "decisions[1].drop_pp: got None", "holdout_tests[0].accuracy.mean: got a str"):
        assert fault in caught.value.message
