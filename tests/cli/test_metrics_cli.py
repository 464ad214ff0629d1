"""The terminal and the report speak of the measure of a task."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from metrics_tasks import build_measured
from typer.testing import CliRunner

from lionheart.cli.app import app
from lionheart.files import read_json
from lionheart.metrics import F1, PERPLEXITY, Metric
from lionheart.record import write_record


@pytest.mark.parametrize("measure", [F1, PERPLEXITY])
def test_map_evaluate_and_report_speak_of_the_tasks_measure(
    measure: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from lionheart.report import report_run

    task = build_measured(measure)
    monkeypatch.setattr("lionheart.cli.tasks.load_task", lambda *args: task)
    config = tmp_path / "small.toml"
    config.write_text(
        '[search]\nmax_drop_pp = 30.0\nn_chips = 2\nn_chips_final = 2\nreport_times = [1.0]\nstrategy = "training-free"\n'
        "[tile]\nrows = 32\ncols = 32\n"
    )
    runner, environment = CliRunner(), {"COLUMNS": "120", "TERM": "dumb"}
    done = runner.invoke(app, ["map", "any", "--config", str(config), "--out", str(tmp_path / "run")], env=environment)
    assert done.exit_code == 0, done.output
    assert read_json(tmp_path / "run" / "results.json")["metric"] == write_record(measure)
    evaluated = runner.invoke(
        app,
        ["evaluate", str(tmp_path / "run"), "--times", "1h", "--chips", "2", "--task", "any"],
        env=environment,
    )
    assert evaluated.exit_code == 0, evaluated.output
    page = report_run(tmp_path / "run").read_text()
    for shown in (done.output, evaluated.output):
        assert measure.name in shown
        assert measure.drop_unit in shown
        assert "accuracy" not in shown
        assert " pp" not in shown
    for wanted in (f"{measure.title} over time", f"mean {measure.name}", f"Drop in {measure.drop_unit}"):
        assert wanted in page
    visible = page.split("</style>")[-1].replace('id="accuracy"', "").replace("#accuracy", "")
    assert "ccuracy" not in visible
    assert " pp" not in visible.replace("\u00a0", " ")
    if measure == PERPLEXITY:
        digital = math.exp(-read_json(tmp_path / "run" / "results.json")["baseline"]["test_accuracy"])
        assert f"the digital network ({digital:.2f};" in " ".join(done.output.split())  # wherever lines break
        assert done.output.count("e to the power of the mean") == 1


def test_the_verb_shows_a_table_and_writes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["profile", "metrics_tasks:build_perplexity_task", "--chips", "2", "--times", "1s,1d"]
    arguments += ["--samples", "32", "--set", "search.exclude=7", "--out", "p.json"]
    environment = {"COLUMNS": "100", "TERM": "dumb"}
    done = CliRunner().invoke(app, arguments, env=environment)
    assert done.exit_code == 0, done.output
    for wanted in ("perplexity with one projection", "27×8", "72×8", "after 1d", "Digital perplexity", "p.csv"):
        assert wanted in done.output
    assert "128×4" not in done.output
    again = CliRunner().invoke(app, [*arguments, "--json"], env=environment)
    assert json.loads(again.stdout) == read_json(tmp_path / "p.json")

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lionheart.jobs.profile_layers", interrupt)
    stopped = CliRunner().invoke(app, arguments, env=environment)
    assert stopped.exit_code == 130
    assert "To continue p.json, run the same command again." in stopped.output
    assert "72×8" in stopped.output


SMALL = (
    "[search]\nn_chips = 2\nn_chips_final = 2\nreport_times = [1.0]\nstrategy = 'training-free'\n"
    "[tile]\nrows = 32\ncols = 32\n[pareto]\nn_trials = 3\n"
)
ERROR_TASK = "metrics_tasks:build_regression_task"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "140", "TERM": "dumb"})


@pytest.mark.parametrize(
    ("bound", "shown"),
    [("0.4", "0.4 K"), ("0.4 K", "0.4 K"), ("300 % rel", "(300 % of the digital RMSE)"), ("300%", "(300 % of the")],
)
def test_a_regression_is_shown_in_its_own_unit(bound: str, shown: str, tmp_path: Path):
    """Before, `--max-drop 10` meant 0.1 of the unit of the error, and drops were percentage points."""
    (tmp_path / "small.toml").write_text(SMALL)
    arguments = ["--config", str(tmp_path / "small.toml"), "--max-drop", bound, "--out", str(tmp_path / "run")]
    done = run("map", ERROR_TASK, *arguments)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert f"Bound of {'0.4 K' if 'K' in shown else ''}" in text
    assert shown in text
    assert "Lower values are better." in text
    assert " pp" not in text
    page = (tmp_path / "run" / "report.html").read_text().replace("\u00a0", " ")
    visible = page.split("</style>")[-1]
    assert shown in visible
    assert "Drop in K" in visible
    assert " pp" not in visible
    results = read_json(tmp_path / "run" / "results.json")
    assert results["metric"]["unit"] == "K"
    evaluated = run("evaluate", str(tmp_path / "run"), "--times", "1h", "--chips", "2", "--trust-task")
    assert evaluated.exit_code == 0, evaluated.output
    assert " K " in evaluated.output
    assert "%" not in evaluated.output.replace("95 % interval", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-drop", "2 pp"], "got '2 pp', but a drop of the RMSE has the unit 'K'"),
        (["--set", "max_drop_pp=2"], "max_drop_pp: got 2 in percentage points"),
        (["--max-drop", "1", "--set", "max_drop_pp=2"], "expected one of the two"),
        (["--max-drop", "1", "--confidence", "0.9"], "is computed over the whole set"),
    ],
)
def test_a_bound_of_another_unit_is_one_error(arguments: list[str], message: str, tmp_path: Path):
    done = run("map", ERROR_TASK, "--out", str(tmp_path / "run"), *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not (tmp_path / "run").exists()


def test_profile_and_front_of_a_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SMALL)
    profiled = run("profile", ERROR_TASK, "--chips", "2", "--samples", "64", "--out", "p.json")
    assert profiled.exit_code == 0, profiled.output
    assert "drops in K" in " ".join(profiled.output.split())
    bounds = ["--bounds", "0.4 K, 200 % rel", "--out", str(tmp_path / "front")]
    found = run("pareto", ERROR_TASK, "--config", "small.toml", *bounds)
    assert found.exit_code == 0, found.output
    text = " ".join(found.output.split())
    assert "within 0.4 K: " in text
    assert "(200 % of the digital RMSE): " in text
    assert " pp" not in text
    page = (tmp_path / "front" / "pareto.html").read_text().replace("\u00a0", " ").split("</style>")[-1]
    assert "−0.4 K" in page
    assert " pp" not in page


def test_the_file_gives_a_bound_and_the_flag_replaces_it_in_another_unit(tmp_path: Path):
    (tmp_path / "small.toml").write_text(SMALL.replace("[search]", "[search]\nmax_drop = '50 % rel'"))
    arguments = ["--config", str(tmp_path / "small.toml"), "--set", "max_drop_pp=30", "--out", str(tmp_path / "run")]
    done = run("map", "quadrants:build_task", *arguments)
    assert done.exit_code == 0, done.output
    assert read_json(tmp_path / "run" / "results.json")["max_drop_pp"] == 30.0
