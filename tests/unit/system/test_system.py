"""The system model: hand calculations, a loop-style twin, laws, and the published gains."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from benchmark_scripts import load_benchmark
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT
from torch import Tensor, nn
from zoo import ZOO

from lionheart.constants import KINDS
from lionheart.errors import ArtifactError, ConfigError, TilingError
from lionheart.graph import DigitalOp, LayerGraph, LayerNode, trace_graph
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import TilePartition, partition_matrix
from lionheart.system import (
    Cost,
    PlatformSpec,
    Stage,
    SystemEstimate,
    audit_coverage,
    estimate_pipeline,
    estimate_system,
    load_platform,
    platform_constants,
    platform_names,
)

PLATFORMS = ROOT / "src" / "lionheart" / "system" / "platforms"
HIGH, LOW = load_platform("alpine-high-power"), load_platform("alpine-low-power")

# Round numbers, so that the hand calculations below can be read.
ROUND = HIGH.replace(
    clock_hz=1e9, active_energy_j_per_cycle=100e-12, wait_energy_j_per_cycle=50e-12, idle_energy_j_per_cycle=10e-12,
    llc_bytes=2**20, llc_leakage_w=1.0, llc_read_energy_j_per_byte=5e-12, llc_write_energy_j_per_byte=4e-12,
    llc_line_stall_cycles=20, cache_line_bytes=64, dram_stream_bandwidth_bytes_per_s=2e9,
    dram_energy_j_per_access=120e-12, memory_controller_power_w=3.0, tile_rows=256, tile_cols=256, tile_mvm_s=100e-9,
    tile_bandwidth_bytes_per_s=4e9, tile_ops_per_j=10e12, tile_technology_factor=2.0, macs_per_cycle=2.0,
    conv_macs_per_cycle=2.0, depthwise_macs_per_cycle=0.5, gather_cycles_per_element=24, requantise_cycles_per_output=4,
    bias_cycles_per_output=1,
    convert_input_cycles=10, convert_output_cycles=10, io_cycles_per_element=0, pack_cycles_per_element=2,
    unpack_cycles_per_element=2,
    queue_instruction_cycles=2, partial_sum_cycles_per_element=2, l1_bytes=2**15, dram_bandwidth_bytes_per_s=8e9,
    handover_cycles=1000, mvms_per_weight_pass=1,
)  # fmt: skip


def linear(fqn: str, rows: int, cols: int, **changes: object) -> LayerNode:
    settings = {"n_mvms": 1, "n_calls": 1, "n_inputs": rows, "n_outputs": cols, "has_bias": True, **changes}
    return LayerNode(fqn, "linear", rows, cols, 1, **settings)


def all_analog(graph: LayerGraph, platform: PlatformSpec) -> SystemEstimate:
    return estimate_system(graph, LayerMapping.from_analog(graph, graph.fqns), platform)


ONE = LayerGraph((linear("fc", 512, 256),), ())
CONV = LayerNode("conv", "conv2d", 3 * 3 * 40, 300, 2, 30, 1, 80 * 48, 600 * 30, has_bias=True)


@pytest.fixture(scope="module")
def ratios() -> ModuleType:
    return load_benchmark("papers/alpine_ratios")


# --- golden: one linear layer, 512 inputs, 256 outputs, by hand on ROUND (1 cycle = 1 ns) ---


def test_digital_linear_by_hand() -> None:
    row = all_analog(ONE, ROUND).digital_layers[0]
    # products 512 * 256 / 2 = 65 536; bias 256; requantise 4 * 256 = 1 024 cycles: 66 816 active
    # weights 131 072 B stay in the 1 MiB LLC: 2 048 lines * 20 = 40 960; inputs 8 lines * 20 = 160: 41 120 waiting
    assert row.cost.time_s == pytest.approx(
        {"mac_kernel": 65.536e-6, "bias": 0.256e-6, "requantise": 1.024e-6, "weight_memory": 40.96e-6,
         "activation_memory": 0.16e-6}
    )  # fmt: skip
    assert row.latency_s == pytest.approx(107.936e-6)
    # 66 816 * 100 pJ; 41 120 * 50 pJ; (512 + 131 072) B * 5 pJ + 256 B * 4 pJ; 1 W * 107.936 us
    assert row.cost.energy == pytest.approx(
        {"core_active": 6.6816e-6, "core_wait": 2.056e-6, "llc_access": 0.658944e-6, "llc_leakage": 107.936e-6}
    )
    assert row.n_tiles == 0


def test_digital_linear_from_dram_by_hand() -> None:
    cost = all_analog(ONE, ROUND.replace(llc_bytes=65_536)).digital_layers[0].cost
    # half of the weights does not fit: 2 048 lines * 20 cycles, and 1 024 lines * 64 B / 2 GB/s = 32.768 us,
    # 1 024 * 120 pJ, and the fill writes 65 536 B * 4 pJ
    assert cost.time_s["weight_memory"] == pytest.approx(40.96e-6 + 32.768e-6)
    assert cost.energy["dram"] == pytest.approx(0.12288e-6)
    assert cost.energy["llc_access"] == pytest.approx(0.658944e-6 + 65_536 * 4e-12)
    assert cost.dram_bytes == 65_536


def test_weights_are_read_again_for_each_product() -> None:
    twice = LayerGraph((linear("fc", 512, 256, n_mvms=3, n_inputs=1536, n_outputs=768),), ())
    cost = all_analog(twice, ROUND.replace(llc_bytes=65_536)).digital_layers[0].cost
    # the first of three passes misses the core's own cache always, the others for 1 - 32 768 / 131 072 = 3/4 of 2 048 lines;
    # half of all of them come from DRAM
    lines = 2048 + 2 * 1536
    assert cost.time_s["weight_memory"] == pytest.approx(lines * 20e-9 + lines / 2 * 32e-9)
    blocked = all_analog(twice, ROUND.replace(llc_bytes=65_536, mvms_per_weight_pass=3)).digital_layers[0].cost
    assert blocked.time_s["weight_memory"] == pytest.approx(2048 * 20e-9 + 1024 * 32e-9)


def test_layers_that_run_at_the_same_time_share_the_cache() -> None:
    # two of 64 kB that are read again and again fit in 96 kB one at a time, not together
    nodes = tuple(linear(n, 256, 256, n_mvms=2, n_inputs=512, n_outputs=512) for n in "ab")
    graph, platform = LayerGraph(nodes, ()), ROUND.replace(llc_bytes=98_304)
    mapping = LayerMapping.all_digital(graph)
    alone = estimate_system(graph, mapping, platform)
    together = estimate_system(graph, mapping, platform, concurrent=graph.fqns)
    assert alone.mapped.dram_bytes == pytest.approx(2 * 65_536 / 4)  # the first pass: 1/4 of 128 kB does not fit
    assert together.mapped.dram_bytes == pytest.approx(2 * (65_536 + 32_768) / 4)  # and of the second pass's L1 misses


def test_analog_linear_by_hand() -> None:
    estimate = all_analog(ONE, ROUND)
    row = estimate.layers[0]
    # two tiles of 256 x 256. convert (512 + 256) * 10 = 7 680; queue 512 * 2 + 128 instructions * 2 = 1 280;
    # dequeue 2 * 256 * 2 + 128 * 2 = 1 280; partial sums 256 * 2 = 512; bias 256: 11 008 active
    # the port needs 512 B / 4 GB/s = 128 ns, less than the 256 ns of its instructions: no wait
    # waits: 2 MVMs * 100 ns, inputs 8 lines * 20 = 160
    assert row.cost.time_s == pytest.approx(
        {"convert": 7.68e-6, "queue": 1.28e-6, "dequeue": 1.28e-6, "partial_sums": 0.512e-6, "bias": 0.256e-6,
         "process": 0.2e-6, "activation_memory": 0.16e-6}
    )  # fmt: skip
    assert row.latency_s == pytest.approx(11.368e-6)
    # 11 008 * 100 pJ; 360 * 50 pJ; 512 B * 5 pJ + 256 B * 4 pJ; 1 W * 11.368 us
    # tiles 2 * 2 * 65 536 op / 10 Top/J * 2 = 52.4288 nJ, 43 % of it in converters: at 8 bit and Vdd^2 = 0.81 V^2 an ADC takes
    # 100 fF * 8 + 1 aF * 65 536 = 865.536 fF, a DAC 50 fF * 8 = 400 fF, as many of each
    assert row.cost.energy == pytest.approx(
        {"core_active": 1.1008e-6, "core_wait": 0.018e-6, "llc_access": 3.584e-9, "llc_leakage": 11.368e-6,
         "tile_array": 0.57 * 52.4288e-9, "tile_adc": 0.43 * 52.4288e-9 * 865.536 / 1265.536,
         "tile_dac": 0.43 * 52.4288e-9 * 400 / 1265.536}
    )  # fmt: skip
    assert (row.n_tiles, estimate.n_tiles) == (2, 2)


def test_port_bounds_the_queue() -> None:
    cost = all_analog(ONE, ROUND.replace(clock_hz=8e9)).layers[0].cost
    # pack 512 * 2 cycles at 8 GHz = 128 ns; 128 instructions * 2 cycles = 32 ns, but 512 B at 4 GB/s need 128 ns
    assert cost.time_s["queue"] == pytest.approx(256e-9)


# --- twin: the same convolution, counted tile by tile in loops ---


def _count_in_loops(node: LayerNode, part: TilePartition, p: PlatformSpec) -> tuple[float, float, float]:
    """Return (time [s], active cycles, tile energy [J]) of an analog convolution, one vector at a time."""
    active, port_s, process_s, tile_j = 0.0, 0.0, 0.0, 0.0
    for _ in range(node.n_mvms):
        for _ in range(node.groups):
            active += node.rows * p.gather_cycles_per_element
            active += node.rows * p.pack_cycles_per_element
            for rows in part.row_sizes:
                for cols in part.col_sizes:
                    for first in range(0, rows, p.elements_per_queue_instruction):
                        active += p.queue_instruction_cycles
                        del first
                    process_s += p.tile_mvm_s
                    tile_j += 2 * part.tile_rows * part.tile_cols / p.tile_ops_per_j * p.tile_technology_factor
                    active += len(range(0, cols, p.elements_per_queue_instruction)) * p.queue_instruction_cycles
                    active += cols * p.unpack_cycles_per_element
            for row_tile in range(len(part.row_sizes)):
                active += node.cols * p.partial_sum_cycles_per_element if row_tile else 0
            active += node.cols * (p.bias_cycles_per_output + p.convert_output_cycles)
    active += node.n_inputs * p.convert_input_cycles
    memory_s = -(-node.n_inputs // p.cache_line_bytes) * p.llc_line_stall_cycles / p.clock_hz
    return active / p.clock_hz + port_s + process_s + memory_s, active, tile_j


def test_analog_convolution_equals_its_twin() -> None:
    row = all_analog(LayerGraph((CONV,), ()), ROUND).layers[0]
    part = partition_matrix(CONV.rows, CONV.cols, CONV.groups, 256, 256)
    latency_s, active, tile_j = _count_in_loops(CONV, part, ROUND)
    assert row.latency_s == pytest.approx(latency_s)
    assert row.cost.energy["core_active"] == pytest.approx(active * 100e-12)
    assert sum(row.cost.energy[f"tile_{part}"] for part in ("array", "adc", "dac")) == pytest.approx(tile_j)
    assert row.n_tiles == 2 * 2 * 2


def test_depthwise_products_have_a_rate_of_their_own() -> None:
    depthwise = LayerNode("d", "conv2d", 9, 1, 64, 100, 1, 6400, 6400, has_bias=False)
    grouped = LayerNode("g", "conv2d", 36, 16, 4, 100, 1, 6400, 6400, has_bias=False)
    for node, rate in ((depthwise, 0.5), (grouped, 2.0)):
        assert all_analog(LayerGraph((node,), ()), ROUND).digital_layers[0].cost.time_s["mac_kernel"] == pytest.approx(
            node.macs / rate * 1e-9
        )


def test_only_kernels_above_one_are_gathered() -> None:
    pointwise = LayerNode("p", "conv2d", 64, 32, 1, 100, 1, 6400, 3200, has_bias=False)
    strided = LayerNode("s", "conv2d", 64, 32, 1, 25, 1, 6400, 800, has_bias=False)
    for node in (pointwise, strided, linear("fc", 64, 32, n_mvms=10, n_inputs=640, n_outputs=320)):
        assert "im2col" not in all_analog(LayerGraph((node,), ()), ROUND).mapped.time_s
    gathered = all_analog(LayerGraph((CONV,), ()), ROUND).all_digital.time_s["im2col"]
    assert gathered == pytest.approx(CONV.rows * CONV.groups * CONV.n_mvms * 24e-9)


# --- laws ---

NODES = st.builds(
    lambda i, rows, cols, n: linear(f"l{i}", rows, cols, n_mvms=n, n_inputs=rows * n, n_outputs=cols * n),
    st.integers(0, 10**6), st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 50),
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(NODES, min_size=1, max_size=5, unique_by=lambda n: n.fqn), st.data())
def test_cost_is_additive_and_never_negative(nodes: list[LayerNode], data: st.DataObject) -> None:
    graph = LayerGraph(tuple(nodes), (DigitalOp("relu", 1, 10, 10), DigitalOp("batch_norm", 1, 10, 10)))
    analog = data.draw(st.sets(st.sampled_from(graph.fqns)))
    estimate = estimate_system(graph, LayerMapping.from_analog(graph, analog), HIGH)
    for total, layers in ((estimate.mapped, estimate.layers), (estimate.all_digital, estimate.digital_layers)):
        costs = [row.cost for row in (*layers, *estimate.other_ops)]
        assert total.latency_s == pytest.approx(sum(cost.latency_s for cost in costs))
        assert total.energy_j == pytest.approx(sum(cost.energy_j for cost in costs))
        assert all(value >= 0 for cost in costs for value in (*cost.time_s.values(), *cost.energy.values()))
    assert estimate.speedup > 0
    assert [row.fqn for row in estimate.layers if row.placement is Placement.ANALOG] == [
        fqn for fqn in graph.fqns if fqn in analog
    ]


@pytest.mark.parametrize("platform", [HIGH, LOW], ids=["alpine-high-power", "alpine-low-power"])
def test_all_digital_gains_nothing(platform: PlatformSpec, ratios: ModuleType) -> None:
    graph = ratios.vgg16()
    estimate = estimate_system(graph, LayerMapping.all_digital(graph), platform)
    assert (estimate.speedup, estimate.energy_gain, estimate.n_tiles) == (1.0, 1.0, 0)


def test_weights_on_tiles_free_the_cache() -> None:
    # 2 x 640 kB do not fit in 1 MiB, one does: with "a" on tiles "b" no longer comes from DRAM
    graph = LayerGraph((linear("a", 640, 1024), linear("b", 640, 1024)), ())
    estimate = estimate_system(graph, LayerMapping.from_analog(graph, ["a"]), ROUND)
    assert "dram" in estimate.digital_layers[1].cost.energy
    assert "dram" not in estimate.layers[1].cost.energy


def test_a_weight_that_two_layers_share_is_held_once() -> None:
    tied = LayerGraph((linear("a", 640, 1024, aliases=("b",), n_mvms=2),), ())
    assert "dram" not in all_analog(tied, ROUND).all_digital.energy  # 640 kB once, in 1 MiB
    assert all_analog(tied, ROUND).n_tiles == 3 * 4


def test_large_activations_go_to_dram() -> None:
    big = linear("fc", 64, 64, n_mvms=10_000, n_inputs=640_000, n_outputs=640_000)
    cost = all_analog(LayerGraph((big,), ()), ROUND).layers[0].cost
    assert cost.energy["dram"] == pytest.approx(2 * 10_000 * 120e-12)
    assert cost.time_s["activation_memory"] == pytest.approx(1_280_000 / 2e9)


def test_memory_controller_is_a_switch() -> None:
    mapping = LayerMapping.from_analog(ONE, ["fc"])
    without = estimate_system(ONE, mapping, ROUND)
    counted = estimate_system(ONE, mapping, ROUND, count_memory_controller=True)
    assert counted.mapped.energy_j - without.mapped.energy_j == pytest.approx(3.0 * without.mapped.latency_s)
    assert any("memory controller" in line for line in without.not_counted)
    assert any("memory controller" in line for line in counted.counted)
    assert not any("memory controller" in line for line in counted.not_counted)


def test_idle_cores_are_counted_on_request() -> None:
    cost = all_analog(ONE, ROUND.replace(idle_cores=7)).layers[0].cost
    assert cost.energy["core_idle"] == pytest.approx(7 * 11_368 * 10e-12)


# --- other operations ---


def test_other_operations_are_the_same_in_both_cases() -> None:
    ops = (DigitalOp("relu", 1, 100, 100), DigitalOp("avg_pool", 1, 10, 640), DigitalOp("empty", 1, 5, 0),
           DigitalOp("attention scores", 1, 50, 30, macs=1000))  # fmt: skip
    estimate = all_analog(LayerGraph(ONE.nodes, ops), ROUND)
    relu, pool, empty, products, io = estimate.other_ops
    assert relu.cost.time_s["element_ops"] == pytest.approx(100 * ROUND.cycles_per_written["relu"] * 1e-9)
    assert pool.cost.time_s["element_ops"] == pytest.approx(640 * ROUND.cycles_per_read["avg_pool"] * 1e-9)
    assert empty.cost.latency_s == 0
    assert "reserves memory" in empty.reason_free
    assert products.cost.time_s["products"] == pytest.approx((1000 / 2 + 50 * 4) * 1e-9)
    assert io.name == "network input and output"


def test_unpriced_operation_is_an_error() -> None:
    graph = LayerGraph(ONE.nodes, (DigitalOp("reluu", 1, 100, 100),))
    with pytest.raises(ConfigError, match=r"'reluu'.*no cost(?s:.*)free_ops\.reluu(?s:.*)did you mean 'relu'"):
        all_analog(graph, HIGH)


# --- platforms ---


@pytest.mark.parametrize("name", platform_names())
def test_every_constant_has_a_source(name: str) -> None:
    constants = platform_constants(name)
    assert {
        name for name, field in PlatformSpec.model_fields.items() if field.is_required() and field.json_schema_extra
    } == {key for key in constants if "." not in key} - {"n_tiles"}
    for key, constant in constants.items():
        assert constant.source, key
        assert constant.unit, key
        assert constant.kind in KINDS
    assert all(field.description for field in PlatformSpec.model_fields.values())
    assert PlatformSpec.from_json(load_platform(name).to_json()) == load_platform(name)


def test_unknown_platform_suggests() -> None:
    with pytest.raises(ConfigError, match="did you mean 'alpine-high-power'"):
        load_platform("alpine-hi-power")


def user_file(folder: Path, *, drop: str = "", change: tuple[str, str] = ("", ""), add: str = "") -> Path:
    blocks = (PLATFORMS / "alpine-low-power.toml").read_text(encoding="utf-8").split("\n[")
    text = "\n[".join(block for block in blocks if not (drop and block.startswith(drop)))
    path = folder / "mine.toml"
    path.write_text(text.replace(*change) + add if change[0] else text + add, encoding="utf-8")
    return path


def test_users_platform_file(tmp_path: Path) -> None:
    tail = 'unit = "1"\nsource = "mine"\nkind = "assumed"\n'
    add = f'\n[free_ops.reluu]\nvalue = "fused"\n{tail}\n[free_ops.relu]\nvalue = "fused"\n{tail}'
    mine = load_platform(user_file(tmp_path, change=("800000000.0", "1.0e9"), add=add))
    assert (mine.name, mine.clock_hz, mine.free_ops["reluu"]) == ("mine", 1e9, "fused")
    assert "relu" not in mine.cycles_per_written
    assert load_platform(str(tmp_path / "mine.toml")) == mine
    all_analog(LayerGraph(ONE.nodes, (DigitalOp("reluu", 1, 100, 100),)), mine)


def test_faulty_platform_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tile_mvm_s: missing"):
        load_platform(user_file(tmp_path, drop="tile_mvm_s"))
    with pytest.raises(ConfigError, match=r"clock_hz.unit: got 'MHz', expected 'Hz'"):
        load_platform(user_file(tmp_path, change=('unit = "Hz"', 'unit = "MHz"')))
    with pytest.raises(ConfigError, match="clock_hz: got -1"):
        load_platform(user_file(tmp_path, change=("800000000.0", "-1.0")))
    seconds = '\n[cycles_per_read.mine]\nvalue = 1e-9\nunit = "s"\nsource = "mine"\nkind = "assumed"\n'
    with pytest.raises(ConfigError, match=r"cycles_per_read\.mine\.unit: got 's'"):
        load_platform(user_file(tmp_path, add=seconds))
    extra = '\n[clock_hs]\nvalue = 1\nunit = "Hz"\nsource = "mine"\nkind = "assumed"\n'
    with pytest.raises(ConfigError, match="did you mean 'clock_hz'"):
        load_platform(user_file(tmp_path, add=extra))
    with pytest.raises(ConfigError, match="value, unit, source and kind"):
        load_platform(user_file(tmp_path, change=('kind = "assumed"', "")))
    with pytest.raises(ArtifactError, match=r"absent\.toml: no such file"):
        load_platform(tmp_path / "absent.toml")


def test_platform_rejects_conflicting_prices() -> None:
    with pytest.raises(ConfigError, match="listed in both"):
        HIGH.replace(free_ops={**HIGH.free_ops, "relu": "why not"})
    with pytest.raises(ConfigError, match="expected 0 or more"):
        HIGH.replace(cycles_per_read={**HIGH.cycles_per_read, "sum": -1.0})


# --- mapping and partitions ---


def test_mapping_must_fit_the_network() -> None:
    with pytest.raises(ConfigError, match="no placement for 'fc'"):
        estimate_system(ONE, LayerMapping({}), HIGH)
    with pytest.raises(ConfigError, match="did you mean 'fc'"):
        estimate_system(ONE, LayerMapping({"fc": Placement.ANALOG, "fcc": Placement.ANALOG}), HIGH)


def test_given_partitions_are_used_and_checked() -> None:
    mapping = LayerMapping.from_analog(ONE, ["fc"])
    given_tiles = {"fc": partition_matrix(512, 256, 1, 128, 128)}
    assert estimate_system(ONE, mapping, HIGH, given_tiles).n_tiles == 8
    with pytest.raises(ConfigError, match="has no tiles"):
        estimate_system(ONE, mapping, HIGH, {})
    with pytest.raises(TilingError, match="expected \\(512, 256, 1\\)"):
        estimate_system(ONE, mapping, HIGH, {"fc": partition_matrix(512, 255, 1, 128, 128)})


def test_json_has_the_agreed_shape() -> None:
    graph = LayerGraph(ONE.nodes, (DigitalOp("relu", 1, 256, 256),))
    data = json.loads(json.dumps(all_analog(graph, HIGH).summary().to_json()))
    assert list(data) == ["platform", "clock_hz", "counted", "not_counted", "assumptions", "all_digital", "mapped",
                          "speedup", "energy_gain", "n_tiles", "tiles_missing", "programming", "layers",
                          "other_ops"]  # fmt: skip
    cost = ["latency_s", "energy_j", "time_breakdown_s", "energy_breakdown_j"]
    assert set(data["all_digital"]) == set(data["mapped"]) == set(cost)
    assert set(data["layers"][0]) == {"fqn", "placement", *cost, "n_tiles", "digital_latency_s", "digital_energy_j"}
    assert data["layers"][0]["placement"] == "analog"
    assert list(data["other_ops"][0]) == ["name", "latency_s", "energy_j", "reason_free"]


# --- several cores ---


def test_a_pipeline_by_hand() -> None:
    # stages of 3 and 1 us on ROUND, a handover of 1 000 cycles = 1 us each: 4 + 2 + (3 - 1) * 4 = 14 us for three
    slow = Cost({"mac_kernel": 3e-6}, {"core_active": 2e-6, "llc_leakage": 9.0})
    fast = Cost({"mac_kernel": 1e-6}, {"core_active": 1e-6})
    run = estimate_pipeline([Stage("a", slow), Stage("b", fast)], ROUND, 3)
    assert (run.latency_s, run.interval_s, run.total_s) == pytest.approx((6e-6, 4e-6, 14e-6))
    # 3 * 3 uJ active; the LLC leaks 1 W over the run; two cores idle for 2 * 14 - 3 * 4 us at 10 pJ a ns
    assert run.energy == pytest.approx({"core_active": 9e-6, "llc_leakage": 14e-6, "core_idle": 16e-6 * 1e9 * 10e-12})
    assert run.energy_j == pytest.approx(sum(run.energy.values()))


def test_one_core_has_no_handover() -> None:
    cost = all_analog(ONE, ROUND).mapped
    run = estimate_pipeline([Stage("all", cost)], ROUND, 5)
    assert run.total_s == pytest.approx(5 * cost.latency_s)
    assert run.energy_j == pytest.approx(5 * cost.energy_j)


def test_cores_share_the_dram() -> None:
    cost = Cost({"weight_memory": 1e-6}, {}, dram_bytes=16_000)
    run = estimate_pipeline([Stage("a", cost, n_cores=4)], ROUND.replace(handover_cycles=0), 10)
    assert run.total_s == pytest.approx(10 * 4 * 16_000 / 8e9)  # not 10 us: 8 GB/s for all cores


def test_pipelines_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="expected at most the 8 of"):
        estimate_pipeline([Stage("a", Cost(), n_cores=9)], HIGH)
    with pytest.raises(ConfigError, match="expected at least one of each"):
        estimate_pipeline([], HIGH)


# --- published gains; the table is in docs/results/alpine.md ---


def test_alpine_printed_gains_within_15_percent(ratios: ModuleType) -> None:
    rows = [row for row in ratios.compare() if row.role == "fitted"]
    assert len(rows) == 25
    for row in rows:
        assert row.ours == pytest.approx(row.printed, rel=0.15), row


def test_alpine_fit_is_the_shipped_one(ratios: ModuleType) -> None:
    for name, value in ratios.fit().items():
        shipped = ratios.shipped(HIGH)[name]
        assert shipped == pytest.approx(value, rel=0.02), name


def test_alpine_orderings(ratios: ModuleType) -> None:
    ours = {(row.case, row.quantity): row.ours for row in ratios.compare()}
    for label in ("HP", "LP"):  # printed: MLP above LSTM, CNN-S above all, more cores gain less
        time = {case: ours[f"{case}, {label}", "time"] for case in ratios.PRINTED}
        assert time["CNN-S, 8 cores"] > time["MLP C1, 1 core"] > time["LSTM 750 C1, 1 core"] > 1
        assert time["CNN-S, 8 cores"] > time["CNN-F, 8 cores"]
        assert time["MLP C1, 1 core"] > time["MLP C3, 2 cores"]
        assert time["LSTM 750 C1, 1 core"] > time["LSTM 750 C4, 5 cores"]
    for case in ("MLP C1, 1 core", "LSTM 750 C1, 1 core", "CNN-S, 8 cores"):  # printed: HP gains more than LP
        assert ours[f"{case}, HP", "time"] > ours[f"{case}, LP", "time"]
    assert ours["CNN-F, 8 cores, HP", "time"] < ours["CNN-F, 8 cores, LP", "time"]  # printed: but not CNN-F
    assert ours["LSTM 750 C1, 1 core, HP", "time"] > ours["LSTM 256, 1 core, HP (printed: 1.0 to 1.5)", "time"]


def test_alpine_shares_and_loose_coupling(ratios: ModuleType) -> None:
    assert ratios.product_share(ratios.mlp_estimate(HIGH)) == pytest.approx(0.96, abs=0.02)  # printed: 96.0 %
    assert ratios.dequeue_share(HIGH) > 0.75  # printed: 77 to 82 %
    assert ratios.loose_coupling_gain(HIGH) == pytest.approx(4.1, rel=0.15)
    slow = HIGH.replace(tile_mvm_s=10 * HIGH.tile_mvm_s)  # printed: hardly matters
    assert ratios.mlp_estimate(slow).speedup > 0.95 * ratios.mlp_estimate(HIGH).speedup


def test_alpine_tables_of_the_docs_are_current(ratios: ModuleType) -> None:
    page = (ROOT / "docs" / "results" / "alpine.md").read_text(encoding="utf-8")
    assert ratios.table() in page
    assert ratios.coefficients() in page


# ------------------------------------------------------------------------------------------------------------ the zoo


@pytest.mark.parametrize("name", ZOO)
def test_every_network_of_the_zoo_has_a_price_that_adds_up(name: str) -> None:
    graph = trace_graph(ZOO[name].build(), ZOO[name].inputs)
    platform = load_platform("alpine-high-power")
    analog = [node.fqn for node in graph.nodes if not node.unsupported_reason]
    estimate = estimate_system(graph, LayerMapping.from_analog(graph, analog), platform)
    assert [row.fqn for row in estimate.layers] == list(graph.fqns)
    for rows, total in ((estimate.layers, estimate.mapped), (estimate.digital_layers, estimate.all_digital)):
        assert all(row.latency_s > 0 and row.energy_j > 0 for row in rows)
        parts = [*rows, *estimate.other_ops]
        assert sum(part.cost.latency_s for part in parts) == pytest.approx(total.latency_s)
        assert sum(part.cost.energy_j for part in parts) == pytest.approx(total.energy_j)
    for row, digital in zip(estimate.layers, estimate.digital_layers, strict=True):
        assert (row.fqn in analog) == (row.n_tiles > 0)
        assert row.fqn in analog or row.cost == digital.cost


def test_operations_without_a_price_are_named_or_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(self.layer(x))

    graph = trace_graph(Odd(), torch.ones(1, 4))
    with pytest.raises(ConfigError, match="special_bessel_j0"):
        estimate_system(graph, LayerMapping.all_digital(graph), load_platform("alpine-high-power"))
    assert audit_coverage(graph, "odd").unpriced_ops == ("special_bessel_j0",)
