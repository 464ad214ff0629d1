"""Prices of read policies: hand calculations, laws, ALPINE's tile ten times slower, and every place that shows them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmark_scripts import load_benchmark
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import lionheart
from lionheart.analog import set_tiles_
from lionheart.cli import app
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, LayerNode, trace_graph
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_graph, partition_matrix
from lionheart.runs.costs import LayerCostRecord
from lionheart.runs.tables import describe_policies, tabulate_policies
from lionheart.system import (
    CoresRequest,
    FittedPolicy,
    PlatformSpec,
    SystemEstimate,
    SystemModel,
    TilePlan,
    audit_coverage,
    compare_on_cores,
    estimate_programming,
    estimate_system,
    load_platform,
    platform_constants,
    platform_names,
)
from lionheart.system.platform import scalar_units
from lionheart.system.platform_template import render_template
from lionheart.system.programming import estimate_reference_read
from lionheart.tables import Table
from lionheart.tasks.images.networks.resnet import ResNetCifar

HIGH, NEON = load_platform("alpine-high-power"), load_platform("alpine-neon")
NS = 1e-9
# Round numbers: a cycle takes 1 ns, a product 100 ns and 26.2144 nJ.
ROUND = HIGH.replace(
    clock_hz=1e9, llc_line_stall_cycles=20, cache_line_bytes=64, tile_mvm_s=100e-9, tile_bandwidth_bytes_per_s=4e9,
    tile_ops_per_j=10e12, tile_technology_factor=2.0, pack_cycles_per_element=2, unpack_cycles_per_element=2,
    queue_instruction_cycles=2, partial_sum_cycles_per_element=2, sparse_mac_cycles=5, llc_read_energy_j_per_byte=5e-12,
    tile_accumulates_reads=True, tile_broadcasts_inputs=False,
)  # fmt: skip
ON_CORE = ROUND.replace(tile_accumulates_reads=False)


def linear(fqn: str, rows: int, cols: int, n_mvms: int = 1) -> LayerNode:
    return LayerNode(fqn, "linear", rows, cols, 1, n_mvms, 1, rows * n_mvms, cols * n_mvms, has_bias=True)


LARGE = LayerGraph((linear("fc", 512, 256),), ())  # two tiles, full
SMALL = LayerGraph((linear("fc", 100, 60),), ())  # one tile with room for 2 copies on rows and 4 on columns
CONV = LayerGraph(
    (LayerNode("conv", "conv2d", 360, 300, 2, 30, 1, 3840, 18_000, has_bias=True),), ()
)  # 2 groups x 2 x 2


def price(graph: LayerGraph, platform: PlatformSpec = ROUND, **policy: Any) -> SystemEstimate:
    mapping = LayerMapping.from_analog(graph, graph.fqns)
    return estimate_system(graph, mapping, platform, tile=TileSpec(**policy))


def added(
    graph: LayerGraph, platform: PlatformSpec = ROUND, **policy: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the time [ns] and the energy [nJ] that a policy adds to each component; components that stay are left out."""
    before, after = price(graph, platform).mapped, price(graph, platform, **policy).mapped
    found = []
    for old, new in ((before.time_s, after.time_s), (before.energy, after.energy)):
        changes = {name: (new.get(name, 0.0) - old.get(name, 0.0)) / NS for name in {**old, **new}}
        found.append({name: value for name, value in changes.items() if abs(value) > 1e-6})
    return found[0], found[1]


# --- by hand -----------------------------------------------------------------------------------------------------------


def test_reads_that_the_tile_accumulates() -> None:
    time, energy = added(LARGE, n_reads=4)
    assert time == pytest.approx({"tile_repeated_reads": 2 * 3 * 100})  # two tiles, three more reads each
    # a product is 2 * 65 536 op / 10 Top/J * 2 = 26.2144 nJ
    assert energy["tile_repeated_reads"] == pytest.approx(2 * 3 * 26.2144)
    assert set(energy) == {"tile_repeated_reads", "core_wait", "llc_leakage"}  # the core waits, the cache leaks
    assert price(LARGE, n_reads=4).mapped.reads_j == pytest.approx(2 * 4 * 26.2144 * NS)
    assert price(LARGE).mapped.reads_j == pytest.approx(2 * 26.2144 * NS)


