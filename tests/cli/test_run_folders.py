"""Run folders are data: whatever a folder contains, no code of it runs, nothing outside it changes, and the answer is clear."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import QUICK, lionheart_command
from folders import read_tree
from fuzzing import CONTROLS
from paths import SUPPORT
from quadrants import build_task
from safetensors.torch import load_file, save_file

import lionheart.errors
import lionheart.experimental.pareto.work
import lionheart.jobs.map
from lionheart.errors import ConfigError, LionHeartError
from lionheart.extras import hub_options
from lionheart.jobs import load_run, map_layers
from lionheart.runs import RunDirectory

pytestmark = [
    pytest.mark.usefixtures("small_noise_pool"),
    pytest.mark.filterwarnings("default::lionheart.errors.LionHeartWarning"),
]

TASK = "quadrants:build_task"
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202e"
SCRIPT = "<script>alert(1)</script>"
PARETO = ("--set", "pareto.n_trials=3", "--set", "search.n_chips_final=2", "--set", "search.n_chips=2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``map``, ``stopped`` (before its results) and ``front``, each of a run; tests copy them."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "quick.toml").write_text(QUICK)
    for verb, name, flags in (("map", "map", ()), ("pareto", "front", PARETO)):
        result = lionheart_command(verb, TASK, "--config", folder / "quick.toml", "--out", folder / name, *flags)
        assert result.exit_code == 0, result.output
    shutil.copytree(folder / "map", folder / "stopped")
    result = lionheart_command("simulate", folder / "map", "--cores", "2")
    assert result.exit_code == 0, result.output
    for name in ("results.json", "mapping.json", "weights.safetensors", "report.html"):
        (folder / "stopped" / name).unlink()
    lines = (folder / "map" / "journal.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["event"].startswith(("baseline", "ranking"))]
    (folder / "stopped" / "journal.jsonl").write_text("\n".join(kept) + "\n")
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder outside the run, which nothing may change."""
    folder = tmp_path / "victim"
    (folder / "sub").mkdir(parents=True)
    (folder / "file").write_text("precious\n")
    (folder / "sub" / "other").write_text("{}")
    return folder


# ------------------------------------------------------------------------------------------------------ hostile content


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path, Path], None]:
    """Return a damage that changes the JSON value of a file."""

    def damage(run: Path, victim: Path) -> None:
        path = run / name
        if path.exists():
            data = json.loads(path.read_text())
            path.write_text(json.dumps(change(data) or data))

    return damage


def replace(name: str, content: bytes) -> Callable[[Path, Path], None]:
    def damage(run: Path, victim: Path) -> None:
        (run / name).write_bytes(content)

    return damage


def link(name: str, target: str, *, hard: bool = False) -> Callable[[Path, Path], None]:
    def damage(run: Path, victim: Path) -> None:
        path = run / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        os.link(victim / target, path) if hard else path.symlink_to(victim / target)

    return damage


def pipe(name: str) -> Callable[[Path, Path], None]:
    def damage(run: Path, victim: Path) -> None:
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)

    return damage


def change_text(name: str, old: str, new: str) -> Callable[[Path, Path], None]:
    def damage(run: Path, victim: Path) -> None:
        path = run / name
        if path.exists():
            path.write_text(re.sub(old, lambda found: new, path.read_text()))

    return damage


def change_journal(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Path], None]:
    """Return a damage that changes every entry of the journal."""

    def damage(run: Path, victim: Path) -> None:
        path = run / "journal.jsonl"
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(change(entry) or entry) + "\n" for entry in entries))

    return damage


def change_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path, Path], None]:
    def damage(run: Path, victim: Path) -> None:
        for path in (run / "weights.safetensors", run / "checkpoints" / "accepted.safetensors"):
            if path.exists():
                tensors = load_file(path)
                save_file(change(tensors) or tensors, path, {"lionheart": "{}"})

    return damage


def cut(name: str) -> Callable[[Path, Path], None]:
    def damage(run: Path, victim: Path) -> None:
        path = run / name
        if path.exists():
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])

    return damage


def rename(old: str, new: str) -> Callable[[Path, Path], None]:
    """Return a damage that gives the projection ``0`` another name in every file of the run."""

    def damage(run: Path, victim: Path) -> None:
        for path in run.glob("*.json*"):
            path.write_text(path.read_text().replace(f'"{old}"', json.dumps(new)))

    return damage


