"""Files: hostile JSON and TOML are one error, links are not followed, killed processes leave nothing, names are safe."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

import pytest

from lionheart.devices import DeviceSpec
from lionheart.errors import ArtifactError
from lionheart.files import make_file_name, open_kept, parse_json, parse_toml, read_json, write_text
from lionheart.jobs import read_settings
from lionheart.mapping import LayerMapping
from lionheart.runs import Journal
from lionheart.system import load_platform

NESTED = "[" * 50_000 + "]" * 50_000
DIGITS = "9" * 4_400


@pytest.mark.parametrize("text", [NESTED, DIGITS, "NaN", "-Infinity", "1e999", str(2**64), "{", "", "\x00", '{"a": 1'])
def test_hostile_json(text: str):
    """Deep nesting, numbers of 4,400 digits and NaN ended in RecursionError and ValueError, that is exit code 1."""
    with pytest.raises(ArtifactError, match="file: not readable as JSON"):
        parse_json(text, "file")


@pytest.mark.parametrize(
    "text", [f"a = {NESTED}", f"a = {DIGITS}", f"a = {2**64}", "a = [1,", "a", "a.b.c = 1\na.b = 2"]
)
def test_hostile_toml(text: str, tmp_path: Path):
    """The same for TOML, in each kind of file that is read."""
    with pytest.raises(ArtifactError, match="file: not valid TOML"):
        parse_toml(text, "file")
    path = tmp_path / "file.toml"
    path.write_text(text)
    for read in (lambda: read_settings(config=path), lambda: DeviceSpec.from_toml(path), lambda: load_platform(path)):
        with pytest.raises(ArtifactError, match="not valid TOML"):
            read()


@pytest.mark.parametrize("value", ["1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "[1979-05-27]", "nan", "inf"])
def test_dates_in_toml(value: str, tmp_path: Path):
    """Dates are values of TOML that no setting has."""
    path = tmp_path / "file.toml"
    path.write_text(f"[search]\nn_chips = {value}\n")
    with pytest.raises(ValueError, match="n_chips"):
        read_settings(config=path)
    path.write_text(f'[g_max]\nvalue = {value}\nunit = "µS"\nsource = "lab"\nkind = "measured"\n')
    with pytest.raises((ArtifactError, ValueError), match="g_max"):
        DeviceSpec.from_toml(path)
    path.write_text(f"extends = {value}\n")
    with pytest.raises((ArtifactError, ValueError)):
        load_platform(path)


def test_a_long_cell_in_a_csv_file(tmp_path: Path):
    """The csv module limits a cell to 128 kB and raises an error of its own."""
    for name, text in (("long", "1," * 2 + "9" * 200_000), ("quoted", '"' + "9" * 200_000)):
        path = tmp_path / f"{name}.csv"
        path.write_text(f"target,time,conductance\n{text}\n")
        with pytest.raises(ArtifactError, match=rf"{name}\.csv"):
            DeviceSpec.from_samples(path)


@pytest.mark.parametrize("path", ["x" * 5_000, "a/" * 2_500, "nul\0l", "."])
def test_impossible_paths(path: str):
    for read in (LayerMapping.load, lambda text: read_json(Path(text)), lambda text: read_settings(config=Path(text))):
        with pytest.raises(ArtifactError) as caught:
            read(path)
        assert len(str(caught.value)) < 1_500


def test_a_mapping_is_read_from_a_text(tmp_path: Path):
    """`LayerMapping.load("mapping.json")` was an AttributeError."""
    mapping = LayerMapping({"a": "analog", "b": "digital"})
    mapping.save(str(tmp_path / "mapping.json"))
    assert LayerMapping.load(str(tmp_path / "mapping.json")) == mapping
    for wrong in (3, None, b"mapping.json"):
        with pytest.raises(ValueError, match="path: got"):
            LayerMapping.load(wrong)


# --------------------------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling", "pipe", "folder"])
def test_a_journal_that_is_a_link(kind: str, tmp_path: Path):
    """A journal that was a link to another file appended lines to that file."""
    other, path = tmp_path / "other", tmp_path / "journal.jsonl"
    other.write_text("precious")
    if kind == "symbolic":
        path.symlink_to(other)
    elif kind == "dangling":
        path.symlink_to(tmp_path / "absent")
    elif kind == "hard":
        os.link(other, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(ArtifactError, match=r"journal\.jsonl"), open_kept(path, os.O_RDWR | os.O_CREAT):
        pass
    if kind != "pipe":
        with pytest.raises(ArtifactError, match=r"journal\.jsonl"):
            Journal(path).note("event")
    assert other.read_text() == "precious"
    assert not (tmp_path / "absent").exists()


def test_leftovers_of_killed_processes(tmp_path: Path):
    """A kill left `.results.json.xxxxxxxx` for ever. The files that another process is writing must stay."""
    left, written, others = (tmp_path / name for name in (".a.json.abcd1234", ".a.json.live1234", ".b.json.abcd1234"))
    notes = tmp_path / ".notes.20261130"
    for path in (left, written, others, notes):
        path.write_text("")
    with written.open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        write_text(tmp_path / "a.json", "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", written.name, others.name, notes.name])


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10/resnet8", "cifar10-resnet8"),
        ("text@gpt2", "text@gpt2"),
        ("../net.py:build", "net.py-build"),
        ("/home/me/net.py:build", "home-me-net.py-build"),
        ("-rf", "rf"),
        ("con", "_con"),
        ("AUX.py:f", "_AUX.py-f"),
        ("lpt1", "_lpt1"),
        ("name.", "name"),
        ("a b;$(rm)\n'\"*", "a-b-rm"),
        ("", "run"),
        ("...", "run"),
        ("模型", "run"),
        ("\x1b[31m", "31m"),
        ("x" * 5_000, "x" * 100),
    ],
)
def test_names_of_files_are_safe(name: str, expected: str):
    """`../net.py:f` gave a hidden folder, an absolute path one that other programs take for a flag, and colons break scp."""
    assert make_file_name(name) == expected
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*", make_file_name(name))
