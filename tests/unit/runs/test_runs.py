"""The run directory: whole files, a journal that survives cuts, one process at a time."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from lionheart.errors import ArtifactError
from lionheart.runs import RunDirectory, describe_environment

DESCRIPTION = {"task": "made-up", "seed": 7, "settings": {"a": 1}}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", DESCRIPTION)


def files_below(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


# ----------------------------------------------------------------------------------------------------- create and open


def test_create_and_open(run: RunDirectory):
    assert files_below(run.path) == ["run.json"]
    again = RunDirectory.open(run.path)
    assert again.description() == {"schema_version": 1, **DESCRIPTION}
    assert again.events() == []
    assert not again.has("results.json")
    again.write("results.json", {"x": 0.1})
    assert run.has("results.json")
    assert run.read("results.json") == {"schema_version": 1, "x": 0.1}


def test_a_run_is_never_overwritten(run: RunDirectory):
    before = run.file("run.json").read_bytes()
    with pytest.raises(ArtifactError, match="a run is there already") as caught:
        RunDirectory.create(run.path, {"task": "other"})
    assert f"--resume {run.path}" in caught.value.hint
    assert run.file("run.json").read_bytes() == before


def test_no_run_here(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ArtifactError, match=r"no run here \(run.json is missing\)"):
            RunDirectory.open(path)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_version_of_run_json(run: RunDirectory, version):
    run.file("run.json").write_text(json.dumps({**DESCRIPTION, "schema_version": version}))
    with pytest.raises(ArtifactError, match=r"run.json: schema_version: got .*, expected 1"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1, "task"', "[]", "1", "\xff"])
def test_damaged_run_json(run: RunDirectory, text):
    run.file("run.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"run\.json"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize(("key", "value"), [("task", None), ("seed", "x"), ("settings", []), ("settings", None)])
def test_run_json_without_a_part(run: RunDirectory, key, value):
    """Was a KeyError long after opening, reported as a bug in lionheart."""
    run.file("run.json").write_text(json.dumps({"schema_version": 1, **DESCRIPTION, key: value}))
    with pytest.raises(ArtifactError, match=rf"run\.json: {key}: got"):
        RunDirectory.open(run.path)


# ------------------------------------------------------------------------------------- nothing half-written stays behind


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder used to be made before the space was looked at, and stayed."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 10, 10))
    with pytest.raises(ArtifactError, match="0 MB free, 50 MB needed"):
        RunDirectory.create(tmp_path / "deep" / "run", DESCRIPTION)
    assert files_below(tmp_path) == []


def test_a_disk_that_fills_while_writing_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "kept").mkdir()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ArtifactError, match="no space left on the disk"):
        RunDirectory.create(tmp_path / "kept" / "run", DESCRIPTION)
    assert files_below(tmp_path) == ["kept"]


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "new" / ("x" * 300)):
        with pytest.raises(ArtifactError, match="cannot be used for checkpoints and results"):
            RunDirectory.create(path, DESCRIPTION)
    assert files_below(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "precious"


def test_a_failed_write_keeps_the_old_file(run: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    run.write("results.json", {"x": 1})
    before = files_below(run.path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ArtifactError, match=r"results\.json: cannot be written: Input/output error"):
        run.write("results.json", {"x": 2})
    with pytest.raises(ArtifactError, match=r"journal\.jsonl: cannot be written"):
        run.record("late")
    monkeypatch.undo()
    assert run.read("results.json")["x"] == 1
    assert [name for name in files_below(run.path) if name != "journal.jsonl"] == before


# --------------------------------------------------------------------------------------------------------- the journal


def test_events_in_order_and_by_kind(run: RunDirectory):
    run.record("decision", index=0, text="two\nlines \u2028 µ")
    run.record("baseline", accuracy=0.1)
    run.record("decision", index=1)
    assert [event["event"] for event in run.events()] == ["decision", "baseline", "decision"]
    assert [event["index"] for event in run.events("decision")] == [0, 1]
    assert run.events("decision")[0]["text"] == "two\nlines \u2028 µ"
    assert len(run.file("journal.jsonl").read_bytes().splitlines()) == 3


def test_a_cut_last_line_costs_that_line_only(run: RunDirectory):
    journal = run.file("journal.jsonl")
    for index in range(3):
        run.record("decision", index=index)
    whole = journal.read_bytes()
    last_line = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last_line, len(whole) + 1):
        journal.write_bytes(whole[:length])
        kept = [0, 1, 2] if length >= len(whole) - 1 else [0, 1]  # only the newline is missing: the event is whole
        assert [event["index"] for event in run.events("decision")] == kept
        run.record("decision", index=3)
        assert [event["index"] for event in run.events("decision")] == [*kept, 3]
        assert journal.read_bytes().startswith(whole[:length])  # the journal only grows


def test_numbers_that_json_lacks_are_refused_before_writing(run: RunDirectory):
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.record("decision", accuracy=float("nan"))
    assert run.events() == []


# ------------------------------------------------------------------------------------------------------------ the lock

_TRY_LOCK = """
import sys
from pathlib import Path
from lionheart.errors import ArtifactError
from lionheart.runs import RunDirectory
try:
    with RunDirectory.open(Path(sys.argv[1])).lock():
        print("held")
except ArtifactError as error:
    print(error.message)
"""


def try_lock(path: Path) -> str:
    done = subprocess.run([sys.executable, "-c", _TRY_LOCK, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_second_process_is_refused(run: RunDirectory):
    with run.lock():
        assert try_lock(run.path) == f"{run.path}: another process is working on this run"
    assert try_lock(run.path) == "held"


def test_the_lock_is_given_back_after_an_error(run: RunDirectory):
    class KilledError(BaseException):
        pass

    with pytest.raises(KilledError), run.lock():
        raise KilledError
    with run.lock():
        pass


# ----------------------------------------------------------------------------------------------------- the environment


def test_environment_is_plain_data():
    environment = describe_environment(torch.device("cpu"))
    assert set(environment) == {
        "lionheart",
        "python",
        "torch",
        "cpu",
        "cpu_capability",
        "threads",
        "device",
        "gpu",
        "system",
    }
    assert json.loads(json.dumps(environment)) == environment
    assert environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert environment["threads"] >= 1
    assert environment["cpu"]