def set_key(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data[key] = value

    return change


DEEP = b'{"schema_version": 2, "a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
FILES = ("run.json", "graph.json", "results.json", "journal.jsonl", "mapping.json", "pareto.json", "system.json")
LINKS = (*FILES, ".lock", "weights.safetensors", "report.html", "evaluation.json", "study.db", "study.db-journal")
DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    **{f"link {name}": link(name, "file") for name in LINKS},
    **{f"dangling {name}": link(name, "absent") for name in (".lock", "journal.jsonl", "evaluation.json", "study.db")},
    "link checkpoints": link("checkpoints", "sub"),
    "link in checkpoints": link("checkpoints/accepted.safetensors", "file"),
    "hard lock": link(".lock", "file", hard=True),
    "hard journal": link("journal.jsonl", "file", hard=True),
    "hard study": link("study.db", "file", hard=True),
    **{f"hard {name}": link(name, "file", hard=True) for name in ("results.json", "report.html", "evaluation.json")},
    **{f"pipe {name}": pipe(name) for name in ("run.json", "journal.jsonl", ".lock", "results.json", "study.db")},
    **{f"deep {name}": replace(name, DEEP) for name in FILES},
    **{f"list {name}": replace(name, b"[1, 2]") for name in FILES},
    **{f"text {name}": replace(name, b'"text"') for name in FILES},
    **{f"not UTF-8 {name}": replace(name, b'{"a": "\xff\xfe"}') for name in FILES},
    **{f"digits {name}": replace(name, b'{"schema_version": ' + b"9" * 4_400 + b"}") for name in FILES},
    **{f"NaN {name}": change_text(name, r"\d+\.\d+", "NaN") for name in FILES},
    **{f"1e999 {name}": change_text(name, r"\d+\.\d+", "1e999") for name in FILES},
    **{f"negative {name}": change_text(name, r"\d+\.\d+", "-3.5") for name in FILES},
    **{f"huge {name}": change_text(name, r"(?<=: )\d+(?=,)", "18446744073709551615") for name in FILES},
    **{f"zero {name}": change_text(name, r"(?<=: )\d+(?=[,\n}])", "0") for name in FILES if name != "run.json"},
    **{f"floats {name}": change_text(name, r"(?<=: )\d+(?=,)", "1e308") for name in FILES},
    **{f"null {name}": change_text(name, r"(?<=: )\d+(\.\d+)?(?=,)", "null") for name in FILES},
    **{f"empty lists {name}": change_text(name, r"\[[^\[\]]+\]", "[]") for name in FILES},
    **{f"surrogates {name}": change_text(name, r'(?<=: )"\w+"', '"\\ud800"') for name in FILES},
    **{f"escapes {name}": change_text(name, r'(?<=: )"\w+"', json.dumps(ESCAPES)) for name in FILES},
    **{f"cut {name}": cut(name) for name in (*FILES, "weights.safetensors", "study.db")},
    **{f"BOM {name}": change_text(name, r"\A", "\ufeff") for name in FILES},
    **{f"CRLF {name}": change_text(name, "\n", "\r\n") for name in FILES},
    **{f"twice {name}": change_text(name, r'("\w+"): (\d+)(?=,)', '"schema_version": 2') for name in FILES},
    "task runs code": edit("run.json", set_key("task", "os:abort")),
    "task is a file": edit("run.json", set_key("task", "evil.py:build")),
    "task is a folder": edit("run.json", set_key("task", "text@/etc")),
    "task is not a text": edit("run.json", set_key("task", ["quadrants:build_task"])),
    "task is long": edit("run.json", set_key("task", "x/" * 2_500 + "a.py:b")),
    "storage is a file": edit("run.json", set_key("storage", "sqlite:///evil.db")),
    "study has escapes": edit("run.json", set_key("study", ESCAPES)),
    "platforms are paths": edit("run.json", lambda data: data["settings"].update(platforms=["../victim/file.toml"])),
    "platforms are long": edit("run.json", lambda data: data["settings"].update(platforms=["x" * 5_000 + ".toml"])),
    "platforms have nulls": edit("run.json", lambda data: data["settings"].update(platforms=["x\0.toml"])),
    "backend is code": edit("run.json", lambda data: data["settings"].update(backend="os:abort")),
    "settings are a list": edit("run.json", set_key("settings", [1])),
    "settings are deep": edit("run.json", lambda data: data["settings"].update(search=json.loads("[" * 300 + "]" * 300))),
    "names climb": rename("0", "../../victim/file"),
    "names are absolute": rename("0", "/etc/passwd"),
    "names have escapes": rename("0", ESCAPES),
    "names are scripts": rename("0", SCRIPT),
    "names are markup": rename("0", "[/bold] [red]x[/red] :llama: {0} %s"),
    "names are long": rename("0", "x" * 100_000),
    "journal without values": change_journal(lambda entry: {"event": entry["event"]}),
    "journal of texts": change_journal(lambda entry: {**entry, "value": "text"}),
    "journal of nulls": change_journal(lambda entry: {**entry, "value": None}),
    "journal with other events": change_journal(lambda entry: {**entry, "event": 3}),
    "journal without events": change_journal(lambda entry: {key: entry[key] for key in entry if key != "event"}),
    "journal with times": change_journal(lambda entry: {**entry, "elapsed_s": "long"}),
    "journal with huge times": change_journal(lambda entry: {**entry, "elapsed_s": 1e308}),
    "tensors are flat": change_tensors(lambda all_: {name: each.reshape(-1) for name, each in all_.items()}),
    "tensors are whole": change_tensors(lambda all_: {name: each.to(torch.int32) for name, each in all_.items()}),
    "tensors are NaN": change_tensors(lambda all_: {name: each * torch.nan for name, each in all_.items()}),
    "tensors are complex": change_tensors(lambda all_: {name: each.to(torch.complex64) for name, each in all_.items()}),
    "tensors have other names": change_tensors(lambda all_: {f"../{name}": each for name, each in all_.items()}),
    "no tensors": change_tensors(lambda all_: {"x": torch.zeros(1)}),
    "tensors are eight bits": change_tensors(lambda all_: {n: e.to(torch.float8_e4m3fn) for n, e in all_.items()}),
}  # fmt: skip
COMMANDS = {
    "map": ("evaluate", "map", "export", "report", "simulate", "load_run"),
    "stopped": ("map", "evaluate", "report"),
    "front": ("pareto",),
}
ARGUMENTS = {
    "evaluate": ("evaluate", "RUN", "--task", TASK, "--times", "1s", "--chips", "1", "--samples", "8"),
    "map": ("map", TASK, "--resume", "RUN"),
    "export": ("export", "RUN", "--to", "json"),
    "report": ("report", "RUN"),
    "simulate": ("simulate", "RUN", "--cores", "2"),
    "pareto": ("pareto", TASK, "--resume", "RUN"),
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a user, with a module that notices when it is imported."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "evil.py").write_text("raise SystemExit('the folder has run code')\n")
    monkeypatch.chdir(work)
    yield work
    assert sorted(os.listdir(work)) == ["evil.py", "run"]


#: Damages that are tried on every kind of folder, one of each sort; the others are tried on folders of finished runs.
USUAL = (
    "link .lock", "link journal.jsonl", "link checkpoints", "hard journal", "pipe run.json", "deep results.json",
    "digits run.json", "NaN results.json", "empty lists results.json", "surrogates graph.json", "cut weights.safetensors",
    "platforms have nulls", "names climb", "names have escapes", "names are markup", "journal with times", "tensors are flat",
)  # fmt: skip


def is_tried(kind: str, damage: str) -> bool:
    """Files of a front are damaged in its folder, since others have none."""
    if "pareto.json" in damage or "study" in damage:
        return kind == "front"
    return kind == "map" or damage in USUAL


@pytest.mark.parametrize(
    ("kind", "damage"), [(kind, name) for kind in COMMANDS for name in DAMAGES if is_tried(kind, name)]
)
def test_hostile_run_folders(kind: str, damage: str, runs: Path, victim: Path, hostile: Path):
    """Each damage ended in one of: exit 1, code that runs, a changed file elsewhere, a hang, escapes on the terminal."""
    for command in COMMANDS[kind]:
        shutil.rmtree(hostile / "run", ignore_errors=True)
        shutil.copytree(runs / kind, hostile / "run")
        DAMAGES[damage](hostile / "run", victim)
        before = read_tree(victim, with_status=True)
        if command == "load_run":
            with suppress(LionHeartError):
                load_run(hostile / "run", build_task().model)
        else:
            words = (str(hostile / "run") if each == "RUN" else each for each in ARGUMENTS[command])
            result = lionheart_command(*words)
            assert result.exit_code in (0, 2, 3), (command, result.stderr)
            assert len(re.findall("^error: ", result.stderr, re.MULTILINE)) == (result.exit_code == 2)
            assert CONTROLS.search(result.stdout + result.stderr) is None
            assert len(result.stderr) < 12_000
        assert read_tree(victim, with_status=True) == before
        page = hostile / "run" / "report.html"
        if page.is_file() and page.stat().st_nlink == 1:
            text = page.read_text()
            assert SCRIPT not in text
            assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) is None


