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
        app, ["evaluate", str(tmp_path / "run"), "--trust-task", "--times", "1h", "--chips", "2"], env=environment
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
        assert f"Digital test perplexity: {digital:.3f}." in " ".join(done.output.split())  # wherever lines break
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
