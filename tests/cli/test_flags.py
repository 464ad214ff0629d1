"""Flags: few are shown, every setting is reached by --set, old ones work and say what replaces them, wrong ones are refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY, assert_refused, lionheart_command
from quadrants import build_task
from safetensors.torch import load_file

import lionheart.experimental.pareto.job
import lionheart.jobs
from lionheart.cli.completion import PRESETS as SHOWN_PRESETS
from lionheart.cli.completion import complete_platforms, complete_settings, complete_tasks
from lionheart.deprecated import FLAGS
from lionheart.files import read_json
from lionheart.jobs import PRESETS, MapSettings, map_layers, read_settings
from lionheart.jobs.assignments import describe_settings
from lionheart.system.platform import platform_names
from lionheart.tasks import TASKS

pytestmark = pytest.mark.usefixtures("small_noise_pool")

TASK = "quadrants:build_task"
SHOWN = {
    "map": "TASK --max-drop --at --train-minutes --config --preset --seed --out --device --resume --trust-task --json --set "
    "--help",
    "pareto": "TASK --objective --bounds --at --config --preset --seed --out --device --resume --trust-task --storage --json "
    "--set --help",
    "profile": "TASK --times --chips --samples --config --seed --out --device --json --set --help",
}
VERBS = (*SHOWN, "inspect", "evaluate", "simulate", "report", "export", "train", "sources", "schema", "settings", "devices",
         "platforms")  # fmt: skip


class Asked(Exception):  # noqa: N818  it carries what the command line asked for
    """Raised instead of a job."""


def settings_of(monkeypatch: pytest.MonkeyPatch, verb: str, *arguments: str) -> tuple[MapSettings, Any]:
    """Return the settings with which the command line starts a job, and its result."""
    asked: list[MapSettings] = []

    def take(task: Any, settings: MapSettings, **options: Any) -> None:
        asked.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(lionheart.jobs, "map_layers", take)
    monkeypatch.setattr(lionheart.jobs, "profile_layers", take)
    monkeypatch.setattr(lionheart.experimental.pareto.job, "find_pareto_front", take)
    result = lionheart_command(verb, TASK, "--out", "no/such/run", *arguments)
    assert result.exit_code == 130, result.output
    return asked[0], result


def words(text: str) -> str:
    """Return text without frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


