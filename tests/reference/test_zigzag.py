"""ZigZag as a cross-check: laws of its figures, hand calculations, the table, and one clear error without it."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import load_benchmark
from paths import ROOT
from typer.testing import CliRunner, Result

import lionheart.interop
from lionheart.cli import app
from lionheart.errors import ConfigError, UnsupportedLayerError
from lionheart.graph import LayerGraph, LayerNode
from lionheart.jobs import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.record import write_record
from lionheart.runs import RunDirectory
from lionheart.system import estimate_system, load_platform

HIGH = load_platform("alpine-high-power")
LANES = 8


def layer(fqn: str, rows: int, cols: int, groups: int = 1, n_mvms: int = 1) -> LayerNode:
    kind = "linear" if groups * n_mvms == 1 else "conv2d"
    return LayerNode(
        fqn, kind, rows, cols, groups, n_mvms, 1, rows * groups * n_mvms, cols * groups * n_mvms, has_bias=True
    )


TINY = LayerGraph(
    (layer("stem", 27, 16, n_mvms=64), layer("depthwise", 9, 1, 16, 64), layer("again", 27, 16, n_mvms=64),
     layer("odd", 5, 3, n_mvms=7), layer("one", 1, 1), layer("fc", 64, 10)),
    (),
)  # fmt: skip
MIXED = LayerMapping.from_analog(TINY, ["stem", "fc"])


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    pytest.importorskip("zigzag", reason="ZigZag is not installed: pip install zigzag-dse==3.9.1 six")
    return importlib.import_module("lionheart.interop.zigzag")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """As much of a finished run as `simulate` reads."""
    run = RunDirectory.create(
        tmp_path / "run", {"job": "map", "task": "tiny", "seed": 0, "settings": MapSettings().to_json()}
    )
    run.write("graph.json", write_record(TINY))
    run.write("results.json", {})
    MIXED.save(run.file("mapping.json"))
    return run.path


def lionheart_command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "80", "TERM": "dumb"})


# ------------------------------------------------------------------------------------------------------ without it


@pytest.fixture(params=["zigzag", "six"])
def _absent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "six":
        pytest.importorskip("zigzag", reason="ZigZag is not installed: pip install zigzag-dse==3.9.1 six")
    for name in [n for n in sys.modules if n.split(".")[0] in ("zigzag", "six") or "interop.zigzag" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, request.param, None)  # importing it then fails as if it were not there
    monkeypatch.delattr(lionheart.interop, "zigzag", raising=False)


@pytest.mark.usefixtures("_absent")
def test_without_zigzag(run_dir: Path):
    with pytest.raises(ConfigError, match="ZigZag cannot be imported") as caught:
        importlib.import_module("lionheart.interop.zigzag")
    assert "pip install zigzag-dse==3.9.1 six" in caught.value.hint
    result = lionheart_command("simulate", run_dir, "--cross-check", "zigzag")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("error: ZigZag cannot be imported") == 1
    assert not (run_dir / "system.json").exists()  # refused before anything is computed


def test_unknown_tool(run_dir: Path):
    result = lionheart_command("simulate", run_dir, "--cross-check", "zigzac")
    assert result.exit_code == 2
    assert "--cross-check: got 'zigzac'" in result.stderr
    assert "did you mean 'zigzag'" in result.stderr


# ------------------------------------------------------------------------------------------------------------ laws


def test_cycles_respect_the_bound(theirs: ModuleType):
    costs = theirs.price_with_zigzag(TINY, HIGH)
    for node, cost in zip(TINY.nodes, costs, strict=True):
        assert cost.fqn == node.fqn
        assert cost.cycles >= cost.bound_cycles == node.macs / LANES > 0
        assert cost.latency_s == cost.cycles / HIGH.clock_hz
        assert cost.energy_j == sum(cost.energy.values())
        assert all(value >= 0 for value in cost.energy.values())


def test_energy_of_lanes_by_hand(theirs: ModuleType):
    # stem: 27 * 16 * 64 = 27 648 MACs, 845.39 pJ a cycle of 8 lanes
    stem = theirs.price_with_zigzag(TINY, HIGH)[0]
    assert stem.energy["lanes"] == pytest.approx(27_648 / 8 * 845.39e-12)
    assert stem.energy["dram"] == 0  # everything fits in the last-level cache
    assert stem.energy["registers"] == stem.energy["l1"] == 0  # part of the core's energy


def test_equal_shapes_are_computed_once(theirs: ModuleType, monkeypatch: pytest.MonkeyPatch):
    shapes, search = [], theirs.price._search_mappings

    def count(core: object, workload: object, limit: int) -> object:
        shapes.append(workload)
        return search(core, workload, limit)

    monkeypatch.setattr(theirs.price, "_search_mappings", count)
    costs = {cost.fqn: cost for cost in theirs.price_with_zigzag(TINY, HIGH)}
    assert len(shapes) == len(TINY.nodes) - 1
    assert costs["again"].cycles == costs["stem"].cycles
    assert costs["again"].energy == costs["stem"].energy


@pytest.mark.parametrize(
    ("llc_bytes", "n_mvms", "streams", "keeps_activations"),
    [(2**20, 1, False, True), (40_000, 1, True, True), (40_000, 256, True, False)],
)
def test_homes_follow_the_system_models_rule(
    theirs: ModuleType, llc_bytes: int, n_mvms: int, streams: bool, keeps_activations: bool
):
    graph = LayerGraph((layer("fc", 256, 256, n_mvms=n_mvms),), ())
    platform = HIGH.replace(llc_bytes=llc_bytes)
    cost = theirs.price_with_zigzag(graph, platform)[0]
    weights_j = 256 * 256 / 64 * 120e-12  # 64 bytes a DRAM access of 120 pJ
    activations_j = 2 * 256 * n_mvms / 64 * 120e-12
    ours = estimate_system(graph, LayerMapping.from_analog(graph, []), platform).digital_layers[0]
    assert ("dram" in ours.cost.energy) == streams
    if not streams:
        assert cost.energy["dram"] == 0
    elif keeps_activations:
        assert cost.energy["dram"] == pytest.approx(weights_j, rel=1e-3)
    else:
        assert cost.energy["dram"] >= 0.999 * (weights_j + activations_j)


@pytest.mark.parametrize(("rows", "cols"), [(256, 256), (256, 257), (257, 256)])
def test_a_layer_that_streams_takes_its_time(theirs: ModuleType, rows: int, cols: int):
    # left to itself ZigZag spreads 257 over 8 lanes as 7.79, counts 7, and takes less time than the bandwidth allows;
    # 2 GB/s at 2.3 GHz are rounded to 7 bits a cycle, 2.0125 GB/s
    graph = LayerGraph((layer("fc", rows, cols),), ())
    cost = theirs.price_with_zigzag(graph, HIGH.replace(llc_bytes=40_000, dram_stream_bandwidth_bytes_per_s=2e9))[0]
    assert rows * cols / 2.0125e9 <= cost.latency_s < 1.1 * rows * cols / 2.0125e9


def test_array_by_hand(theirs: ModuleType):
    # ADC of 8 bits on 256 rows: 8 * (0.00653 * 256 + 0.640) = 18.49 ns a cycle; 0.81 V^2 * (100 fF * 8 + 0.001 fF * 4^8)
    # = 0.70108 pJ a conversion, 8 columns for each of 256 weights, 8 cycles
    cost = theirs.price_array(HIGH, 1)
    assert cost.latency_s > 8 * 18.49e-9
    assert cost.energy["adcs"] == pytest.approx(0.81 * (800 + 65.536) * 1e-15 * 8 * 256 * 8)
    assert cost.energy_j == pytest.approx(14.645e-9, rel=1e-4)  # printed for the package's own array of that size
    whole = theirs.price_array(HIGH, 8)
    assert whole.latency_s < cost.latency_s / 8
    assert whole.energy_j < cost.energy_j


def test_no_mapping_names_the_layer(theirs: ModuleType, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise theirs.price.NoValidLoopOrderingFoundException

    monkeypatch.setattr(theirs.price, "_search_mappings", fail)
    with pytest.raises(UnsupportedLayerError, match="stem: ZigZag found no valid loop order for a 27x16 matrix"):
        theirs.price_with_zigzag(TINY, HIGH)


def test_can_be_interrupted_and_leaves_logging_alone(theirs: ModuleType):
    class Stopping:
        @contextmanager
        def bar(self, text: str, total: float | None) -> Iterator[Stopping]:
            assert (text, total) == ("ZigZag", 5)
            yield self

        def describe(self, text: str) -> None:
            assert text == "ZigZag: stem"

        def advance(self, steps: float = 1) -> None:
            raise KeyboardInterrupt

    handlers, level = logging.getLogger().handlers[:], logging.getLogger("zigzag").level
    with pytest.raises(KeyboardInterrupt):
        theirs.price_with_zigzag(TINY, HIGH, progress=Stopping())
    assert (logging.getLogger().handlers, logging.getLogger("zigzag").level) == (handlers, level)


# ----------------------------------------------------------------------------------------------------------- table


def test_rows_match_projections(theirs: ModuleType):
    data = theirs.compare_with_zigzag(TINY, MIXED, HIGH)
    ours = estimate_system(TINY, MIXED, HIGH).digital_layers
    assert [row.fqn for row in data.rows] == list(TINY.fqns)
    for row, mine in zip(data.rows, ours, strict=True):
        assert row.placement == str(MIXED.placements[row.fqn])
        assert (row.ours.latency_s, row.ours.energy_j) == (mine.latency_s, mine.energy_j)
        assert row.ours.products_s == mine.cost.time_s["mac_kernel"]
        assert row.latency_ratio == row.ours.latency_s / row.zigzag.latency_s
    for part, n, names in (("all", 6, TINY.fqns), ("digital", 4, {"depthwise", "again", "odd", "one"})):
        total, rows = getattr(data.totals, part), [row for row in data.rows if row.fqn in names]
        assert total.n_projections == n == len(rows)
        for side in ("ours", "zigzag"):
            assert getattr(total, side).energy_j == pytest.approx(sum(getattr(row, side).energy_j for row in rows))
    assert data.tile.ours.energy_j == pytest.approx(2 * 256 * 256 / 12.8e12 * 5.3)
    assert data.ours_leaves_out
    assert data.zigzag_leaves_out
    assert type(data).from_json(json.loads(json.dumps(data.to_json(), allow_nan=False)), "zigzag") == data


def test_nothing_digital_and_no_energies(theirs: ModuleType):
    free = HIGH.replace(
        active_energy_j_per_cycle=0,
        llc_read_energy_j_per_byte=0,
        llc_write_energy_j_per_byte=0,
        llc_line_stall_cycles=0,
    )
    data = theirs.compare_with_zigzag(TINY, LayerMapping.from_analog(TINY, TINY.fqns), free)
    assert data.totals.digital is None
    assert data.totals.all.energy_ratio is None


def test_simulate_prints_the_table_and_writes_it(theirs: ModuleType, run_dir: Path):
    result = lionheart_command("simulate", run_dir, "--cross-check", "zigzag", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert [row["cross_check"]["platform"] for row in data] == ["alpine-high-power", "alpine-low-power"]
    assert [row["fqn"] for row in data[0]["cross_check"]["rows"]] == list(TINY.fqns)
    words = lionheart_command("simulate", run_dir, "--cross-check", "zigzag", "--platform", "alpine-low-power")
    assert words.exit_code == 0, words.output
    assert words.stdout == ""
    assert max(len(line) for line in words.stderr.splitlines()) <= 80
    for part in ("depthwise", "digital ones", "Our model leaves out", "ZigZag leaves out", "256×256 tile"):
        assert part in words.stderr
    assert "cross_check" not in lionheart_command("simulate", run_dir, "--json").stdout


def test_the_page_is_up_to_date(theirs: ModuleType):
    module = load_benchmark("papers/cross_check")
    page = (ROOT / "docs" / "results" / "zigzag.md").read_text(encoding="utf-8")
    for line in [*module.tabulate_layers(module.trace_resnet8(), HIGH), *module.tabulate_tiles(TINY)]:
        assert line in page
