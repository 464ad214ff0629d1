"""Run folders are data: whatever a folder contains, no code of it runs, nothing outside it changes, and the answer is clear."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import TINY, lionheart_command
from quadrants import build_task
from safetensors.torch import load_file, save_file

from lionheart.errors import LionHeartError
from lionheart.jobs import load_run

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
    (folder / "tiny.toml").write_text(TINY)
    for verb, name, flags in (("map", "map", ()), ("pareto", "front", PARETO)):
        result = lionheart_command(verb, TASK, "--config", folder / "tiny.toml", "--out", folder / name, *flags)
        assert result.exit_code == 0, result.output
    shutil.copytree(folder / "map", folder / "stopped")
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


def tree(folder: Path) -> dict[str, str]:
    """Return a hash of each file below a folder, with its size, mode and time of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = f"{content} {status.st_size} {status.st_mode} {status.st_mtime_ns}"
    return found


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
    "tensors are transposed": change_tensors(lambda all_: {k: v.t().contiguous() if v.dim() == 2 else v for k, v in all_.items()}),
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


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", COMMANDS)
def test_hostile_run_folders(kind: str, damage: str, runs: Path, victim: Path, hostile: Path):
    """Each damage used to end in one of: exit 1, code that runs, a changed file elsewhere, a hang, or escapes on the terminal."""
    for command in COMMANDS[kind]:
        shutil.rmtree(hostile / "run", ignore_errors=True)
        shutil.copytree(runs / kind, hostile / "run")
        DAMAGES[damage](hostile / "run", victim)
        before = tree(victim)
        if command == "load_run":
            try:
                load_run(hostile / "run", build_task().model)
            except LionHeartError as error:
                assert len(str(error)) < 6_000
        else:
            result = lionheart_command(
                *(str(hostile / "run") if each == "RUN" else each for each in ARGUMENTS[command])
            )
            assert result.exit_code in (0, 2, 3), (command, result.stderr)
            assert len(re.findall("^error: ", result.stderr, re.MULTILINE)) == (result.exit_code == 2)
            assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", result.stdout + result.stderr) is None
            assert len(result.stderr) < 12_000
        assert tree(victim) == before
        page = hostile / "run" / "report.html"
        if page.is_file() and page.stat().st_nlink == 1:
            text = page.read_text()
            assert SCRIPT not in text
            assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) is None