# ------------------------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("verb", SHOWN)
def test_few_flags_are_shown(verb: str):
    text = lionheart_command(verb, "--help").stdout
    shown = re.findall(r"^│ (?:\* +)? *(--[a-z-]+|TASK) ", text, re.MULTILINE)
    assert sorted(shown) == sorted(SHOWN[verb].split())


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_has_a_short_flag_and_80_columns(verb: str):
    long, short = (lionheart_command(*verb.split(), flag) for flag in ("--help", "-h"))
    assert (long.exit_code, long.stdout) == (0, short.stdout)
    assert max(map(len, long.stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_shows_no_type_of_switches_and_arguments(verb: str):
    """typer 0.29 shows <bool> for each switch and <str> for each argument."""
    assert not re.search("<[a-z]+>", lionheart_command(*verb.split(), "--help").stdout)


def test_help_and_completion_import_no_torch():
    code = (
        "import sys\nfrom lionheart.cli import app\nfrom lionheart.cli.completion import *\n"
        "complete_presets(''), complete_tasks(''), complete_platforms(''), complete_settings('')\n"
        "try:\n    app(['map', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# -------------------------------------------------------------------------------------------------------------- settings


def test_set_reaches_settings_at_every_depth(monkeypatch: pytest.MonkeyPatch):
    flags = ["--set", "search.n_chips=20", "--set", "tile.hwa.weight_clip_sigma=2", "--set", "steps_per_epoch=9"]
    flags += ["--set", "platforms=a,b", "--set", "search.lifetime=1mo", "--seed", "3", "--max-drop", "2.5"]
    flags += ["--train-minutes", "12.5"]
    found, _ = settings_of(monkeypatch, "map", *flags)
    assert found.search.n_chips == 20
    assert found.tile.hwa.weight_clip_sigma == 2.0
    assert (found.train.steps_per_epoch, found.train.minutes) == (9, 12.5)
    assert (found.platforms, found.seed) == (("a", "b"), 3)
    assert (found.search.lifetime, found.search.max_drop) == (2_592_000.0, 2.5)


@pytest.mark.parametrize("verb", SHOWN)
def test_every_setting_is_read_back(verb: str, monkeypatch: pytest.MonkeyPatch):
    """All at once as `lionheart settings` lists them, of another preset than the one that the command line starts from."""
    wanted = read_settings("robust", assignments=["device.technology=reram_cmo", "exclude=a,b*", "seed=7"])
    flags = [f"--set={path}={row.text}" for path, row in describe_settings(wanted).items()]
    found, _ = settings_of(monkeypatch, verb, *flags)
    assert found == wanted


def test_flags_and_set_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tiny.toml").write_text(TINY)
    flags = ["--config", str(tmp_path / "tiny.toml"), "--max-drop", "3", "--set", "search.n_chips=5"]
    found, _ = settings_of(monkeypatch, "map", *flags)
    assert (found.search.max_drop, found.search.n_chips, found.search.n_chips_final) == (3.0, 5, 2)
    assert found.search.max_drop_pp is None  # the bound of the file, in another unit, is replaced too


@pytest.mark.parametrize(
    ("flags", "message", "hint"),
    [
        (["--set", "n_chips"], "--set: got 'n_chips', expected a setting, '=' and a value", "--set search.n_chips=20"),
        (["--set", "search.n_chip=2"], "--set search.n_chip: unknown setting", "did you mean 'search.n_chips'"),
        (["--set", "sarch.n_chips=2"], "--set sarch.n_chips: unknown setting", "did you mean 'search.n_chips'"),
        (
            ["--set", "max_epochs=2"],
            "--set max_epochs: 2 settings have this name",
            "search.max_epochs, train.max_epochs",
        ),
        (["--set", "tile.rows=0"], "tile.rows: got 0: Input should be greater", "inputs of the crossbar"),
        (
            ["--set", "tile.hwa.remap=maybe"],
            "tile.hwa.remap: got 'maybe', expected true or false",
            "meaning of tile.hwa.remap: ",
        ),
        (["--max-drop", "little"], "search.max_drop: got 'little', expected a number", "'2 % rel'"),
        (["--seed", "1.5"], "seed: got '1.5', expected a whole number", "seed of all random streams"),
        (
            ["--max-drop", "2", "--set", "max_drop_pp=3"],
            "max_drop_pp: got 3.0 together with max_drop=2.0, expected one of the two",
            "which takes any unit",
        ),
        (["--set"], "map: option '--set' requires an argument", "lionheart map --help"),
    ],
)
def test_refused(flags: list[str], message: str, hint: str, tmp_path: Path):
    assert_refused(lionheart_command("map", TASK, "--out", tmp_path / "run", *flags), message, hint)
    assert list(tmp_path.iterdir()) == []


def test_settings_are_listed_as_set_takes_them():
    result = lionheart_command("settings", "--preset", "robust", "--set", "search.n_chips=4")
    assert (result.exit_code, result.stdout) == (0, "")
    assert max(map(len, result.stderr.splitlines())) <= 80
    rows = json.loads(lionheart_command("settings", "tile.hwa", "--json").stdout)
    assert rows[0]["setting"] == "tile.hwa.weight_noise"
    assert "search.n_chips 4 " in words(result.stderr)
    assert_refused(lionheart_command("settings", "tile.hw"), "settings: got 'tile.hw'", "did you mean 'tile.hwa'")


def without_seconds(data: Any) -> Any:
    """Return data without wall-clock times."""
    if isinstance(data, list):
        return [without_seconds(each) for each in data]
    if isinstance(data, dict):
        return {key: without_seconds(each) for key, each in data.items() if not key.endswith("_s") or "latency" in key}
    return data


def test_the_command_line_and_python_give_the_same_figures(tmp_path: Path):
    flags = ["--preset", "quick", "--seed", "3", "--max-drop", "20", "--set", "tile.rows=32", "--set", "tile.cols=32"]
    flags += ["--set", "search.n_chips=2", "--set", "search.n_chips_final=2", "--set", "train.max_epochs=1"]
    flags += ["--set", "train.steps_per_epoch=4", "--set", "search.report_times=1s,1h"]
    result = lionheart_command("map", TASK, *flags, "--out", tmp_path / "command", "--json")
    assert result.exit_code in (0, 3), result.output
    search = {"max_drop_pp": 20, "n_chips": 2, "n_chips_final": 2, "report_times": ("1s", "1h")}
    groups = {"tile": {"rows": 32, "cols": 32}, "train": {"max_epochs": 1, "steps_per_epoch": 4}}
    settings = MapSettings.preset("quick", seed=3, **search, **groups)
    map_layers(build_task(), settings, run_dir=tmp_path / "python")
    ours, theirs = (without_seconds(read_json(tmp_path / name / "results.json")) for name in ("command", "python"))
    assert {**ours, "task": ""} == {**theirs, "task": ""}
    weights, again = (load_file(tmp_path / name / "weights.safetensors") for name in ("command", "python"))
    assert list(weights) == list(again)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


# ------------------------------------------------------------------------------------------------------------- old flags

VALUES = {
    "--lifetime": ("1mo", 2_592_000.0),
    "--promise": ("0.95", 0.95),
    "--yield": ("0.9", 0.9),
    "--strategy": ("shared", "shared"),
    "--objective": ("energy", "energy"),
    "--ranking": ("macs", "macs"),
    "--max-minutes": ("9", 9.0),
    "--backend": ("another", "another"),
}
OLD = [(verb, flag) for verb in SHOWN for flag, old in FLAGS[verb].items() if not old.is_renamed]


@pytest.mark.parametrize(("verb", "flag"), OLD)
def test_old_flags_are_settings(verb: str, flag: str, monkeypatch: pytest.MonkeyPatch):
    old = FLAGS[verb][flag]
    given, expected = {
        "value": ([flag, VALUES.get(flag, ("3",))[0]], VALUES.get(flag, ("3", 3))[1]),
        "list": ([flag, "a", flag, "[07], b"], ("a", "[07], b")),
        "switch": ([flag], True),
    }[old.form]
    found, result = settings_of(monkeypatch, verb, *given)
    for name in old.replacement.split("."):
        found = getattr(found, name)
    assert found == expected
    [line] = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert line.startswith(f"warning: {flag} is now --set {old.replacement}=")
    assert flag not in re.findall(r"--[a-z-]+", lionheart_command(verb, "--help").stdout)


def test_old_flags_that_have_another_name(monkeypatch: pytest.MonkeyPatch):
    found, result = settings_of(monkeypatch, "map", "--effort", "robust")
    assert found == MapSettings.preset("robust")
    assert "warning: --effort is now --preset; " in result.stderr
    both = lionheart_command("map", TASK, "--effort", "robust", "--preset", "paper")
    assert both.exit_code == 2
    assert "error: --effort: got --preset too" in both.stderr


def test_flags_without_a_line_in_the_help(monkeypatch: pytest.MonkeyPatch):
    found, result = settings_of(monkeypatch, "map", "--confidence", "0.95")
    assert found.search.confidence_level == 0.95
    assert "warning" not in result.stderr
    assert_refused(lionheart_command("map", "--finish"), "--finish: got no run to finish", "--resume RUN")


def test_old_names_of_settings_are_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "old.toml").write_text("[search]\nchoose_corrections = true\n")
    flags = ["--config", str(tmp_path / "old.toml"), "--set", "search.promise=0.9"]
    found, result = settings_of(monkeypatch, "map", *flags)
    assert (found.search.confidence_level, found.search.tune_compensation) == (0.9, True)
    warned = [line for line in result.stderr.splitlines() if "is now" in line]
    assert len(warned) == 2
    assert all(line.startswith("warning: ") and ".py" not in line for line in warned)
    assert result.stderr.count("warning") == 2


# -------------------------------------------------------------------------------------------------------- every verb's


@pytest.mark.parametrize(
    "arguments", [["--quiet", "inspect", TASK], ["inspect", TASK, "--quiet"], ["inspect", "-q", TASK]]
)
def test_quiet(arguments: list[str]):
    result = lionheart_command(*arguments)
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads(lionheart_command(*arguments, "--json").stdout)["projections"]
    assert lionheart_command("inspect", TASK).stderr  # the next command speaks again


def test_quiet_says_what_went_wrong(tmp_path: Path):
    assert_refused(lionheart_command("--quiet", "inspect", "cifar10/resnet9"), "task: got 'cifar10/resnet9'")
    result = lionheart_command("map", TASK, "-q", "--chips", "0", "--out", tmp_path / "run")
    assert result.stderr.startswith("warning: --chips is now --set search.n_chips=...; ")
    assert_refused(result, "search.n_chips: got 0")


@pytest.mark.parametrize("arguments", [["--verbose", "inspect"], ["inspect", "--verbose"], ["inspect", "--debug"]])
def test_verbose_shows_tracebacks(arguments: list[str]):
    result = lionheart_command(*arguments, "cifar10/resnet9")
    assert (result.exit_code, "Traceback" in result.stderr) == (2, True)
    assert ("warning: --debug is now --verbose" in result.stderr) == ("--debug" in arguments)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["mpa"], "lionheart: got 'mpa'", "did you mean 'map'? commands: "),
        (["--jsno"], "lionheart: unknown flag --jsno", "lionheart --help lists all flags"),
        (["map", "--max-dorp", "3"], "map: unknown flag --max-dorp", "did you mean --max-drop?"),
        (["map", "--chip", "3"], "map: unknown flag --chip", "did you mean --set search.n_chips=...?"),
        (["map", "--learning-rate", "3"], "map: unknown flag --learning-rate", "--set train.learning_rate=...?"),
        (["simulate", "--second-opnion", "x"], "simulate: unknown flag --second-opnion", "did you mean --cross-check?"),
        (["evaluate"], "evaluate: missing argument 'RUN'", "lionheart evaluate --help"),
        (["report", "a", "b"], "report: got unexpected extra argument", "lionheart report --help"),
        (["evaluate", "x", "--chips", "few"], "evaluate: invalid value for '--chips'", "lionheart evaluate --help"),
        (["map", TASK, "--seed"], "map: option '--seed' requires an argument", "lionheart map --help"),
    ],
)
def test_what_is_no_command(arguments: list[str], message: str, hint: str):
    assert_refused(lionheart_command(*arguments), message, hint)


def test_no_verb_shows_the_help():
    result = lionheart_command()
    assert result.exit_code == 2
    assert "Usage: lionheart" in result.output
    assert "error" not in result.stderr


# ------------------------------------------------------------------------------------------------------------ completion


def test_completions_are_what_there_is():
    assert tuple(PRESETS) == SHOWN_PRESETS
    assert set(complete_tasks("")) <= set(TASKS)
    assert complete_tasks("cifar10/resnet2") == ["cifar10/resnet20"]
    assert complete_platforms("") == sorted(platform_names())
    for text in complete_settings("search."):
        read_settings("quick", assignments=[text])


def test_shells_ask_for_completions(monkeypatch: pytest.MonkeyPatch):
    for line, expected in (("map --preset r", ["robust"]), ("evalu", ["evaluate"]), ("inspect cifar10/resnet2", None)):
        monkeypatch.setenv("_LIONHEART_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", f"lionheart {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(line.split())))
        found = lionheart_command().stdout.split()
        assert found == (expected or ["cifar10/resnet20"])
