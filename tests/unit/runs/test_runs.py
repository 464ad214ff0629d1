"""The run directory: whole files, older versions, one process at a time."""

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
from lionheart.files import read_json
from lionheart.runs import AgeTrial, Environment, RunDescription, RunDirectory, describe_environment

DESCRIPTION = RunDescription(task="made-up", seed=7, settings={"a": 1})
ROW = AgeTrial(age_s=1.0, drop_pp=0.1, drop_ucb_pp=0.2, within=True)
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
    assert again.description() == DESCRIPTION
    assert again.journal.events() == []
    assert not again.has("age.json")
    again.write("age.json", ROW)
    assert run.has("age.json")
    assert run.read("age.json", AgeTrial) == ROW
    assert read_json(run.file("age.json")) == {"schema_version": 2, **ROW.to_json()}
    again.write("ages.json", [ROW, ROW])
    assert run.read("ages.json", list[AgeTrial]) == [ROW, ROW]


def test_a_damaged_file_of_a_run_is_named(run: RunDirectory):
    run.file("age.json").write_text(json.dumps({**ROW.to_json(), "drop_pp": "much", "within": None}))
    with pytest.raises(ArtifactError) as caught:
        run.read("age.json", AgeTrial)
    assert caught.value.message.splitlines() == [
        f"{run.file('age.json')}.drop_pp: got a str, expected a finite number",
        f"{run.file('age.json')}.within: got None, expected true or false",
    ]
    with pytest.raises(ArtifactError, match=r"nothing\.json"):
        run.read("nothing.json", AgeTrial)


def test_a_run_is_never_overwritten(run: RunDirectory):
    before = run.file("run.json").read_bytes()
    with pytest.raises(ArtifactError, match="the directory already holds a run") as caught:
        RunDirectory.create(run.path, DESCRIPTION.replace(task="other"))
    assert f"--resume {run.path}" in caught.value.hint
    assert run.file("run.json").read_bytes() == before


def test_no_run_here(tmp_path: Path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ArtifactError, match=r"no run in this directory \(run.json is missing\)"):
            RunDirectory.open(path)
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("version", [0, 3, "1", "2", None])
def test_version_of_run_json(run: RunDirectory, version):
    run.file("run.json").write_text(json.dumps({**DESCRIPTION.to_json(), "schema_version": version}))
    with pytest.raises(ArtifactError, match=r"run.json: schema_version: got .*, expected 1 or 2"):
        RunDirectory.open(run.path)


def test_a_run_of_an_older_version_is_opened_but_does_not_go_on(run: RunDirectory):
    """As version 1 wrote it: no command that started it, no study."""
    old = {
        "schema_version": 1, "lionheart_version": "0.9", "created": "2026-01-01T00:00:00Z", "task": "made-up", "seed": 7,
        "command": "lionheart map made-up", "settings": {"a": 1},
        "environment": {"lionheart": "0.9", "python": "3.11", "torch": "2.9", "cpu": "any", "threads": 1,
                        "device": "cpu", "gpu": None, "system": "Linux x86_64"},
    }  # fmt: skip
    run.file("run.json").write_text(json.dumps(old))
    again = RunDirectory.open(run.path)
    again.require_job("map")
    description = again.description()
    assert (description.schema_version, description.task, description.settings) == (1, "made-up", {"a": 1})
    assert description.environment.cpu_capability == ""
    with pytest.raises(
        ArtifactError, match=r"an older version started the run \(schema_version 1, expected 2\)"
    ) as caught:
        again.require_resumable()
    assert "results of a finished run can be read" in caught.value.hint


def test_a_run_of_this_version_goes_on(run: RunDirectory):
    run.require_resumable()
    run.require_job("map")
    with pytest.raises(ArtifactError, match="a run of `lionheart map`, expected a run of `lionheart pareto`") as caught:
        run.require_job("pareto")
    assert f"lionheart map --resume {run.path}" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1, "task"', "[]", "1", "\xff"])
def test_damaged_run_json(run: RunDirectory, text):
    run.file("run.json").write_text(text, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"run\.json"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize(("key", "value"), [("task", None), ("seed", "x"), ("settings", []), ("settings", None)])
def test_run_json_without_a_part(run: RunDirectory, key, value):
    """Was a KeyError long after opening, reported as a bug in lionheart."""
    run.file("run.json").write_text(json.dumps({**DESCRIPTION.to_json(), key: value}))
    with pytest.raises(ArtifactError, match=rf"run\.json\.{key}: got"):
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

    run.write("age.json", ROW)
    before = files_below(run.path)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ArtifactError, match=r"age\.json: cannot be written: Input/output error"):
        run.write("age.json", ROW.replace(drop_pp=2.0))
    with pytest.raises(ArtifactError, match=r"journal\.jsonl: cannot be written"):
        run.journal.note("late")
    monkeypatch.undo()
    assert run.read("age.json", AgeTrial) == ROW
    assert [name for name in files_below(run.path) if name != "journal.jsonl"] == before


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


def test_environment_is_a_record():
    environment = describe_environment(torch.device("cpu"))
    data = environment.to_json()
    assert set(data) == {
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
    assert Environment.from_json(json.loads(json.dumps(data)), "run.json") == environment
    assert environment.python == ".".join(map(str, sys.version_info[:3]))
    assert environment.threads >= 1
    assert environment.cpu
