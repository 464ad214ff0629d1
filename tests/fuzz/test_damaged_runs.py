"""Damaged run folders: every command that reads them ends in success or in one error, and writes nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import QUICK, lionheart_command
from folders import read_tree
from fuzzing import fuzz, judge
from hypothesis import given
from hypothesis import strategies as st
from mutations import damaged_bytes, damaged_json_file, damaged_lines

pytestmark = pytest.mark.usefixtures("small_noise_pool")

TASK = "quadrants:build_task"
DATA = ("run.json", "results.json", "mapping.json", "graph.json")
COMMANDS = (
    ("report", "run"),
    ("export", "run", "--to", "json"),
    ("simulate", "run", "--platform", "alpine-high-power"),
    ("evaluate", "run", "--task", TASK, "--chips", "1", "--samples", "32", "--times", "1s"),
    ("map", TASK, "--resume", "run"),
)
WRITES = ("run/.lock", "run/journal.jsonl", "run/report.html", "run/results.json", "run/weights.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "quick.toml").write_text(QUICK)
    result = lionheart_command("map", TASK, "--config", folder / "quick.toml", "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.fixture(scope="module")
def stopped(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same run as a kill before its end leaves it: with a whole journal, without results."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    shutil.copytree(finished, folder)
    for name in ("results.json", "weights.safetensors", "mapping.json", "report.html"):
        (folder / name).unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the working folder of all examples, with a neighbour that nothing may touch."""
    made = tmp_path_factory.mktemp("fuzz")
    (made / "victim").mkdir()
    (made / "victim" / "file").write_text("mine")
    return made


def copy_run(run: Path, folder: Path) -> Path:
    shutil.rmtree(folder / "run", ignore_errors=True)
    return Path(shutil.copytree(run, folder / "run"))


@fuzz(300)
@given(data=st.data())
def test_records(finished: Path, folder: Path, data: st.DataObject) -> None:
    run = copy_run(finished, folder)
    path = run / data.draw(st.sampled_from(DATA))
    path.write_bytes(data.draw(damaged_json_file(path.read_bytes())))
    judge(*data.draw(st.sampled_from(COMMANDS)), folder=folder, codes=(0, 2, 3), may_write=WRITES)
    assert read_tree(folder / "victim") == {"file": read_tree(folder)["victim/file"]}


@fuzz(60)
@given(data=st.data())
def test_weights(finished: Path, folder: Path, data: st.DataObject) -> None:
    run = copy_run(finished, folder)
    path = run / "weights.safetensors"
    path.write_bytes(data.draw(damaged_bytes(path.read_bytes())))
    judge(*COMMANDS[3], folder=folder, may_write=WRITES)


@fuzz(150)
@given(data=st.data())
def test_journals(stopped: Path, folder: Path, data: st.DataObject) -> None:
    run = copy_run(stopped, folder)
    path = run / "journal.jsonl"
    path.write_bytes(data.draw(damaged_lines(path.read_bytes())))
    own = ("run/mapping.json", "run/checkpoints", "run/checkpoints/accepted.safetensors")  # a resumed run goes on first
    judge(*COMMANDS[4], folder=folder, codes=(0, 2, 3), may_write=(*WRITES, *own))


@fuzz(60)
@given(data=st.data())
def test_links_and_odd_names(finished: Path, folder: Path, data: st.DataObject) -> None:
    """Files replaced by links to a neighbour's file, by links to nothing, by folders, and missing files."""
    run = copy_run(finished, folder)
    names = sorted(path.name for path in run.iterdir())
    name = data.draw(st.sampled_from([*names, ".lock"]))
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind = data.draw(
        st.sampled_from(("link to file", "link to nothing", "link to folder", "folder", "missing", "loop"))
    )
    target = {"link to file": "../victim/file", "link to nothing": "../victim/new", "link to folder": "../victim"}
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(name)
    elif kind in target:
        path.symlink_to(target[kind])
    judge(
        *data.draw(st.sampled_from(COMMANDS)), folder=folder, codes=(0, 2, 3), may_write=(*WRITES, "run/mapping.json")
    )
    assert read_tree(folder / "victim") == {"file": read_tree(folder)["victim/file"]}
