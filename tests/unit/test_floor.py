"""The base modules: errors, units, random streams, files, constants, specs, progress."""

import errno
import hashlib
import json
import math
import os
import pickle
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lionheart import errors
from lionheart.constants import KINDS, data_files, load_constants, parse_constants
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.errors import ArtifactError, ConfigError, LionHeartError, suggest
from lionheart.files import (
    cache_dir,
    read_json,
    require_free_space,
    require_mapping,
    sha256_file,
    write_atomic,
    write_json,
    write_text,
)
from lionheart.progress import SILENT
from lionheart.rng import RandomStreams
from lionheart.spec import Spec
from lionheart.training import TrainSpec
from lionheart.units import format_count, format_duration, format_elapsed, format_si, parse_duration

# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.GraphError, RuntimeError),
        (errors.UnsupportedLayerError, TypeError),
        (errors.TilingError, ValueError),
        (errors.NumericsError, ArithmeticError),
        (errors.ArtifactError, OSError),
    ],
)
def test_errors_are_caught_as_their_builtin(kind: type[LionHeartError], builtin: type[Exception]):
    with pytest.raises(builtin) as caught:
        raise kind("layer fc: got 3, expected 4", hint="change it")
    assert isinstance(caught.value, LionHeartError)
    assert str(caught.value) == "layer fc: got 3, expected 4\n  hint: change it"
    assert str(kind("alone")) == "alone"


@pytest.mark.parametrize("kind", [ConfigError, ArtifactError])
def test_errors_survive_pickling(kind: type[LionHeartError]):
    again = pickle.loads(pickle.dumps(kind("what", hint="why")))  # noqa: S301
    assert (type(again), again.message, again.hint) == (kind, "what", "why")


def test_suggest_names_the_nearest_and_lists():
    assert suggest("pattience", ["seed", "patience"]) == "did you mean 'patience'? known names: patience, seed"
    assert suggest("xyz", ["a", "b"], label="layers") == "layers: a, b"
    assert suggest("xyz", map(str, range(20))).endswith(", ...")


# ------------------------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1), ("90", 90), (90, 90), (0, 0), ("0s", 0), ("2min", 120), ("2m", 120), ("1h", 3600), ("1d", 86_400),
        ("1w", 604_800), ("1mo", 2_592_000), ("1y", 31_536_000), (" 1.5 H ", 5400), (".5d", 43_200), ("2.5e3s", 2500),
    ],
)  # fmt: skip
def test_parse_duration(text: str | float, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", "d", "1x", "1 d 2", "-1d", "one", "1e999s", "nan", "inf", -1, math.nan, math.inf, [], {}, None, True, b"1d", [1],
        10**400,
    ],
)  # fmt: skip
def test_parse_duration_refuses(text: Any):
    with pytest.raises(ConfigError, match="duration: got"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (1, "1s"), (0.25, "0.25s"), (59, "59s"), (60, "1min"), (90, "90s"), (3600, "1h"), (86_400, "1d"),
        (604_800, "7d"), (2_592_000, "1mo"), (31_536_000, "1y"), (1_000_001, "1000001s"), (86_400.5, "86400.5s"),
    ],
)  # fmt: skip
def test_format_duration(seconds: float, text: str):
    assert format_duration(seconds) == text


@given(st.integers(0, 10**10))
def test_duration_round_trip(seconds: int):
    # Whole seconds come back exactly. Cause: six digits were kept, so 1,000,001 s came back as 1,000,000 s.
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-9, abs=0)


@given(st.floats(1e-9, 1e12))
def test_duration_round_trip_of_fractions(seconds: float):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=2e-9)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"),
        (3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"), (7_260, "2 h 01 min"),
    ],
)  # fmt: skip
def test_format_elapsed(seconds: float, text: str):
    assert format_elapsed(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (999, "999"), (1000, "1.00 k"), (-1500, "-1.50 k"), (77_360, "77.36 k"), (12_500_000, "12.50 M"),
        (999_994, "999.99 k"), (999_996, "1.00 M"), (-999_996, "-1.00 M"), (999_999_999, "1.00 G"), (2.5e15, "2500.00 T"),
    ],
)  # fmt: skip
def test_format_count(value: float, text: str):
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"), (1.3e-4, "130 µs"), (1, "1.00 s"), (-2.5e-3, "-2.50 ms"), (999.4, "999 s"), (999.9995, "1.00 ks"),
        (-999.9995, "-1.00 ks"), (9.996, "10.0 s"), (0.0009996, "1.00 ms"), (1e3, "1.00 ks"), (1e-12, "1.00 ps"),
        (1e-15, "0.00100 ps"), (5e15, "5000 Ts"), (math.inf, "inf s"), (math.nan, "nan s"),
    ],
)  # fmt: skip
def test_format_si(value: float, text: str):
    assert format_si(value, "s") == text