# --------------------------------------------------------------------------------------------- tasks that folders name

EVIL = "import pathlib\npathlib.Path('ran').write_text('')\ndef build():\n    pass\n"
TASK_COMMANDS = {
    "evaluate": ("map", ["evaluate", "RUN"], ["--task", TASK, "--times", "1s", "--chips", "1", "--samples", "8"]),
    "export": ("map", ["export", "RUN", "--to", "alpine", "--inputs", "0"], ["--task", TASK]),
    "map": ("map", ["map", "--resume", "RUN"], [TASK]),
    "pareto": ("front", ["pareto", "--resume", "RUN"], [TASK]),
}


@pytest.mark.parametrize("verb", TASK_COMMANDS)
@pytest.mark.parametrize("name", ["evil.py:build", "evil:build", "os:abort", "hf:gpt2", "text@/etc", "task"])
def test_a_folder_names_no_code(name: str, verb: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """These commands imported and called whatever `"task"` in run.json named. A run made in Python has the task "task"."""
    kind, words, _ = TASK_COMMANDS[verb]
    run = Path(shutil.copytree(runs / kind, tmp_path / "run"))
    edit("run.json", set_key("task", name))(run, tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    result = lionheart_command(*("run" if each == "RUN" else each for each in words))
    assert result.exit_code == 2, result.stderr
    assert f"the task {name!r} of this run is not built in" in result.stderr
    assert ("--task TASK" if verb in ("evaluate", "export") else f"lionheart {verb} TASK --resume run") in result.stderr
    assert ("--trust-task" in result.stderr) == (name != "task")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("verb", TASK_COMMANDS)
@pytest.mark.parametrize("is_named", [True, False])
def test_the_user_names_or_trusts_the_task(verb: str, is_named: bool, runs: Path, tmp_path: Path):
    kind, words, named = TASK_COMMANDS[verb]
    run = Path(shutil.copytree(runs / kind, tmp_path / "run"))
    words = [str(run) if each == "RUN" else each for each in words] + (named if is_named else ["--trust-task"])
    if not is_named:
        words += named[2:]
    result = lionheart_command(*words)
    assert "is not built in" not in result.stderr
    assert (result.exit_code == 0) == (verb != "export")  # this export is refused later: no stored samples


def test_a_storage_is_named_again(runs: Path, tmp_path: Path):
    """`pareto --resume` opened the database that `"storage"` in run.json named, that is wrote to any file."""
    run = Path(shutil.copytree(runs / "front", tmp_path / "run"))
    edit("run.json", set_key("storage", f"sqlite:///{tmp_path / 'other.db'}"))(run, tmp_path)
    (run / "journal.jsonl").write_text("")
    result = lionheart_command("pareto", TASK, "--resume", run)
    assert result.exit_code == 2
    assert "which is not opened unless it is given again" in result.stderr
    assert not (tmp_path / "other.db").exists()
    again = lionheart_command("pareto", TASK, "--resume", run, "--storage", f"sqlite:///{tmp_path / 'mine.db'}")
    assert again.exit_code == 0, again.stderr


# -------------------------------------------------------------------------------------------- nothing is left, or is lost


@pytest.mark.parametrize("is_old", [True, False])
@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("map", ["--set", "search.max_drop_pp=3"]),
        ("pareto", ["--set", "pareto.n_trials=2"]),
    ],
)
def test_a_run_that_fails_early_leaves_nothing(
    verb: str, flags: list[str], is_old: bool, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """run.json stayed in the folder, so that the corrected command was refused: "the directory already holds a run"."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise lionheart.errors.ConfigError("search: got too few samples, expected more")

    monkeypatch.setattr(lionheart.jobs.map, "rank_for_run", fail)
    monkeypatch.setattr(lionheart.experimental.pareto.work.ParetoJob, "_seeds", fail)
    out = tmp_path / "deep" / "run"
    if is_old:
        out.mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
    before = read_tree(tmp_path, with_status=True)
    result = lionheart_command(verb, TASK, "--config", runs / "quick.toml", "--out", out, *flags)
    assert result.exit_code == 2, result.stderr
    assert set(read_tree(tmp_path)) == set(before)
    monkeypatch.undo()
    result = lionheart_command(
        verb, TASK, "--config", runs / "quick.toml", "--out", out, *(PARETO if verb == "pareto" else ())
    )
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("name", ["run.json", "graph.json", "journal.jsonl", "results.json"])
def test_a_folder_with_files_of_a_run_is_refused(name: str, runs: Path, tmp_path: Path):
    """A journal without run.json was taken for the journal of the new run."""
    (tmp_path / "run").mkdir()
    shutil.copy(runs / "map" / name, tmp_path / "run" / name)
    result = lionheart_command("map", TASK, "--config", runs / "quick.toml", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "already holds a run" in result.stderr


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "--out: got an empty text"),
        ("  ", "--out: got an empty text"),
        ("runs/\udcfc", r"got 'runs/\\udcfc', not text"),
        ("LINK", "a symbolic link to"),
        ("DANGLING", "a symbolic link to"),
        ("x" * 300, "cannot be used"),
        ("a/" * 3_000, "cannot be used"),
    ],
)
@pytest.mark.parametrize("verb", ["map", "pareto"])
def test_folders_that_cannot_be_used(
    verb: str, out: str, message: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """An empty path wrote into the current folder, and a path that is not UTF-8 failed after the whole search."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "LINK").symlink_to(tmp_path / "folder")
    (tmp_path / "DANGLING").symlink_to(tmp_path / "absent")
    before = read_tree(tmp_path, with_status=True)
    result = lionheart_command(verb, TASK, "--config", runs / "quick.toml", "--out", out)
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert read_tree(tmp_path, with_status=True) == before


def test_a_path_that_the_locale_cannot_write_is_refused_first(runs: Path, tmp_path: Path):
    """In a C locale, a path with ``ü`` failed after the whole search."""
    support = Path(__file__).parents[1] / "support"
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **locale, "PYTHONPATH": os.pathsep.join([str(support), *sys.path])}
    words = ["map", TASK, "--config", str(runs / "quick.toml"), "--out", "rüns"]
    found = subprocess.run(
        [sys.executable, "-m", "lionheart", *words], cwd=tmp_path, env=environment, capture_output=True, timeout=120
    )
    assert found.returncode == 2, found.stderr
    assert b"not text in ascii" in found.stderr
    assert found.stderr.count(b"error: ") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("out", ["", " ", 3, "runs/\udcfc", "nul\0l"])