def test_reads_that_the_core_adds() -> None:
    # each of three more reads: 2 * 256 elements * 2 cycles, 2 * 64 instructions * 2 cycles, and 512 additions of 2 cycles
    assert added(LARGE, ON_CORE, n_reads=4)[0] == pytest.approx(
        {"tile_repeated_reads": 600, "dequeue": 3 * (1024 + 256), "average": 3 * 1024}
    )


def test_row_copies() -> None:
    assert added(SMALL, row_copies=9)[0] == pytest.approx(
        {"queue": 25 * 2}
    )  # two copies fit: 25 instructions of 2 cycles
    assert added(SMALL, ROUND.replace(tile_broadcasts_inputs=True), row_copies=9) == ({}, {})
    assert added(LARGE, row_copies=9) == ({}, {})  # no row is idle
    assert price(SMALL, row_copies=9).n_tiles == 1


def test_column_copies() -> None:
    # three more copies: 60 elements * 2 cycles, 15 instructions * 2 cycles, 60 additions of 2 cycles
    assert added(SMALL, column_copies=9)[0] == pytest.approx({"dequeue": 3 * 150, "average": 3 * 120})
    both = added(SMALL, ON_CORE, column_copies=9, n_reads=2)[0]  # eight outputs for each one
    assert both == pytest.approx({"dequeue": 7 * 150, "average": 7 * 120, "tile_repeated_reads": 100})


def test_device_pairs() -> None:
    time, energy = added(SMALL, device_pairs=3)
    assert time == {}
    assert energy == pytest.approx({"tile_array": 2 * 0.57 * 26.2144})  # 43 % of the energy is that of the converters
    assert added(SMALL, device_pairs=3, n_reads=2)[1]["tile_repeated_reads"] == pytest.approx((1 + 2 * 0.57) * 26.2144)


def test_digital_weights() -> None:
    graph = LayerGraph((linear("fc", 100, 60, n_mvms=7),), ())
    time, energy = added(graph, digital_weights=100)
    assert time == pytest.approx({"digital_weights": 100 * 7 * 5, "weight_memory": 2 * 20})  # 100 bytes are two lines
    assert energy["llc_access"] == pytest.approx(100 * 5e-3)
    few = added(LayerGraph((linear("fc", 3, 2),), ()), digital_weights=100)[0]
    assert few["digital_weights"] == pytest.approx(6 * 5)  # there are six


def test_input_ranges() -> None:
    # an element: magnitude 1, compare 1.5, multiply 2 cycles; a range: a division of 12
    cycles = {name: ROUND.cycles_per_written[name] for name in ("abs", "mul", "div")}
    assert (cycles, ROUND.cycles_per_read["amax"]) == ({"abs": 1.0, "mul": 2.0, "div": 12.0}, 1.5)
    for graph, sample, vector in (
        (LARGE, 512 * 2.5 + 12 + (512 + 256) * 2, 512 * 2.5 + 2 * 12 + (512 + 512) * 2),
        # the image has 3 840 elements; 60 vectors of 360 on two rows of tiles, with 300 outputs each
        (CONV, 3840 * 2.5 + 12 + (3840 + 18_000) * 2, 21_600 * 2.5 + 120 * 12 + (21_600 + 36_000) * 2),
    ):
        assert added(graph, input_range="sample")[0] == pytest.approx({"input_range": sample})
        assert added(graph, input_range="dynamic")[0] == pytest.approx({"input_range": vector})
        assert added(graph, input_range="learned") == ({}, {})
    tokens = LayerGraph((linear("fc", 512, 256, n_mvms=5),), ())  # each token of a linear layer is a sample
    assert added(tokens, input_range="sample")[0] == pytest.approx({"input_range": 5 * (512 * 2.5 + 12 + 768 * 2)})
    never = LayerGraph((LayerNode("expert", "linear", 512, 256, 1, 0, 0, 0, 0, has_bias=True),), ())
    for policy in ({"input_range": "dynamic"}, {"input_range": "sample"}, {"digital_weights": 9}, {"n_reads": 9}):
        assert added(never, **policy) == ({}, {})