@given(st.floats(1e-12, 1e14), st.sampled_from([1, -1]), st.integers(3, 6))
def test_format_si_round_trip(size: float, sign: int, digits: int):
    number, prefix = format_si(sign * size, "W", digits).removesuffix("W").split(" ")
    scale = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix]
    assert float(number) * scale == pytest.approx(sign * size, rel=0.51 * 10.0 ** (1 - digits))
    if scale < 1e12:
        assert abs(float(number)) < 1000
        assert len(number.strip("-").replace(".", "").lstrip("0")) == digits


# ------------------------------------------------------------------------------------------------------------ random


def draw(streams: RandomStreams, *path: str | int) -> list[float]:
    return torch.rand(4, generator=streams.generator(*path)).tolist()


def test_streams_do_not_depend_on_the_order_of_asking():
    forward, backward = RandomStreams(5), RandomStreams(5)
    first = {epoch: draw(forward, "data", epoch) for epoch in (0, 1, 2)}
    second = {epoch: draw(backward, "data", epoch) for epoch in (2, 1, 0)}
    assert first == second


def test_streams_restart_at_each_request():
    streams = RandomStreams(5)
    assert draw(streams, "device") == draw(streams, "device")


def test_streams_with_other_names_or_seeds_differ():
    seeds = {
        RandomStreams(seed).derive_seed(name, index)
        for seed in (-1, 0, 1)
        for name in ("a", "b")
        for index in range(50)
    }
    assert len(seeds) == 3 * 2 * 50
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len({RandomStreams(0).derive_seed(*path) for path in [(), ("a",), ("a", "b"), ("b", "a"), ("a", 1)]}) == 5


def test_streams_are_uncorrelated():
    # 200 neighbouring streams of 500 normal numbers: no pair correlates beyond 5.5 / sqrt(500), about 1 in 1,000 by chance.
    streams = RandomStreams(0)
    rows = [torch.randn(500, generator=streams.generator("device", index)).numpy() for index in range(200)]
    correlation = np.corrcoef(rows)[np.triu_indices(200, 1)]
    assert np.abs(correlation).max() < 5.5 / math.sqrt(500)
    assert abs(correlation.mean()) < 5 / math.sqrt(500 * correlation.size)


def test_scope_is_a_prefix():
    streams = RandomStreams(3)
    assert streams.scope("training", 2).scope("x").derive_seed("y") == streams.derive_seed("training", 2, "x", "y")


def test_derived_seeds_never_change():
    # The published data split and checkpoints hang on these numbers: SHA-256 of "0/weights", first 8 bytes, halved.
    assert RandomStreams(0).derive_seed("weights") == 133441691874178746
    assert RandomStreams(2401_09420).derive_seed("cifar10", "split") == 2907294099805518783


def test_streams_leave_the_global_state_alone():
    before = torch.get_rng_state()
    draw(RandomStreams(1), "x")
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------------------------------------------------- files


def test_write_atomic_makes_folders_and_replaces(tmp_path: Path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "first")
    write_text(path, "zweite µ")
    assert path.read_text(encoding="utf-8") == "zweite µ"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [OSError(errno.EIO, "broken"), ValueError("bad"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: BaseException):
    path = tmp_path / "result.json"
    path.write_text("old")

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        assert temporary.parent == tmp_path  # the same disk, or the move would not be atomic
        raise failure

    with pytest.raises(ArtifactError if isinstance(failure, OSError) else type(failure)):
        write_atomic(path, write)
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"


def test_full_disk_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"x\.json: cannot be written: no space left on the disk") as caught:
        write_json(tmp_path / "x.json", {"a": 1})
    assert "space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_is_an_artifact_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_text(tmp_path / "file" / "x.txt", "x")
    # Cause: making the folder failed with a bare OSError, which the command line shows as a bug.
    with pytest.raises(ArtifactError, match="cannot be used for CIFAR-10"):
        require_free_space(tmp_path / "file" / "sub", 1, purpose="CIFAR-10")