def test_folders_that_cannot_be_used_in_python(out: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"run_dir: got|not text in UTF-8"):
        map_layers(build_task(), run_dir=out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["evaluate", "map", "simulate", "pareto"])
def test_results_are_shown_if_the_disk_refuses_them(
    command: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a read-only disk, `map --resume` of a finished run was exit 1, and `evaluate` threw away what it had computed."""

    def refuse(*arguments: Any, **options: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    run = Path(shutil.copytree(runs / ("front" if command == "pareto" else "map"), tmp_path / "run"))
    before = read_tree(run, with_status=True)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(os, "write", refuse)
    words = [str(run) if each == "RUN" else each for each in ARGUMENTS[command]]
    result = lionheart_command(*words, "--json")
    monkeypatch.undo()
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)
    assert "Read-only file system" in result.stderr
    assert read_tree(run, with_status=True) == before


def test_leftovers_of_a_kill_are_deleted(runs: Path, tmp_path: Path):
    run = Path(shutil.copytree(runs / "stopped", tmp_path / "run"))
    (run / "checkpoints").mkdir(exist_ok=True)
    left = [run / ".results.json.abcd1234", run / ".weights.safetensors.abcd1234", run / ".graph.json.abcd1234"]
    left += [run / "checkpoints" / ".accepted.safetensors.abcd1234", run / ".report.html.abcd1234"]
    for path in left:
        path.write_text("")
    result = lionheart_command("map", TASK, "--resume", run)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in left if path.exists()] == []


# ------------------------------------------------------------------------------------------------- signals and environment


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_run_with_one_message(name: str, code: int, runs: Path, tmp_path: Path):
    """SIGTERM and SIGHUP ended the process without a word."""
    (tmp_path / "slow.py").write_text(
        "import os, signal\nimport quadrants\nimport lionheart.jobs.map\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a test that runs in the background inherits SIG_IGN\n"
        "def stop(*arguments):\n    os.kill(os.getpid(), signal.NAME)\n    signal.pause()\n"
        "lionheart.jobs.map.rank_for_run = stop\nbuild = quadrants.build_task\n".replace("NAME", name)
    )
    paths = os.pathsep.join([str(SUPPORT), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        "-m",
        "lionheart",
        "map",
        "slow.py:build",
        "--config",
        str(runs / "quick.toml"),
        "--out",
        "run",
    ]
    found = subprocess.run(
        words,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # a suite under nohup ignores it
    )
    assert found.returncode == code, found.stderr
    assert found.stderr.count("Stopped") == 1
    assert "Traceback" not in found.stderr
    assert "lionheart map slow.py:build --resume run" in found.stderr
    assert RunDirectory.open(tmp_path / "run").description().task == "slow.py:build"


@pytest.mark.parametrize(("key", "value"), [("threads", 99), ("torch", "1.0"), ("device", "cuda")])
@pytest.mark.parametrize("kind", ["stopped", "front"])
def test_another_environment_is_said(kind: str, key: str, value: Any, runs: Path, tmp_path: Path):
    """A run that was started with 2 threads and resumed with 1 has other figures than both, and nothing said so."""
    run = Path(shutil.copytree(runs / kind, tmp_path / "run"))
    edit("run.json", lambda data: data["environment"].update({key: value}))(run, tmp_path)
    if kind == "front":
        (run / "journal.jsonl").write_text("")
    result = lionheart_command(
        *(str(run) if each == "RUN" else each for each in ARGUMENTS["map" if kind == "stopped" else "pareto"])
    )
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stderr.split())
    assert "The run was resumed in another environment (" in text
    assert f": {value}, then " in text
    assert ("OMP_NUM_THREADS=99" in result.stderr) == (key == "threads")


# --------------------------------------------------------------------------------------------------------- names of users


@pytest.mark.parametrize("name", [ESCAPES, "[/bold][red]x", "a\r\nerror: b", "x" * 30_000])
def test_names_of_modules_on_the_terminal(name: str, tmp_path: Path):
    """Control characters of names were executed by the terminal, and markup of rich was an internal error."""
    (tmp_path / "named.py").write_text(
        "import torch\ndef build():\n    net = torch.nn.Sequential()\n"
        f"    net.add_module({name!r}, torch.nn.Linear(4, 4))\n    return net, torch.zeros(1, 4)\n"
    )
    for flags in ([], ["--all"], ["--json"], ["--exclude", name]):
        result = lionheart_command("inspect", f"{tmp_path / 'named.py'}:build", *flags)
        assert result.exit_code in (0, 2), result.stderr
        assert "internal error" not in result.stderr
        assert CONTROLS.search(result.stdout + result.stderr) is None
        assert len(result.stderr) < 12_000


@pytest.mark.parametrize("verb", ["map", "inspect", "profile", "pareto"])
@pytest.mark.parametrize(
    "name",
    [
        "x/" * 2_500 + "a.py:f",
        "x" * 5_000,
        "x" * 5_000 + ":f",
        f"{ESCAPES}.py:f",
        f"{ESCAPES}:f",
        "a.py:" + "f" * 5_000,
    ],
)
def test_impossible_names_of_tasks(verb: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A path of 5,000 characters was an OSError, and the message repeated it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("")
    result = lionheart_command(verb, name)
    assert result.exit_code == 2, result.stderr
    assert len(result.stderr) < 2_000
    assert "\x1b" not in result.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["a.py"]


def test_default_folders_are_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Path):
    """`../net.py:f` gave the hidden folder `runs/..-net.py:f-...`, and colons break scp, docker and Windows."""
    (tmp_path / "work").mkdir()
    (tmp_path / "net.py").write_text("from quadrants import build_task as f\n")
    monkeypatch.chdir(tmp_path / "work")
    for name, start in (("../net.py:f", "net.py-f-"), (f"{tmp_path}/net.py:f", "tmp-")):
        shutil.rmtree("runs", ignore_errors=True)
        assert lionheart_command("map", name, "--config", runs / "quick.toml").exit_code == 0
        found = os.listdir("runs")
        assert [re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*[A-Za-z0-9]", each) is not None for each in found] == [True]
        assert found[0].startswith(start)


def test_no_waiting_without_a_network(monkeypatch: pytest.MonkeyPatch):
    """`text@NAME` waited half a minute for a hub that cannot be reached."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    assert hub_options("nobody/none") == {"trust_remote_code": False, "local_files_only": True}
    assert hub_options(str(Path.cwd())) == {"trust_remote_code": False}