def test_copies_and_pairs_are_programmed() -> None:
    part = {"fc": partition_matrix(100, 60, 1, 256, 256)}
    plain = estimate_programming(part, ROUND, TileSpec())
    policies = {
        "row_copies": (2, 2),
        "column_copies": (4, 1),
        "device_pairs": (3, 3),
        "n_reads": (1, 1),
        "digital_weights": (1, 1),
    }
    for name, (devices, rows) in policies.items():
        found = estimate_programming(part, ROUND, TileSpec(**{name: 4 if name != "device_pairs" else 3}))
        assert found.n_devices == devices * 2 * 100 * 60  # a pair for each weight
        assert found.time_s["pulses"] == pytest.approx(
            rows * plain.time_s["pulses"]
        )  # columns of a row at the same time
        assert found.energy["pulses"] == pytest.approx(devices * plain.energy["pulses"])
        assert found.time_s["weight_memory"] == plain.time_s["weight_memory"]  # the core reads each weight once
    serial = estimate_programming(part, ROUND, TileSpec(column_copies=4), write="device")
    assert serial.time_s["pulses"] == pytest.approx(
        4 * estimate_programming(part, ROUND, TileSpec(), write="device").time_s["pulses"]
    )


def test_layers_that_share_a_tile_need_room_for_their_copies() -> None:
    graph = LayerGraph((linear("a", 100, 60), linear("b", 100, 60)), ())
    mapping, cores = LayerMapping.from_analog(graph, graph.fqns), CoresRequest(n_cores=1, n_inferences=1, max_tiles=1)
    partitions = partition_graph(graph, TileSpec())
    counts = {}
    for name, tile in (
        ("none", TileSpec()),
        ("rows", TileSpec(row_copies=2)),
        ("rows and columns", TileSpec(row_copies=2, column_copies=4)),
        ("one", TilePlan(TileSpec(), {"b": TileSpec(row_copies=2, column_copies=4)})),
    ):
        found = compare_on_cores(graph, mapping, ROUND, partitions, cores, tile=tile).summary()
        counts[name] = (found.n_tiles_packed, found.without_tiles)
    # a copy takes 100 x 60 of 256 x 256: with both kinds of copies a layer takes 200 x 240, and 56 rows are left
    assert counts == {"none": (1, ()), "rows": (1, ()), "rows and columns": (2, ("b",)), "one": (2, ("b",))}


def test_a_reference_read_of_a_plan_skips_tiles_without_compensation() -> None:
    partitions = {name: partition_matrix(100, 60, 1, 256, 256) for name in "ab"}
    none = TileSpec(drift_compensation="none")
    one = estimate_reference_read({"a": partitions["a"]}, ROUND, TileSpec())
    assert estimate_reference_read(partitions, ROUND, TilePlan(TileSpec(), {"b": none})) == one
    assert estimate_reference_read(partitions, ROUND, TilePlan(none, {"a": TileSpec()})) == one
    assert estimate_reference_read(partitions, ROUND, TilePlan(TileSpec(), {"a": none, "b": none})) is None


# --- laws --------------------------------------------------------------------------------------------------------------

GRAPHS = st.lists(
    st.builds(linear, st.text("abcdef", min_size=1, max_size=8), st.integers(1, 600), st.integers(1, 600), st.integers(1, 20)),
    min_size=1, max_size=4, unique_by=lambda node: node.fqn,
).map(lambda nodes: LayerGraph(tuple(nodes), ()))  # fmt: skip
POLICIES = st.fixed_dictionaries(
    {"n_reads": st.integers(1, 16), "row_copies": st.integers(1, 16), "column_copies": st.integers(1, 16),
     "device_pairs": st.integers(1, 4), "digital_weights": st.integers(0, 50),
     "input_range": st.sampled_from(["static", "learned", "sample", "dynamic"])}
)  # fmt: skip
PLATFORMS = [load_platform(name) for name in platform_names()] + [ROUND, ON_CORE]