def test_require_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")(10**9, 0, 5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    require_free_space(tmp_path / "new", 5_000_000, purpose="data")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(ArtifactError, match="5 MB free, 6 MB needed for data"):
        require_free_space(tmp_path, 6_000_000, purpose="data")


def test_sha256_file(tmp_path: Path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3_000_000))
    assert sha256_file(path) == hashlib.sha256(bytes(3_000_000)).hexdigest()


def test_cache_dir_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.setenv("LIONHEART_CACHE", "")
    assert cache_dir() == tmp_path / "xdg" / "lionheart"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "lionheart"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)  # JSON files with numbers of more than 64 bits are refused
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values.filter(lambda value: "\ud800" not in repr(value)))
def test_json_file_round_trip(tmp_path_factory: pytest.TempPathFactory, value: object):
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_with_nan_is_refused_before_the_file_is_touched(tmp_path: Path):
    path = tmp_path / "x.json"
    write_json(path, 0.1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, math.nan)
    assert read_json(path) == 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"x\.json: not readable as JSON: Expecting property name"),
        (b"", r"x\.json: not readable as JSON: Expecting value"),
        (b"\xff\xfe", r"x\.json: not readable: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_damaged_json_names_the_file(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_json(path)


def test_missing_json_and_wrong_type(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(ArtifactError, match="got a JSON value of type list, expected a JSON object"):
        require_mapping([], tmp_path / "x.json")
    assert require_mapping({"a": 1}, tmp_path) == {"a": 1}


# --------------------------------------------------------------------------------------------------------- constants

GOOD = 'value = 2.0\nunit = "s"\nsource = "Someone 2020, Table 1"\nkind = "measured"\n'


@pytest.mark.parametrize(("package", "file"), data_files(), ids=lambda value: str(value))
def test_shipped_constants_say_where_they_come_from(package: str, file: str):
    constants = load_constants(package, file)
    assert constants
    for name, constant in constants.items():
        assert constant.unit.strip(), name
        assert len(constant.source.strip()) > 10, name
        assert constant.kind in KINDS, name
        values = constant.value if isinstance(constant.value, list) else [constant.value]
        assert values, name
        assert all(v.strip() if isinstance(v, str) else math.isfinite(v) for v in values), name


def test_device_and_tile_files_are_found():
    assert {("lionheart.devices", "pcm.toml"), ("lionheart.devices", "tile.toml")} <= set(data_files())


def test_nested_tables_become_dotted_names():
    constants = parse_constants(f"[cpu.l1]\n{GOOD}\n[top]\n{GOOD}", "x.toml")
    assert sorted(constants) == ["cpu.l1", "top"]
    assert constants["cpu.l1"].value == 2.0
    assert constants["cpu.l1"].source == "Someone 2020, Table 1"


@pytest.mark.parametrize("missing", ["value", "unit", "source", "kind"])
def test_missing_field_raises(missing: str):
    text = "".join(line + "\n" for line in GOOD.splitlines() if not line.startswith(missing))
    with pytest.raises(ArtifactError, match=r"x\.toml:a\.b: got the keys .* expected value, unit, source and kind"):
        parse_constants(f"[a.b]\n{text}", "x.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[a]\n{GOOD}comment = 'x'\n", "got the keys"),
        ("[a]\n" + GOOD.replace("measured", "guessed"), r"x\.toml:a\.kind: got 'guessed', expected one of measured"),
        ("[a]\n", "got the keys"),
        ("a = [", "not valid TOML"),
        ("g_max = 25.0\n", r"x\.toml:g_max: got the bare value 25\.0"),  # was dropped in silence
        (f"[a]\nsize = 3\n[a.b]\n{GOOD}", r"x\.toml:a\.size: got the bare value 3"),
    ],
)
def test_faulty_constants_raise(text: str, message: str):
    with pytest.raises(ArtifactError, match=message):
        parse_constants(text, "x.toml")


# ------------------------------------------------------------------------------------------------------------- specs

