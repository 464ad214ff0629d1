"""Platforms: laws that hold on every one, files that extend each other, faults all at once, tile energy, programming."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmark_scripts import load_benchmark
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from platform_cases import GRAPH, estimate
from typer.testing import CliRunner, Result

from lionheart.cli import app
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import ArtifactError, ConfigError
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition, partition_matrix
from lionheart.runs.costs import SystemRecord
from lionheart.runs.tables import describe_programming
from lionheart.system import (
    PlatformSpec,
    TilePoint,
    estimate_programming,
    estimate_system,
    load_platform,
    mvm_energy,
    platform_constants,
    platform_names,
)
from lionheart.system.platform_template import render_template
from lionheart.system.programming import estimate_reference_read
from lionheart.system.tile_energy import adc_energy_j, dac_energy_j, reference_point, tile_point

NAMES = platform_names()
HIGH = load_platform("alpine-high-power")


def tile_j(platform: PlatformSpec, tile: TileSpec | None = None) -> float:
    energy = estimate(platform, tile=tile).mapped.energy
    return sum(joules for name, joules in energy.items() if name.startswith("tile_"))


# --- the tiles of every shipped platform ---


@pytest.mark.parametrize("name", NAMES)
def test_the_default_tile_is_the_reference_point(name: str) -> None:
    platform = load_platform(name)
    assert reference_point(platform) == TilePoint(256, 256, 8, 8)
    assert estimate(platform, tile=TileSpec()).mapped.energy == pytest.approx(estimate(platform).mapped.energy)
    printed = 2 * 256 * 256 / platform.tile_ops_per_j * platform.tile_technology_factor
    assert sum(mvm_energy(platform, reference_point(platform)).values()) == pytest.approx(printed)


# Joules and seconds of one product of 256x256, from the printed efficiencies and throughputs.
PRINTED = {
    "alpine-high-power": (54.3e-9, 100e-9), "alpine-low-power": (20.5e-9, 100e-9), "lionheart": (6.55e-9, 100e-9),
    "hermes": (12.5e-9, 130e-9), "hermes-64": (13.4e-9, 133e-9), "hermes-64-4phase": (52.9e-9, 521e-9),
    "raspberry-pi-4": (12.5e-9, 130e-9), "alpine-neon": (54.3e-9, 100e-9), "alpine-fp32": (54.3e-9, 100e-9),
}  # fmt: skip


def describe_row(row: SystemRecord) -> list[str]:
    return describe_programming(row.platform, row.programming, row.tiles_missing)


@pytest.mark.parametrize("name", PRINTED)
def test_a_product_takes_what_is_printed(name: str) -> None:
    platform = load_platform(name)
    joules = sum(mvm_energy(platform, reference_point(platform)).values())
    assert (joules, platform.tile_mvm_s) == pytest.approx(PRINTED[name], rel=0.005)


# --- tile energy ---


def test_converters_are_zigzags_closed_form() -> None:
    # 8 bit: (100 fF * 8 + 0.001 fF * 4^8) * 0.81 V^2 = 0.701 pJ; 50 fF * 8 * 0.81 V^2 = 0.324 pJ
    assert adc_energy_j(HIGH, 8) == pytest.approx(0.70108e-12, rel=1e-4)
    assert dac_energy_j(HIGH, 8) == pytest.approx(0.324e-12)


BITS, SIZES = st.integers(2, 16), st.integers(1, 2048)


@settings(deadline=None, max_examples=60)
@given(SIZES, SIZES, BITS, BITS, st.integers(1, 64), st.sampled_from(["rows", "cols", "dac_bits", "adc_bits"]))
def test_larger_tiles_and_more_bits_take_more(
    rows: int, cols: int, dac_bits: int, adc_bits: int, more: int, grows: str
) -> None:
    point = {"rows": rows, "cols": cols, "dac_bits": dac_bits, "adc_bits": adc_bits}
    small, large = TilePoint(**point), TilePoint(**{**point, grows: point[grows] + more})
    for part, joules in mvm_energy(HIGH, small).items():
        assert 0 < joules <= mvm_energy(HIGH, large)[part]
    assert sum(mvm_energy(HIGH, small).values()) < sum(mvm_energy(HIGH, large).values())


def test_the_tile_reaches_the_estimate() -> None:
    usual = tile_j(HIGH, TileSpec())
    assert tile_j(HIGH, TileSpec(adc_bits=6)) < usual < tile_j(HIGH, TileSpec(adc_bits=10))
    assert tile_j(HIGH, TileSpec(dac_bits=6)) < usual < tile_j(HIGH, TileSpec(dac_bits=10))
    assert tile_j(HIGH, TileSpec(adc_bits=None, dac_bits=None)) == pytest.approx(usual)  # ideal: as the platform's own
    small = TileSpec(rows=128, cols=64)
    assert estimate(HIGH, tile=small).n_tiles == 3 * 8 + 4 * 1
    # converters of small tiles are shared by fewer devices: more energy for the same 28 * 128 * 64 devices
    per_operation = sum(mvm_energy(HIGH, reference_point(HIGH)).values()) / 256**2
    assert tile_j(HIGH, small) > 3 * 28 * 128 * 64 * per_operation


def test_without_a_tile_an_operation_takes_the_same_at_any_size() -> None:
    tiles = {node.fqn: partition_matrix(node.rows, node.cols, 1, 100, 100) for node in GRAPH.nodes}
    found = estimate_system(GRAPH, LayerMapping.from_analog(GRAPH, ["a", "b"]), HIGH, tiles)
    operations = 2 * 3 * (3 * 5 + 5 * 1) * 100 * 100
    parts = [joules for name, joules in found.mapped.energy.items() if name.startswith("tile_")]
    assert sum(parts) == pytest.approx(operations / 12.8e12 * 5.3)


# --- tiles that there are ---


def test_missing_tiles_are_counted() -> None:
    few = estimate(HIGH.replace(n_tiles=3))
    assert (few.n_tiles, few.tiles_missing, estimate(HIGH).tiles_missing) == (6, 3, 0)
    assert few.summary().tiles_missing == 3
    assert few.mapped == estimate(HIGH).mapped
    assert load_platform("hermes-64").n_tiles == 64


# --- programming ---

ONE = {"fc": partition_matrix(300, 100, 1, 256, 256)}  # two tiles of 150 x 100


def test_programming_by_hand() -> None:
    one = {
        "pcm.reset_s": 40e-9,
        "pcm.reset_j": 20e-12,
        "pcm.pulse_s": 100e-9,
        "pcm.pulse_j": 10e-12,
        "pcm.n_pulses": 10,
    }
    platform = HIGH.replace(
        programming=one, tile_mvm_s=100e-9, tile_ops_per_j=13.1072e12, tile_technology_factor=1.0, clock_hz=1e9,
        wait_energy_j_per_cycle=50e-12, llc_leakage_w=1.0, dram_stream_bandwidth_bytes_per_s=1e9,
        dram_energy_j_per_access=120e-12,
    )  # fmt: skip
    found = estimate_programming(ONE, platform)
    # pairs: 2 * 30 000 devices in 2 * 300 rows; a row takes 40 ns, then 10 times 100 ns and a read of 100 ns
    assert (found.technology, found.n_devices) == ("pcm", 60_000)
    assert found.time_s == pytest.approx({"pulses": 600 * 1.04e-6, "verify_reads": 600 * 1e-6, "weight_memory": 30e-6})
    # 20 + 10 * 10 pJ a device; 6 000 reads of 10 nJ; 1.254 ms * 1 GHz * 50 pJ; 1 W; 469 lines of 120 pJ
    duration_s = 600 * 2.04e-6 + 30e-6
    assert found.energy == pytest.approx(
        {"pulses": 60_000 * 120e-12, "verify_reads": 6_000 * 10e-9, "core_wait": duration_s * 0.05,
         "llc_leakage": duration_s, "dram": 469 * 120e-12}
    )  # fmt: skip
    serial = estimate_programming(ONE, platform, write="device")
    assert serial.time_s["pulses"] == pytest.approx(60_000 * 1.04e-6)
    assert serial.energy["verify_reads"] == pytest.approx(600_000 * 10e-9)
    assert serial.energy["pulses"] == pytest.approx(found.energy["pulses"])
    with pytest.raises(ConfigError, match="expected 'row' or 'device'"):
        estimate_programming(ONE, platform, write="tile")


def test_a_row_takes_20_to_30_products() -> None:
    hermes = load_platform("hermes")  # Garofalo et al. give this for PCM
    found = estimate_programming({"fc": partition_matrix(1, 256, 1, 256, 256)}, hermes, TileSpec(device=single()))
    assert 20 < (found.time_s["pulses"] + found.time_s["verify_reads"]) / hermes.tile_mvm_s < 30


def single() -> DeviceSpec:
    return DeviceSpec.pcm(converter={"kind": "single"})


def test_devices_of_a_weight_are_programmed_each() -> None:
    counts = [
        estimate_programming(ONE, HIGH, TileSpec(device=device)).n_devices
        for device in (single(), DeviceSpec.pcm(), DeviceSpec.pcm(converter={"kind": "pair", "significance": [1, 4]}))
    ]
    assert counts == [30_000, 60_000, 120_000]


def test_programming_is_paid_back() -> None:
    found = estimate(HIGH).programming
    n = found.break_even_energy
    assert (n - 1) * found.saved_j < found.energy_j <= n * found.saved_j
    assert (found.break_even_time - 1) * found.saved_s < found.duration_s <= found.break_even_time * found.saved_s
    hour = found.at_age(3600.0)
    assert hour.power_w == pytest.approx(found.energy_j / 3600)
    assert hour.time_share == pytest.approx(found.duration_s / 3600)
    assert hour.inferences_per_s * found.saved_j == pytest.approx(hour.power_w)
    with pytest.raises(ConfigError, match="expected more than 0"):
        found.at_age(0.0)


def test_a_mapping_that_saves_nothing_never_pays() -> None:
    slow = HIGH.replace(tile_mvm_s=1.0)
    found = estimate(slow).programming
    assert (found.break_even_time, found.break_even_energy) == (None, None)
    assert found.at_age(3600.0).inferences_per_s is None
    assert "saves no energy" in describe_row(estimate(slow).summary())[0]


def test_programming_is_shown() -> None:
    data = estimate(HIGH, tile=TileSpec(reprogram_after=86_400.0)).summary()
    shown = data.programming
    assert shown.energy_j == pytest.approx(sum(shown.energy_breakdown_j.values()))
    assert shown.reprogramming.reprogram_after == 86_400.0
    [line] = describe_row(data)
    assert line.startswith("programming the tiles once, alpine-high-power: ")
    assert "repaid by the energy saved in" in line
    few = estimate(HIGH.replace(n_tiles=3)).summary()
    assert describe_row(few)[0] == "alpine-high-power has 3 tiles too few for this mapping"
    older = {key: value for key, value in data.to_json().items() if key not in ("programming", "tiles_missing")}
    assert describe_row(SystemRecord.from_json(older, "system")) == []


@pytest.mark.parametrize(("inputs", "expected"), [("rows", 60), ("signs", 64), ("auto", 64 + 8)])
def test_a_reference_read_costs_its_products(inputs: str, expected: int) -> None:
    """Drift compensation read every tile for nothing."""
    part = TilePartition((40, 20), (64,), 1, 40, 64)
    tile = TileSpec(rows=40, cols=64, reference_inputs=inputs)
    found = estimate_reference_read({"": part}, HIGH, tile)
    assert found.n_mvms == expected
    assert found.time_s == pytest.approx(expected * HIGH.tile_mvm_s)
    point, n_products = tile_point(HIGH, 40, 64, tile)
    waiting = found.time_s * (HIGH.clock_hz * HIGH.wait_energy_j_per_cycle + HIGH.llc_leakage_w)
    assert found.energy_j == pytest.approx(expected * n_products * sum(mvm_energy(HIGH, point).values()) + waiting)
    twice = TilePartition((40, 20), (64, 64), 3, 40, 64)
    assert estimate_reference_read({"": twice}, HIGH, tile).n_mvms == 6 * expected
    assert estimate_reference_read({"": part}, HIGH, tile.replace(drift_compensation="none")) is None


def test_reference_reads_are_not_part_of_programming() -> None:
    found = estimate(HIGH, tile=TileSpec()).summary().programming
    none = estimate(HIGH, tile=TileSpec(drift_compensation="none")).summary().programming
    assert found.reference_read.n_mvms > 0
    assert none.reference_read is None
    assert "reference_read" not in none.to_json()
    assert (found.time_s, found.energy_j) == (none.time_s, none.energy_j)


def test_unknown_technologies_say_so() -> None:
    tile = TileSpec(device=DeviceSpec.reram_cmo())
    found = estimate(HIGH, tile=tile)
    assert found.summary().programming.energy_j is None
    [line] = describe_row(found.summary())
    assert "no number for reram_cmo at hand" in line
    assert found.programming.break_even_energy is None
    with pytest.raises(ConfigError, match=r"\[programming\.reram_cmo\.pulse_s\]"):
        found.programming.at_age(60.0)
    known = {f"reram_cmo.{key.partition('.')[2]}": value for key, value in HIGH.programming.items()}
    assert estimate(HIGH.replace(programming=known), tile=tile).programming.energy_j > 0


def test_drift_tables_do_not_change_programming() -> None:
    custom = TileSpec(device=DeviceSpec.pcm_custom_drift(drift_table=[(0.0, 0.05, 0.01), (25.0, 0.05, 0.01)]))
    assert estimate_programming(ONE, HIGH, custom).energy == estimate_programming(ONE, HIGH).energy


# --- files ---

TAIL = 'source = "mine"\nkind = "assumed"\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def constant(name: str, value: object, unit: str) -> str:
    return f'\n[{name}]\nvalue = {value}\nunit = "{unit}"\n{TAIL}'


def test_a_file_extends_a_shipped_platform(tmp_path: Path) -> None:
    mine = load_platform(write(tmp_path / "mine.toml", 'extends = "hermes-64"\n' + constant("clock_hz", 1e9, "Hz")))
    base = load_platform("hermes-64")
    assert mine == base.replace(name="mine", description="", clock_hz=1e9)


def test_a_file_extends_another_beside_it(tmp_path: Path) -> None:
    write(
        tmp_path / "base.toml",
        'extends = "lionheart"\n' + constant("clock_hz", 1e9, "Hz") + constant("n_tiles", 7, "1"),
    )
    path = write(
        tmp_path / "mine.toml", 'description = "top"\nextends = "base.toml"\n' + constant("clock_hz", 2e9, "Hz")
    )
    mine = load_platform(path)
    assert (mine.clock_hz, mine.n_tiles, mine.tile_ops_per_j, mine.description) == (2e9, 7, 20e12, "top")


def test_an_operation_moves_to_another_table(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'extends = "lionheart"\n' + constant("free_ops.relu", '"fused"', "1"))
    again = 'extends = "base.toml"\n' + constant("cycles_per_read.relu", 3.0, "cycle per element read")
    mine = load_platform(write(tmp_path / "mine.toml", again))
    assert ("relu" in mine.free_ops, mine.cycles_per_read["relu"], "relu" in mine.cycles_per_written) == (
        False,
        3,
        False,
    )


def test_files_in_a_circle(tmp_path: Path) -> None:
    for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path / f"{one}.toml", f'extends = "{other}.toml"\n')
    with pytest.raises(ConfigError, match=r"extends: got a cycle: a\.toml -> b\.toml -> c\.toml -> a\.toml"):
        load_platform(tmp_path / "a.toml")
    with pytest.raises(ConfigError, match="cycle"):
        load_platform(write(tmp_path / "d.toml", 'extends = "d.toml"\n'))


def test_what_is_extended_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml:extends: got 'hermess'.* did you mean 'hermes'") as caught:
        load_platform(write(tmp_path / "mine.toml", 'extends = "hermess"\n'))
    assert len(caught.value.message.splitlines()) == 1  # nothing is called missing that it would have given
    with pytest.raises(ArtifactError, match=r"none\.toml: no such file"):
        load_platform(write(tmp_path / "mine.toml", 'extends = "none.toml"\n'))
    with pytest.raises(ArtifactError, match="not valid TOML"):
        load_platform(write(tmp_path / "mine.toml", "extends = \n"))


FAULTS = {
    "unknown": (constant("clok_hz", 1e9, "Hz"), "mine.toml:clok_hz: unknown constant, did you mean 'clock_hz'?"),
    "unit": (constant("tile_mvm_s", 100, "ns"), "mine.toml:tile_mvm_s.unit: got 'ns', expected 's'"),
    "range": (
        constant("llc_leakage_w", -1.0, "W"),
        "mine.toml:llc_leakage_w: got -1.0, expected greater than or equal to 0",
    ),
    "fraction": (constant("n_cores", 1.5, "1"), "mine.toml:n_cores: got 1.5, expected a valid integer"),
    "type": (constant("l1_bytes", '"64k"', "B"), "mine.toml:l1_bytes: got '64k', expected a number"),
    "kind": (
        '\n[n_tiles]\nvalue = 4\nunit = "1"\nsource = "mine"\nkind = "guessed"\n',
        "mine.toml:n_tiles.kind: got 'guessed', expected one of measured",
    ),
    "source": (
        '\n[macs_per_cycle]\nvalue = 4\nunit = "MAC/cycle"\nkind = "assumed"\n',
        "mine.toml:macs_per_cycle: got the keys ['kind', 'unit', 'value'], expected value, unit, source and kind "
        "(missing: source)",
    ),
    "empty source": (
        '\n[io_cycles_per_element]\nvalue = 4\nsource = ""\n'
        'unit = "cycle per element of the network\'s input and output"\nkind = "assumed"\n',
        "mine.toml:io_cycles_per_element.source: got '', expected a non-empty text",
    ),
    "price": (
        constant("cycles_per_written.mine", '"much"', "cycle per element written"),
        "mine.toml:cycles_per_written.mine: got 'much', expected a number",
    ),
    "reason": (constant("free_ops.mine", 0, "1"), "mine.toml:free_ops.mine: got 0, expected the reason as a string"),
    "programming": (
        constant("programming.pcm.puls_s", 1e-7, "s"),
        "mine.toml:programming.pcm.puls_s: unknown constant, did you mean 'programming.pcm.pulse_s'?",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(tmp_path: Path, fault: str) -> None:
    text, message = FAULTS[fault]
    with pytest.raises(ConfigError) as caught:
        load_platform(write(tmp_path / "mine.toml", 'extends = "lionheart"\n' + text))
    [line] = caught.value.message.splitlines()
    assert line.removeprefix(f"{tmp_path}/").startswith(message)
    assert "--template" in caught.value.hint


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    text = 'extend = "lionheart"\nclock_hz = 2.3\n' + "".join(text for text, _ in FAULTS.values())
    with pytest.raises(ConfigError) as caught:
        load_platform(write(tmp_path / "mine.toml", text))
    lines = [line.removeprefix(f"{tmp_path}/") for line in caught.value.message.splitlines()]
    for _, message in FAULTS.values():
        assert len([line for line in lines if line.startswith(message)]) == 1, message
    assert any(line.startswith("mine.toml:extend: got the bare string") and "'extends'" in line for line in lines)
    assert any(line.startswith("mine.toml:clock_hz: got the bare value 2.3") for line in lines)
    missing = [line for line in lines if "missing, expected" in line]  # it extends nothing
    assert any("dram_energy_j_per_access: missing, expected energy of one DRAM access [J]" in line for line in missing)
    assert not any(key in line for line in missing for key in ("clock_hz", "n_cores", "l1_bytes", "macs_per_cycle"))
    assert len(lines) == len(FAULTS) + 2 + len(missing)


def test_all_faults_of_one_constant(tmp_path: Path) -> None:
    text = 'extends = "lionheart"\n[l1_bytes]\nvalue = "64k"\nunit = "kB"\nsource = " "\nkind = "guessed"\n'
    text += '[llc_bytes]\nvalue = -1\nunit = "B"\nkind = "assumed"\n[n_cores]\nvalue = true\nunit = ""\n' + TAIL
    with pytest.raises(ConfigError) as caught:
        load_platform(write(tmp_path / "mine.toml", text))
    places = sorted(
        line.removeprefix(f"{tmp_path}/mine.toml:").split(": ")[0] for line in caught.value.message.splitlines()
    )
    assert places == ["l1_bytes", "l1_bytes.kind", "l1_bytes.source", "l1_bytes.unit", "llc_bytes", "llc_bytes", "n_cores",
                      "n_cores.unit"]  # fmt: skip


# --- the template ---


def test_the_template_is_a_platform(tmp_path: Path) -> None:
    text = render_template()
    path = write(tmp_path / "mine.toml", text)
    assert load_platform(path) == HIGH.replace(name="mine", description="description in one line")
    assert max(map(len, text.splitlines())) <= 80
    for key, info in PlatformSpec.model_fields.items():
        assert key == "name" or key in text
        if info.json_schema_extra:
            assert f"#[{key}]" in text


def test_the_template_taken_up_needs_sources_and_is_whole(tmp_path: Path) -> None:
    live = "\n".join(
        line if line.startswith("#:") else line.removeprefix("#") for line in render_template().splitlines()
    )
    with pytest.raises(ConfigError) as caught:
        load_platform(write(tmp_path / "mine.toml", live))
    lines = caught.value.message.splitlines()
    *shown, rest = lines  # a message has 40 lines at most, and its last line counts those left out
    assert len(lines) == 40
    assert all(line.endswith(".source: got '', expected a non-empty text") for line in shown)
    n_empty = live.count('source = ""')
    assert rest == f"... and {n_empty - len(shown)} more lines"
    whole = live.replace('source = ""', 'source = "mine"').replace('extends = "alpine-high-power"\n', "")
    mine = load_platform(write(tmp_path / "mine.toml", whole))
    assert mine.replace(name="x", description="", n_tiles=None) == HIGH.replace(name="x", description="")


# --- the page ---


def test_figures_of_the_docs_are_current() -> None:
    module = load_benchmark("papers/platforms")
    page = (ROOT / "docs" / "how-to" / "platforms.md").read_text(encoding="utf-8")
    assert module.table() in page, "run: python benchmarks/papers/platforms.py --page"
    assert all(f"| `{name}` |" in page for name in NAMES)


# --- the command ---


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["platforms", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def test_lists_every_platform_in_80_columns() -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (0, "")
    assert max(map(len, result.stderr.splitlines())) <= 80
    rows = {row["platform"]: row for row in json.loads(run("--json").stdout)["platforms"]}
    assert list(rows) == list(NAMES)
    for name, row in rows.items():
        [line] = [line for line in result.stderr.splitlines() if line.split()[:1] == [name]]
        assert row["description"] in line


@pytest.mark.parametrize("name", ["raspberry-pi-4", "hermes-64-4phase"])
def test_shows_every_constant_of_one(name: str) -> None:
    result, data = run("--show", name), json.loads(run("--show", name, "--json").stdout)
    assert (result.exit_code, result.stdout) == (0, "")
    assert max(map(len, result.stderr.splitlines())) <= 80
    assert set(data["constants"]) == set(platform_constants(name))
    words = "".join(result.stderr.split())
    for key, entry in data["constants"].items():
        value = {True: "true", False: "false"}[entry["value"]] if isinstance(entry["value"], bool) else entry["value"]
        for text in (
            f"{key}={value}[{entry['unit']}]({entry['kind']})",
            f"{entry['source']}({entry['file']})",
        ):
            assert "".join(text.split()) in words
    assert data["constants"]["free_ops.dropout"]["file"] == "element_ops.toml"


def test_template_and_faults_on_the_command_line(tmp_path: Path) -> None:
    result = run("--template")
    assert (result.exit_code, result.stdout, result.stderr) == (0, render_template(), "")
    assert run("--template", "--json").exit_code == 2
    assert run("--show", "hermess").exit_code == 2
    path = write(tmp_path / "mine.toml", 'extends = "lionheart"\n' + "".join(text for text, _ in FAULTS.values()))
    shown = run("--show", path)
    assert shown.exit_code == 2
    assert shown.stderr.count("mine.toml:") == len(FAULTS)


# --- software from counted kernels ---


def test_derived_platforms_are_current() -> None:
    module = load_benchmark("cpu_model/derive_software")
    for name, text in module.build().items():
        assert (module.PLATFORMS / name).read_text(encoding="utf-8") == text, name


def test_counted_kernels_beat_alpine_s_library_and_int8_beats_fp32() -> None:
    neon, fp32 = load_platform("alpine-neon"), load_platform("alpine-fp32")
    assert estimate(neon).all_digital.latency_s < estimate(HIGH).all_digital.latency_s
    assert estimate(neon).mapped.latency_s < estimate(HIGH).mapped.latency_s
    assert estimate(neon).all_digital.latency_s < estimate(fp32).all_digital.latency_s  # a quarter of the bytes
    assert estimate(neon).mapped.latency_s < estimate(fp32).mapped.latency_s  # no conversion
