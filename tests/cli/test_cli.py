"""The command line: data on stdout, words on stderr, one clear error for bad input, nothing half-written."""

from __future__ import annotations

import json
import re
import shutil
from collections import namedtuple
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from commands import TINY, assert_refused, lionheart_command
from folders import read_tree

import lionheart.jobs
import lionheart.system.inspection
import lionheart.tasks.registry
import lionheart.training.loop
from lionheart.cli.schema import SCHEMAS
from lionheart.files import read_json
from lionheart.registry import RANKINGS, STRATEGIES
from lionheart.runs import RunDirectory
from lionheart.tasks.registry import checkpoint_path

pytestmark = pytest.mark.usefixtures("small_noise_pool")

TASK = "quadrants:build_task"
MAP, EVALUATE = f"map {TASK} --resume", f"evaluate --task {TASK}"
VERBS = (
    "inspect",
    "map",
    "pareto",
    "profile",
    "evaluate",
    "simulate",
    "report",
    "export",
    "train",
    "sources",
    "schema",
    "settings",
)
Usage = namedtuple("Usage", "total used free")


def plain(text: str) -> str:
    """Return text without colours, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


@pytest.fixture
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that `map` finished; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    result = lionheart_command("map", TASK, "--config", folder / "tiny.toml", "--out", folder / "run", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)  # nothing but JSON on stdout
    assert data["run"] == str(folder / "run")
    assert Path(data["report"]).read_text().startswith("<!DOCTYPE html>")
    assert data["mapping"] == read_json(folder / "run" / "mapping.json")
    assert "3 candidates" in result.stderr
    return folder / "run"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def unfinished(finished: Path, tmp_path: Path) -> Path:
    return RunDirectory.create(tmp_path / "unfinished", RunDirectory.open(finished).description()).path


# --------------------------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_that_parses(verb: str):
    result = lionheart_command(verb, "--help")
    text = plain(result.stdout)
    assert result.exit_code == 0
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    example = re.search(rf"Example: lionheart {verb}(.*)", text)
    assert example
    for option in re.findall(r"--[a-z-]+", example[1]):
        assert option in text.partition("Example:")[0]
    assert "--json" in text


def test_help_lists_what_is_registered():
    text = plain(lionheart_command("map", "--help").stdout)
    assert all(name in text for name in (*STRATEGIES.names(), *RANKINGS.names()))


def test_help_lists_every_verb():
    text = plain(lionheart_command("--help").stdout)
    assert all(verb in text for verb in VERBS)


# ---------------------------------------------------------------------------------------------- data and words apart


def test_inspect_writes_json_or_words():
    data = json.loads(lionheart_command("inspect", TASK, "--json").stdout)
    assert [row["fqn"] for row in data["projections"]] == ["0", "3", "7"]
    words = lionheart_command("inspect", TASK)
    assert words.exit_code == 0
    assert words.stdout == ""
    assert "100.0 % of the MACs can run analog" in plain(words.stderr)


def test_map_for_people(tmp_path: Path, config: Path):
    result = lionheart_command(
        "map", TASK, "--config", config, "--out", tmp_path / "run", "--set", "exclude=7", "--set", "final_samples=50"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    words = plain(result.stderr)
    for part in (
        "on the first 50 test samples accuracy 1 day after programming is",
        "not tried",
        "caution: The final results are measured on 2 chips only; evaluate more chips.",
        "2 of 3 projections",
        "test accuracy over time",
        "report.html",
    ):
        assert part in words
    assert f"run: {tmp_path / 'run'}" in words.replace("run:  ", "run: ")
    last = "Bound of 20 pp kept on the first 50 test samples 1 day after programming: drop"
    assert words.index("report.html") < words.index(last)  # the last line
    recorded = read_json(tmp_path / "run" / "run.json")
    assert recorded["task"] == TASK
    assert recorded["settings"]["search"]["exclude"] == ["7"]


def test_flags_win_over_the_file(tmp_path: Path, config: Path):
    flags = ["--max-drop", "12.5", "--at", "1h", "--seed", "5"]
    for each in ("ranking=macs", "n_chips=1", "n_chips_final=3", "validation_samples=64", "final_samples=1032",
                 "search.max_epochs=1", "max_minutes=9"):  # fmt: skip
        flags += ["--set", each]
    result = lionheart_command("map", TASK, "--config", config, "--out", tmp_path / "run", *flags, "--json")
    assert result.exit_code in (0, 3), result.output
    settings = read_json(tmp_path / "run" / "run.json")["settings"]
    assert settings["seed"] == 5
    expected = {"max_drop_pp": 12.5, "t_inference": 3600.0, "ranking": "macs", "n_chips": 1, "n_chips_final": 3,
                "validation_samples": 64, "final_samples": 1032,
                "max_epochs": 1, "max_minutes": 9.0, "report_times": [1.0, 3600.0]}  # fmt: skip
    assert {key: settings["search"][key] for key in expected} == expected
    assert (settings["tile"]["rows"], settings["train"]["max_epochs"]) == (32, 2)


def test_evaluate(copied: Path):
    arguments = ["evaluate", copied, "--task", TASK, "--times", "1s,1h", "--chips", "2", "--samples", "32"]
    data = json.loads(lionheart_command(*arguments, "--json").stdout)
    assert [row["t_inference"] for row in data["accuracy_over_time"]] == [1.0, 3600.0]
    assert read_json(copied / "evaluation.json")["accuracy_over_time"] == data["accuracy_over_time"]
    words = lionheart_command(*arguments, "--split", "validation")
    assert words.stdout == ""
    assert "validation accuracy over time, 2 new chips" in plain(words.stderr)


def test_simulate(copied: Path):
    data = json.loads(lionheart_command("simulate", copied, "--json").stdout)
    assert [row["platform"] for row in data] == ["alpine-high-power", "alpine-low-power"]
    words = lionheart_command("simulate", copied, "--platform", "alpine-low-power")
    assert words.stdout == ""
    assert "low-power" in words.stderr


def test_simulate_on_several_cores(copied: Path):
    before = lionheart_command("simulate", copied).stderr
    arguments = ["simulate", copied, "--cores", "2", "--inferences", "3", "--max-tiles", "2"]
    data = json.loads(lionheart_command(*arguments, "--json").stdout)
    for row in data:
        found = row["pipeline"]
        assert (found["n_cores"], found["n_inferences"], found["max_tiles"]) == (2, 3, 2)
        assert found["n_tiles"] <= 2
        for side in ("mapped", "all_digital"):
            layers = [fqn for core in found[side]["cores"] for fqn in core["layers"]]
            assert layers == ["0", "3", "7"]
            assert found[side]["total_s"] == max(event["end_s"] for event in found[side]["events"])
            assert found[side]["throughput_per_s"] == pytest.approx(1 / found[side]["interval_s"])
            assert all(0 < core["utilisation"] <= 1 for core in found[side]["cores"])
    assert read_json(copied / "system.json")["system"] == data
    words = lionheart_command(*arguments)
    assert words.stdout == ""
    assert words.stderr.startswith(before)
    assert max(len(line) for line in words.stderr.splitlines()) <= 80
    for text in ("alpine-low-power: 2 cores, 3 inferences", "results per second", "energy per inference", "of 2 tile"):
        assert text in words.stderr
    lionheart_command("report", copied)
    assert (copied / "report.html").read_text().count('class="chart gantt"') == 4
    assert "pipeline" not in json.loads(lionheart_command("simulate", copied, "--json").stdout)[0]


def test_simulate_with_programming_or_no_tiles(copied: Path):
    arguments = ["simulate", copied, "--platform", "alpine-high-power", "--json"]
    none = json.loads(lionheart_command(*arguments, "--max-tiles", "0").stdout)[0]["pipeline"]
    analog = [fqn for fqn, place in read_json(copied / "mapping.json")["placements"].items() if place == "analog"]
    assert (none["n_cores"], none["without_tiles"], none["n_tiles"]) == (1, analog, 0)
    assert none["latency_gain"] == pytest.approx(1.0)
    again = json.loads(lionheart_command(*arguments, "--max-tiles", "1", "--reprogram").stdout)[0]["pipeline"]
    assert again["n_tiles"] <= 1
    assert {event["layer"] for event in again["mapped"]["events"] if event["kind"] == "program"} == {
        *again["reprogrammed"]
    }


def test_report(copied: Path, tmp_path: Path):
    page = tmp_path / "pages" / "page.html"
    data = json.loads(lionheart_command("report", copied, "--out", page, "--json").stdout)
    assert data == {"report": str(page)}
    assert TASK in page.read_text()
    words = lionheart_command("report", copied)
    assert (words.exit_code, words.stdout) == (0, "")


def test_sources():
    data = json.loads(lionheart_command("sources", "--json").stdout)
    assert data["pcm.toml"]["g_max"]["value"] == 25.0
    assert all(entry["source"] for constants in data.values() for entry in constants.values())
    words = lionheart_command("sources")
    assert words.stdout == ""
    assert "g_max = 25.0 [µS]" in words.stderr


@pytest.mark.parametrize("name", SCHEMAS.names())
def test_schema(name: str):
    data = json.loads(lionheart_command("schema", name).stdout)
    assert data["type"] == "object"
    assert all("description" in part or "$ref" in part for part in data["properties"].values())


def test_schemas_are_those_of_what_is_written(copied: Path):
    result = lionheart_command("evaluate", copied, "--task", TASK, "--times", "1s", "--chips", "1", "--samples", "8")
    assert result.exit_code == 0, result.output
    for name in ("results", "evaluation", "run"):
        found = set(json.loads(lionheart_command("schema", name).stdout)["properties"])
        left_out = {"max_drop", "rescaling"} if name == "results" else set()  # written if the run has them
        assert left_out <= found
        assert set(read_json(copied / f"{name}.json")) - {"schema_version"} == found - {"schema_version"} - left_out


def test_schemas_are_listed():
    words = lionheart_command("schema")
    assert (words.exit_code, words.stdout) == (0, "")
    assert all(name in words.stderr for name in SCHEMAS.names())
    listed = json.loads(lionheart_command("schema", "--json").stdout)["schemas"]
    assert [row["schema"] for row in listed] == list(SCHEMAS.names())
    assert_refused(lionheart_command("schema", "result"), "schema: got 'result'", "did you mean 'results'")


def test_version():
    result = lionheart_command("--version")
    assert (result.exit_code, result.stdout) == (0, f"lionheart {metadata.version('lionheart-aimc')}\n")


# ----------------------------------------------------------------------------------------------------------- exit codes


def test_nothing_mapped_is_exit_code_3(tmp_path: Path, config: Path):
    arguments = ["map", TASK, "--config", config, "--set", "exclude=0,3", "--max-drop", "0.01"]
    for flags in (["--json"], []):
        result = lionheart_command(*arguments, "--out", tmp_path / f"run{len(flags)}", *flags)
        assert result.exit_code == 3, result.output
        if flags:
            assert json.loads(result.stdout)["outcome"] == "infeasible"
        else:
            assert "No mapping was found that stays within 0.01 pp of the digital network" in plain(result.stderr)


def test_a_bug_is_exit_code_1(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("[bold]impossible")

    monkeypatch.setattr(lionheart.system.inspection, "audit_coverage", fail)
    result = lionheart_command("inspect", TASK)
    assert result.exit_code == 1
    assert "internal error: RuntimeError: [bold]impossible" in result.stderr  # not eaten as markup
    assert "this is a bug in lionheart" in plain(result.stderr)
    assert "Traceback" not in result.stderr
    assert "Traceback" in lionheart_command("inspect", TASK, "--verbose").stderr


def test_verbose_shows_where_a_refusal_came_from():
    result = lionheart_command("inspect", "cifar10/resnet9", "--verbose")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "locals" not in result.stderr


def test_ctrl_c_and_resume(tmp_path: Path, config: Path, finished: Path, monkeypatch: pytest.MonkeyPatch):
    save, calls = lionheart.training.loop.save_training_state, []

    def interrupt(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(lionheart.training.loop, "save_training_state", interrupt)
    run = tmp_path / "run"
    result = lionheart_command("map", TASK, "--config", config, "--out", run, "--json")
    monkeypatch.undo()
    assert result.exit_code == 130
    assert result.stdout == ""
    assert "--resume" in result.stderr
    assert str(run) in result.stderr.replace("\n", "")
    assert "Traceback" not in result.stderr
    assert not (run / "results.json").exists()
    best = read_json(run / "mapping.json")["placements"]  # what was found so far is there, with its weights
    assert list(best) == list(read_json(finished / "mapping.json")["placements"])
    assert (run / "weights.safetensors").exists()
    assert "best mapping so far" in result.stderr.replace("\n", " ")
    shutil.copytree(run, tmp_path / "short")
    short = lionheart_command("map", TASK, "--resume", tmp_path / "short", "--finish", "--json")
    assert short.exit_code in (0, 3), short.output
    ended = json.loads(short.stdout)
    assert (ended["outcome"], ended["mapping"]["placements"]) == ("budget", best)
    resumed = lionheart_command("map", TASK, "--resume", run, "--json")
    assert resumed.exit_code == 0, resumed.output
    expected, found = (read_json(folder / "results.json") for folder in (finished, run))
    for key in ("mapping", "validation", "test_over_time", "retrained_test_accuracy"):
        assert found[key] == expected[key]
    again = lionheart_command("map", TASK, "--resume", run, "--json")  # of a finished run: its results once more
    assert json.loads(again.stdout)["mapping"] == expected["mapping"]


# -------------------------------------------------------------------------------------------- bad input: which network

USER_FILES = {
    "fails_on_import": "import no_such_module_at_all\n",
    "syntax": "def build(:\n",
    "no_task": "def build():\n    return 3\n",
    "raises": "def build():\n    raise KeyError('weights')\n",
    "needs_arguments": "def build(path):\n    return path\n",
    "fails_in_forward": (
        "import torch\nfrom torch import nn\nimport lionheart\n"
        "def build():\n"
        "    data = [(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))]\n"
        "    return lionheart.Task(nn.Sequential(nn.Linear(4, 2)), data, data, data)\n"
    ),
    "no_data": (
        "from torch import nn\nimport lionheart\n"
        "def build():\n    return lionheart.Task(nn.Linear(4, 2), 5, None, None)\n"
    ),
}


@pytest.mark.parametrize("verb", ["inspect", "map"])
@pytest.mark.parametrize(
    ("file", "function", "message", "hint"),
    [
        ("fails_on_import", "build", "failed on import: ModuleNotFoundError", "correct the file"),
        ("syntax", "build", "failed on import: SyntaxError", "correct the file"),
        ("no_task", "build", "returned int, expected a lionheart.Task", "return lionheart.Task("),
        ("no_task", "biuld", "has no function 'biuld'", "did you mean 'build'"),
        ("raises", "build", "failed: KeyError: 'weights'", "--verbose"),
        ("needs_arguments", "build", "missing 1 required positional argument", "without arguments"),
        (
            "fails_in_forward",
            "build",
            "failed on the",
            "inputs",
        ),
        ("no_data", "build", "Task.train: got int, expected a torch DataLoader", "(inputs, targets)"),
        ("missing", "build", "missing.py: no such file", "before the colon"),
    ],
)
def test_a_users_file(verb: str, file: str, function: str, message: str, hint: str, tmp_path: Path):
    if file in USER_FILES:
        (tmp_path / f"{file}.py").write_text(USER_FILES[file])
    out = ["--out", tmp_path / "run"] if verb == "map" else []
    result = lionheart_command(verb, f"{tmp_path / file}.py:{function}", *out)
    assert_refused(result, message, hint)
    assert not (tmp_path / "run").exists()


def test_a_users_file_that_works(tmp_path: Path):
    (tmp_path / "mine.py").write_text("from quadrants import build_loader_task as build\n")
    result = lionheart_command("inspect", f"{tmp_path}/mine.py:build", "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["projections"]) == 3


def test_a_named_task_of_a_file_can_be_resumed(tmp_path: Path, config: Path):
    """The name that the file gave used to be written into run.json, under which nobody could find the task again."""
    (tmp_path / "mine.py").write_text(
        "import quadrants\ndef build():\n    return quadrants.build_task(name='a name of its own')\n"
    )
    name = f"{tmp_path / 'mine.py'}:build"
    first = lionheart_command("map", name, "--config", config, "--out", tmp_path / "run", "--set", "exclude=[07]")
    assert first.exit_code == 0, first.output
    assert lionheart_command("map", name, "--resume", tmp_path / "run").exit_code == 0
    assert (
        lionheart_command("evaluate", tmp_path / "run", "--trust-task", "--times", "1s", "--chips", "1").exit_code == 0
    )


@pytest.mark.parametrize("verb", ["inspect", "map", "train"])
def test_unknown_task(verb: str, tmp_path: Path):
    out = ["--out", tmp_path / "run"] if verb != "inspect" else []
    assert_refused(lionheart_command(verb, "cifar10/resnet9", *out), "task: got 'cifar10/resnet9'", "'cifar10/resnet8'")
    assert read_tree(tmp_path) == {}


def test_unknown_module():
    assert_refused(
        lionheart_command("inspect", "no_such_package:build"), "cannot import 'no_such_package'", "installed"
    )


def test_map_of_nothing():
    assert_refused(lionheart_command("map"), "map: got no task", "lionheart map cifar10/resnet8")


def test_corrupt_shipped_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(checkpoint_path("cifar10/resnet8").read_bytes()[:5000])
    monkeypatch.setattr(lionheart.tasks.registry, "checkpoint_path", lambda name: damaged)
    result = lionheart_command("map", "cifar10/resnet8", "--out", tmp_path / "run")
    assert_refused(result, "damaged.safetensors: not a readable safetensors file", "damaged")
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------------ bad input: settings


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (["--max-drop", "0"], "max_drop: got '0', expected a finite number above 0", "give a number"),
        (["--max-drop", "-1"], "max_drop: got '-1', expected a finite number above 0", "give a number"),
        (["--max-drop", "200"], "max_drop_pp: got 200.0: Input should be less than 100", "largest drop"),
        (["--max-drop", "nan"], "max_drop: got 'nan', expected a finite number above 0", "give a number"),
        (["--at", "soon"], "t_inference: duration: got 'soon'", "1mo (30 days)"),
        (["--at", "-1d"], "t_inference: duration: got '-1d'", "1mo (30 days)"),
        (["--set", "exclude=3x"], "exclude: '3x' matches no projection", "did you mean '3'"),
        (["--set", "ranking=mac"], "ranking: got 'mac'", "did you mean 'macs'"),
        (["--preset", "papr"], "preset: got 'papr'", "did you mean 'paper'"),
        (["--set", "n_chips=0"], "n_chips: got 0", "simulated chips for each decision"),
        (["--set", "validation_samples=0"], "validation_samples: got 0", "validation samples"),
        (["--set", "search.max_epochs=0"], "max_epochs: got 0", "budget"),
        (["--set", "max_minutes=-3"], "max_minutes: got -3.0", "budget"),
        (["--seed", "-1"], "seed: got -1", "seed of all random streams"),
    ],
)
def test_bad_flags_of_map(flags: list[str], message: str, hint: str, tmp_path: Path):
    assert_refused(lionheart_command("map", TASK, "--out", tmp_path / "run", *flags), message, hint)
    assert read_tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[search]\nmax_dropp = 1\n", "SearchSpec.max_dropp: unknown setting", "did you mean 'max_drop'"),
        ("[search]\nmax_drop_p = 1\n", "SearchSpec.max_drop_p: unknown setting", "did you mean 'max_drop_pp'"),
        ("[tile]\nrows = 0\n", "rows: got 0", "inputs of the crossbar"),
        ("[tile.device]\ntechnology = 'pcn'\n", "technology: got 'pcn'", "did you mean 'pcm'"),
        ("sead = 1\n", "MapSettings.sead: unknown setting", "did you mean 'seed'"),
        ("search = 3\n", "search: got 3", "bound"),
        ("platforms = ['alpine']\n", "platform: got 'alpine'", "alpine-high-power"),
        ("[search\n", "not valid TOML", "correct the TOML syntax"),
    ],
)
def test_bad_config(text: str, message: str, hint: str, tmp_path: Path):
    (tmp_path / "bad.toml").write_text(text)
    result = lionheart_command("map", TASK, "--out", tmp_path / "run", "--config", tmp_path / "bad.toml")
    assert_refused(result, message, hint)
    assert list(read_tree(tmp_path)) == ["bad.toml"]


def test_all_faults_at_once(tmp_path: Path):
    (tmp_path / "bad.toml").write_text("[search]\nmax_dropp = 1\nn_chips = 0\n[train]\nmomentum = 2\n")
    result = lionheart_command("map", TASK, "--out", tmp_path / "run", "--config", tmp_path / "bad.toml")
    assert_refused(result, "max_dropp: unknown setting")
    assert "n_chips: got 0" in result.stderr
    assert "momentum: got 2" in result.stderr


def test_missing_config(tmp_path: Path):
    for path in (tmp_path / "none.toml", tmp_path):
        result = lionheart_command("map", TASK, "--out", tmp_path / "run", "--config", path)
        assert_refused(result, f"{path}: no")
    assert read_tree(tmp_path) == {}


# ------------------------------------------------------------------------------------------------- bad input: folders


def test_a_resumed_run_keeps_its_settings(copied: Path):
    before = read_tree(copied)
    result = lionheart_command("map", TASK, "--resume", copied, "--max-drop", "3")
    assert_refused(result, "a resumed run keeps its settings", "give --resume without settings")
    assert read_tree(copied) == before


def test_a_run_that_exists(copied: Path, config: Path):
    before = read_tree(copied)
    result = lionheart_command("map", TASK, "--config", config, "--out", copied)
    assert_refused(result, f"{copied}: the directory already holds a run", f"--resume {copied}")
    assert read_tree(copied) == before


def test_a_file_in_place_of_the_folder(tmp_path: Path, config: Path):
    (tmp_path / "file").write_text("precious")
    before = read_tree(tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        result = lionheart_command("map", TASK, "--config", config, "--out", out)
        assert_refused(result, f"{out}: cannot be used", "choose another folder")
    assert read_tree(tmp_path) == before


def test_a_full_disk(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 0))
    result = lionheart_command("map", TASK, "--config", config, "--out", tmp_path / "deep" / "run")
    assert_refused(result, "0 MB free, 50 MB needed", "free some space")
    assert read_tree(tmp_path) == {}


@pytest.mark.parametrize("verb", [MAP, EVALUATE, "simulate", "report"])
def test_a_folder_that_is_no_run(verb: str, tmp_path: Path):
    for path in (tmp_path, tmp_path / "nothing"):
        assert_refused(lionheart_command(*verb.split(), path), f"{path}: no run in this directory", "has written")
    assert read_tree(tmp_path) == {}


@pytest.mark.parametrize("verb", ["evaluate", "simulate", "report"])
def test_an_unfinished_run(verb: str, unfinished: Path):
    before = read_tree(unfinished)
    result = lionheart_command(verb, unfinished)
    assert_refused(result, f"{unfinished}: the run has not finished", f"lionheart map --resume {unfinished}")
    assert read_tree(unfinished) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema_version": 3}', '{"schema_version": 2}', '{"schema_version": 1}']
)
@pytest.mark.parametrize("verb", [MAP, EVALUATE, "simulate", "report"])
def test_a_damaged_run_json(verb: str, text: str, copied: Path):
    (copied / "run.json").write_text(text)
    assert_refused(lionheart_command(*verb.split(), copied), "run.json")


def test_settings_of_another_version(copied: Path):
    description = read_json(copied / "run.json")
    description["settings"]["search"]["n_chip"] = 3
    (copied / "run.json").write_text(json.dumps(description))
    assert_refused(
        lionheart_command("map", TASK, "--resume", copied), "n_chip: unknown setting", "did you mean 'n_chips'"
    )


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "{}", lambda text: "[]"])
@pytest.mark.parametrize("verb", [MAP, EVALUATE, "report"])
def test_corrupt_results(verb: str, damage: Callable[[str], str], copied: Path):
    path = copied / "results.json"
    path.write_text(damage(path.read_text()))
    page = (copied / "report.html").read_bytes()
    result = lionheart_command(*verb.split(), copied)
    assert result.exit_code == 2
    assert "results" in result.stderr
    assert "bug in lionheart" not in result.stderr
    assert result.stderr.count("  hint: ") == 1
    assert (copied / "report.html").read_bytes() == page


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json"])
@pytest.mark.parametrize("verb", [MAP, EVALUATE, "simulate", "report"])
def test_other_corrupt_files(verb: str, name: str, copied: Path):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[: len(whole) // 2])
    result = lionheart_command(*verb.split(), copied)
    reads = {"weights.safetensors": (MAP, EVALUATE), "graph.json": (MAP, "simulate", "report")}
    if verb in reads[name]:
        assert_refused(result, name)
    else:
        assert result.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["evaluate", "--times", "1s,never"], "duration: got 'never'", "1mo (30 days)"),
        (["evaluate", "--times", ""], "duration: got ''", "1mo (30 days)"),
        (["evaluate", "--times", "1s,,1h"], "duration: got ''", "1mo (30 days)"),
        (["evaluate", "--chips", "0"], "n_chips: got 0", "number of simulated chips"),
        (["evaluate", "--times", "nan"], "duration: got 'nan'", "1mo (30 days)"),
        (["evaluate", "--samples", "0"], "samples: got 0", "omit the number"),
        (["evaluate", "--split", "tset"], "split: got 'tset'", "did you mean 'test'"),
        (["simulate", "--platform", "alpine-highpower"], "platform: got 'alpine-highpower'", "'alpine-high-power'"),
        (["simulate", "--platform", "none.toml"], "none.toml: no such file", "path"),
        (["simulate", "--cores", "0"], "cores: got 0", "1 or more"),
        (["simulate", "--cores", "9"], "cores: got 9, expected at most the 8", "use fewer cores"),
        (["simulate", "--inferences", "0"], "0 inferences", "at least one"),
        (["simulate", "--max-tiles", "-1"], "max_tiles: got -1, expected 0 or more", "set max_tiles to 0 or more"),
    ],
)
def test_bad_flags_of_the_other_verbs(arguments: list[str], message: str, hint: str, copied: Path):
    before = read_tree(copied)
    verb, *flags = arguments
    if verb == "evaluate":
        flags += ["--task", TASK]
    assert_refused(lionheart_command(verb, copied, *flags), message, hint)
    assert read_tree(copied) == before


def test_inspect_on_an_unknown_platform():
    assert_refused(lionheart_command("inspect", TASK, "--platform", "alpine"), "platform: got 'alpine'", "alpine-")


def test_a_report_that_cannot_be_written(copied: Path, tmp_path: Path):
    (tmp_path / "file").write_text("precious")
    result = lionheart_command("report", copied, "--out", tmp_path / "file" / "page.html")
    assert_refused(result, "page.html: cannot be written", "check the free space")