SPECS: list[Spec] = [
    TileSpec(),
    TileSpec.pcm(rows=128, adc_bits=None, hwa=HWASpec(weight_clip_sigma=2.5)),
    TileSpec.ideal(64, 32),
    DeviceSpec.pcm(drift_scale=0.5),
    DeviceSpec.ideal(),
    HWASpec(weight_noise_kind="multiplicative"),
    TrainSpec(schedule="one_cycle", patience=None, gradient_clip=1.0),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_spec_json_round_trip(spec: Spec):
    data = json.loads(json.dumps(spec.to_json()))
    assert data["schema_version"] == 1
    again = type(spec).from_json(data)
    assert again == spec
    assert again.to_json() == spec.to_json()


@pytest.mark.parametrize("kind", [TileSpec, DeviceSpec, HWASpec, TrainSpec])
def test_every_setting_has_a_description(kind: type[Spec]):
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_specs_are_frozen():
    tile = TileSpec()
    with pytest.raises(ValidationError, match="frozen"):
        tile.rows = 3
    assert tile.rows == 256


def test_replace_makes_a_validated_copy():
    tile = TileSpec()
    assert (tile.replace(rows=64).rows, tile.rows) == (64, 256)
    assert tile.replace(rows=256) == tile
    with pytest.raises(ConfigError, match=r"TileSpec\.rows: got 0"):
        tile.replace(rows=0)
    with pytest.raises(ConfigError, match="did you mean 'rows'"):
        tile.replace(row=4)


@pytest.mark.parametrize("make", [lambda s: TileSpec(**s), TileSpec.from_json], ids=["init", "from_json"])
def test_all_faults_are_told_at_once_with_suggestions(make):
    # Cause for from_json: the faults came back as one text inside "(whole)", without a hint.
    with pytest.raises(ConfigError) as caught:
        make({"rws": 3, "cols": 0, "dac_bits": "many"})
    lines = sorted(caught.value.message.splitlines())
    assert [line.split(":")[0] for line in lines] == ["TileSpec.cols", "TileSpec.dac_bits", "TileSpec.rws"]
    assert "got 0" in lines[0]
    assert "got 'many'" in lines[1]
    assert lines[2] == "TileSpec.rws: unknown setting"
    assert caught.value.hint.startswith("did you mean 'rows'?")


def test_faults_of_an_inner_spec_keep_their_place_and_hint():
    with pytest.raises(ConfigError) as caught:
        TileSpec.from_json({"device": {"g_mx": 3, "t_0": -1}, "colz": 2})
    assert sorted(caught.value.message.splitlines()) == [
        "TileSpec.colz: unknown setting",
        "TileSpec.device: DeviceSpec.g_mx: unknown setting",
        "TileSpec.device: DeviceSpec.t_0: got -1: Input should be greater than 0",
    ]
    assert "did you mean 'g_max'?" in caught.value.hint
    assert "did you mean 'cols'?" in caught.value.hint


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_schema_versions_are_refused(version: object):
    data = {**TileSpec().to_json(), "schema_version": version}
    with pytest.raises(ConfigError, match=r"TileSpec\.schema_version: got .* expected 1"):
        TileSpec.from_json(data)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1])
def test_numbers_must_be_finite_and_in_range(bad: float):
    with pytest.raises(ConfigError, match=r"TileSpec\.output_noise"):
        TileSpec(output_noise=bad)


@pytest.mark.parametrize("clamps", [(0, 0, 0.2, 0.1), (0, 0, -0.1, 0.1)])
def test_drift_clamps_must_be_ordered(clamps: tuple[float, ...]):
    with pytest.raises(
        ConfigError,
        match="drift_nu_mean: the last two values, the limits of the line, must satisfy 0 <= lower <= upper",
    ):
        DeviceSpec(drift_nu_mean=clamps)


def test_defaults_are_the_constants():
    pcm = load_constants("lionheart.devices", "pcm.toml")
    assert DeviceSpec().g_max == pcm["g_max"].value == 25.0
    assert list(DeviceSpec().read_noise) == pcm["read_noise"].value
    assert TileSpec().output_noise == load_constants("lionheart.devices", "tile.toml")["output_noise"].value


# ---------------------------------------------------------------------------------------------------------- progress


def test_silent_progress_prints_nothing(capsys: pytest.CaptureFixture[str]):
    SILENT.note("note")
    with SILENT.bar("work", 3) as bar:
        bar.advance()
        bar.describe("more")
    assert capsys.readouterr() == ("", "")