@settings(deadline=None, max_examples=60)
@given(GRAPHS, st.sampled_from(PLATFORMS), st.data())
def test_the_breakdown_adds_up_and_the_model_is_the_estimate(
    graph: LayerGraph, platform: PlatformSpec, data: st.DataObject
) -> None:
    own = {fqn: TileSpec(**data.draw(POLICIES)) for fqn in data.draw(st.sets(st.sampled_from(graph.fqns)))}
    mapping = LayerMapping.from_analog(graph, data.draw(st.sets(st.sampled_from(graph.fqns))))
    found = estimate_system(graph, mapping, platform, tile=TilePlan(TileSpec(), own))
    for row in found.layers:
        assert row.latency_s == pytest.approx(sum(row.cost.time_s.values()))
        assert row.energy_j == pytest.approx(sum(row.cost.energy.values()))
        assert all(value >= 0 for value in (*row.cost.time_s.values(), *row.cost.energy.values()))
        if row.policy is not None:
            assert row.policy.reads_j <= row.energy_j
            plain = estimate_system(graph, mapping, platform, tile=TileSpec()).layers[graph.fqns.index(row.fqn)]
            assert row.latency_s - plain.latency_s == pytest.approx(row.policy.latency_s, rel=1e-6, abs=1e-15)
            assert row.energy_j - plain.energy_j == pytest.approx(row.policy.energy_j, rel=1e-6, abs=1e-18)
    fresh = SystemModel(graph, platform, tile=TilePlan(TileSpec(), own))
    for model in (fresh, SystemModel(graph, platform, tile=TileSpec()).with_tiles(own)):
        cost = model.cost(mapping)
        assert cost.latency_s == pytest.approx(found.mapped.latency_s, rel=1e-12)
        assert cost.energy_j == pytest.approx(found.mapped.energy_j, rel=1e-12)
        assert cost.n_tiles == found.n_tiles
        assert model.track(mapping).cost == cost == fresh.cost(mapping)
    for fqn in mapping.analog:
        assert fresh.analog_cost(fqn) == found.layers[graph.fqns.index(fqn)].cost
        assert fresh.analog_cost(fqn, TileSpec()) == SystemModel(graph, platform, tile=TileSpec()).analog_cost(fqn)


@settings(deadline=None, max_examples=60)
@given(GRAPHS, st.sampled_from(PLATFORMS), POLICIES, st.integers(1, 8), st.data())
def test_more_never_costs_less(
    graph: LayerGraph, platform: PlatformSpec, policy: dict[str, Any], more: int, data: st.DataObject
) -> None:
    grows = data.draw(st.sampled_from(["n_reads", "row_copies", "column_copies", "device_pairs", "digital_weights"]))
    before, after = price(graph, platform, **policy), price(graph, platform, **{**policy, grows: policy[grows] + more})
    assert after.mapped.latency_s >= before.mapped.latency_s * (1 - 1e-12)
    assert after.mapped.energy_j >= before.mapped.energy_j * (1 - 1e-12)
    assert after.programming.n_devices >= before.programming.n_devices
    assert after.n_tiles == before.n_tiles
    if grows == "n_reads":
        assert after.mapped.latency_s > before.mapped.latency_s
        assert after.mapped.reads_j > before.mapped.reads_j


@pytest.mark.parametrize("name", platform_names())
def test_default_policies_cost_nothing(name: str) -> None:
    platform, mapping = load_platform(name), LayerMapping.from_analog(CONV, CONV.fqns)
    usual = estimate_system(CONV, mapping, platform, tile=TileSpec())
    assert estimate_system(CONV, mapping, platform, tile=TilePlan(TileSpec(), {"conv": TileSpec()})) == usual
    assert usual.layers[0].policy is None
    assert not any(name in usual.mapped.time_s for name in ("tile_repeated_reads", "average", "input_range"))
    assert not any("ead policies" in line for line in usual.assumptions)
    record = usual.summary()
    assert "policy" not in record.layers[0].to_json()
    assert (tabulate_policies(record), describe_policies(record)) == (None, "")


# --- ALPINE ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet20() -> LayerGraph:
    return trace_graph(ResNetCifar(3).eval(), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("name", platform_names())
def test_ten_reads_are_a_tile_ten_times_slower(name: str, resnet20: LayerGraph) -> None:
    platform = load_platform(name)
    assert platform.tile_accumulates_reads
    slow = price(resnet20, platform.replace(tile_mvm_s=10 * platform.tile_mvm_s))
    ten = price(resnet20, platform, n_reads=10)
    assert ten.mapped.latency_s == pytest.approx(slow.mapped.latency_s, rel=1e-12)
    assert ten.mapped.reads_j == pytest.approx(10 * price(resnet20, platform).mapped.reads_j)
    core = price(resnet20, platform.replace(tile_accumulates_reads=False), n_reads=10)
    assert core.mapped.latency_s > ten.mapped.latency_s


def test_alpine_prints_that_ten_reads_hardly_matter_for_its_network() -> None:
    # printed: a tile ten times slower hardly changes the MLP, here by 1.5 to 4 %
    ratios = load_benchmark("papers/alpine_ratios")
    for name in ("alpine-high-power", "alpine-low-power"):
        platform = load_platform(name)
        slow = ratios.mlp_estimate(platform.replace(tile_mvm_s=10 * platform.tile_mvm_s))
        change = slow.mapped.latency_s / ratios.mlp_estimate(platform).mapped.latency_s - 1
        assert 0.001 < change < 0.05


def test_reads_take_a_larger_share_where_the_core_is_fast(resnet20: LayerGraph) -> None:
    shares = {}
    for platform in (HIGH, NEON):
        once, ten = price(resnet20, platform), price(resnet20, platform, n_reads=10)
        assert once.speedup > 1
        shares[platform.name] = (
            ten.mapped.latency_s / once.mapped.latency_s,
            ten.mapped.time_s["tile_repeated_reads"] / ten.mapped.latency_s,
            ten.mapped.reads_j / ten.mapped.energy_j,
        )
    assert all(fast > slow for slow, fast in zip(*shares.values(), strict=True))
    # each of 11 000 products waits 900 ns more: 12.1 ms become 22.0 ms on ALPINE's software, 3.3 ms become 13.3 ms on ours
    assert [round(values[0], 1) for values in shares.values()] == [1.8, 4.0]


# --- where they are shown ------------------------------------------------------------------------------------------------


def test_a_policy_is_few_words() -> None:
    part = partition_matrix(27, 16, 1, 256, 256)
    tile = TileSpec(n_reads=4, row_copies=16, column_copies=2, device_pairs=2, digital_weights=1, input_range="dynamic")
    assert FittedPolicy.of(tile, part).describe() == (
        "4 reads, 9 row copies, 2 column copies, 2 device pairs, 1 digital weight, range per vector"
    )
    assert FittedPolicy.of(TileSpec(input_range="sample", digital_weights=3), part).describe() == (
        "3 digital weights, range per sample"
    )
    full = partition_matrix(256, 256, 1, 256, 256)
    for usual in (FittedPolicy.of(None, part), FittedPolicy.of(TileSpec(row_copies=16, column_copies=2), full)):
        assert (usual.describe(), usual.is_default) == ("", True)


def test_estimates_show_policies() -> None:
    mapping = LayerMapping.from_analog(CONV, CONV.fqns)
    found = estimate_system(CONV, mapping, ROUND, tile=TilePlan(TileSpec(), {"conv": TileSpec(n_reads=2)}))
    record = found.summary()
    [row] = record.layers
    assert row.policy.policy == "2 reads"
    assert row.policy.latency_s == pytest.approx(8 * 30 * 100 * NS)
    assert row.policy.reads_j == pytest.approx(2 * 8 * 30 * 26.2144 * NS)
    assert LayerCostRecord.from_json(row.to_json(), "row") == row
    assert describe_policies(record).startswith("Read policies of 1 projection add 24 µs and ")
    shown = [block for block in found.to_blocks() if isinstance(block, Table)][-1]
    assert shown.rows[0][:3] == ("conv", "2 reads", "24 µs")
    assert "2 reads" in str(found)
    assert any("adds the outputs of repeated reads" in line for line in record.assumptions)
    there = estimate_system(CONV, mapping, ON_CORE, tile=TileSpec(n_reads=2)).assumptions
    assert any("The core takes the outputs of each repeated read" in line for line in there)


def test_the_audit_shows_policies() -> None:
    audit = audit_coverage(SMALL, "small", tile=TilePlan(TileSpec(), {"fc": TileSpec(row_copies=9)}))
    assert audit.projections[0].policy.policy == "2 row copies"
    assert audit_coverage(SMALL, "small").projections[0].policy is None
    assert "policy" not in audit_coverage(SMALL, "small").to_json()["projections"][0]


# --- input -------------------------------------------------------------------------------------------------------------


def test_changes_of_a_run_become_a_plan() -> None:
    tile = TileSpec(device=DeviceSpec.pcm(), n_reads=2)
    plan = TilePlan.from_changes(tile, {"fc": {"n_reads": "4", "input_range": "dynamic"}})
    assert plan.find("fc") == tile.replace(n_reads=4, input_range="dynamic")
    assert plan.find("other") == plan.common == tile
    with pytest.raises(ConfigError, match=r"tiles\['fc'\]: TileSpec\.n_reads: got 0"):
        TilePlan.from_changes(tile, {"fc": {"n_reads": 0}})
    with pytest.raises(ConfigError, match=r"tile: got .*expected"):
        TilePlan.of({"fc": tile})


def test_platform_files_without_the_new_constants_keep_working(tmp_path: Any) -> None:
    text = "\n\n".join(
        f'[{name}]\nvalue = {value}\nunit = "{unit}"\nsource = "mine"\nkind = "assumed"'
        for name, value, unit in _old_constants()
    )
    path = tmp_path / "old.toml"
    path.write_text(text, encoding="utf-8")
    old = load_platform(path)  # extends nothing
    assert (old.tile_accumulates_reads, old.tile_broadcasts_inputs) == (False, False)
    for name, value, fault in (
        ("tile_accumulates_reads", "true", ""),
        ("tile_accumulates_reads", "1", "tile_accumulates_reads: got 1, expected true or false"),
        ("tile_mvm_s", "true", "tile_mvm_s: got True, expected a number"),
    ):
        unit = "s" if name == "tile_mvm_s" else "1"
        path.write_text(
            f'extends = "hermes"\n[{name}]\nvalue = {value}\nunit = "{unit}"\nsource = "mine"\nkind = "assumed"'
        )
        if fault:
            with pytest.raises(ConfigError, match=fault):
                load_platform(path)
        else:
            assert load_platform(path).tile_accumulates_reads is True
    assert "#[tile_accumulates_reads]\n#value = true\n" in render_template()


def _old_constants() -> list[tuple[str, Any, str]]:
    known, new = (
        platform_constants("alpine-low-power"),
        ("tile_accumulates_reads", "tile_broadcasts_inputs", "sparse_mac_cycles"),
    )
    return [
        (name, known[name].value, unit) for name, unit in scalar_units().items() if name in known and name not in new
    ]


def test_a_converted_model_is_priced_with_the_tile_of_each_layer() -> None:
    """The tile of the first analog layer was taken for all layers."""
    net, x = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 4)), torch.zeros(1, 8)
    tile = TileSpec.pcm()
    lionheart.convert_to_analog_(net, tile)
    usual = lionheart.estimate_cost(net, example_inputs=x)
    set_tiles_(net, {"2": tile.replace(input_range="dynamic")})
    found = lionheart.estimate_cost(net, example_inputs=x)
    assert {row.fqn: row.policy and row.policy.policy for row in found.layers} == {"0": None, "2": "range per vector"}
    assert found.layers[0] == usual.layers[0]
    assert found.layers[1].latency_s - usual.layers[1].latency_s == pytest.approx(found.layers[1].policy.latency_s)


def test_switches_of_a_platform_are_written_as_in_its_file() -> None:
    shown = CliRunner().invoke(app, ["platforms", "--show", "hermes"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert "tile_accumulates_reads = true [1] (assumed)" in shown.stderr
    assert "tile_broadcasts_inputs = false [1] (assumed)" in shown.stderr
