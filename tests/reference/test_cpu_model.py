"""The CPU model: laws of the core, hand calculations, production kernels, cache lines, and the comparison with measurements."""

import math
from dataclasses import astuple, fields, replace
from pathlib import Path

import pytest
from benchmark_scripts import load_benchmark
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT

from lionheart.errors import ArtifactError, ConfigError

model = load_benchmark("cpu_model/cpu_model")

from laboratory import core as core_module  # noqa: E402  the benchmark put its folder on the path
from laboratory.constants import read_file  # noqa: E402
from laboratory.core import (  # noqa: E402
    CacheMisses,
    CoreSpec,
    InstructionMix,
    core_constants,
    core_names,
    load_core,
    resource_cycles,
    time_kernel,
    time_parallel,
)
from laboratory.kernels import (  # noqa: E402
    CLASSES,
    LIBRARIES,
    PRECISIONS,
    GemmShape,
    load_counted,
    load_library,
    load_loop,
)
from laboratory.traffic import activation_misses, gemm_misses, missing_share  # noqa: E402

NONE = CacheMisses()

# Round numbers, so that the hand calculations below can be read: 1 cycle = 1 ns.
ROUND = CoreSpec(
    name="round", clock_hz=1e9, in_order=True, issue_width=2, scalar_per_cycle=1, int_alus=2, int_multipliers=0.5,
    memory_ops_per_cycle=1, loads_per_cycle=1, stores_per_cycle=0.5, vector_load_bits=64, vector_store_bits=128,
    vector_loads_block_simd=True, split_load_stall_cycles=3, simd_int_bits_per_cycle=256, simd_multiply_bits_per_cycle=128,
    simd_float_bits_per_cycle=128, sustained_share=1, reorder_window=0, mispredict_cycles=10, line_bytes=64, l1_bytes=32768,
    l2_bytes=2**20, l2_latency_cycles=12, l2_bytes_per_cycle=16, l2_shared_bytes_per_cycle=16, outstanding_l1_misses=3,
    dram_latency_s=100e-9, outstanding_dram_lines=5, dram_bytes_per_s=2e9,
)  # fmt: skip
WINDOW = ROUND.replace(in_order=False, reorder_window=40, split_load_stall_cycles=0)
CORES = {name: load_core(name) for name in core_names()} | {"round": ROUND, "window": WINDOW}

amounts = st.floats(0, 1e6)
mixes = st.builds(InstructionMix, *(amounts for _ in fields(InstructionMix)))
misses = st.builds(CacheMisses, amounts, amounts, amounts)
cores = st.sampled_from(sorted(CORES)).map(CORES.__getitem__)
SLACK = 1 + 1e-9


# ------------------------------------------------------------------------------------------------------ bottlenecks


@pytest.mark.parametrize(
    ("mix", "bottleneck", "cycles"),
    [
        (InstructionMix(scalar_int=8, simd_int=12), "issue", 10),  # 20 / 2; SIMD 12 * 128 / 256
        (InstructionMix(branch=6, scalar_int=4), "scalar", 10),  # 1 a cycle
        (InstructionMix(int_mul=5, scalar_int=1), "integer multiplier", 10),  # one every other cycle
        (InstructionMix(simd_float=10, simd_int=4), "SIMD", 12),  # 10 + 4 / 2
        (InstructionMix(simd_multiply=10, simd_int=4), "SIMD multiplier", 10),  # (10 + 4) / 2 is less
        (InstructionMix(scalar_store=4, simd_float=1), "store", 8),  # one every other cycle
        (InstructionMix(vector_load=4, vector_load_bytes=32, simd_float=6), "SIMD", 10),  # a load takes the SIMD slot
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bottleneck_by_hand(mix: InstructionMix, bottleneck: str, cycles: float) -> None:
    time = time_kernel(mix, NONE, ROUND)
    assert (time.bottleneck, time.cycles, time.wait_cycles, time.idle_cycles) == (bottleneck, cycles, 0, 0)
    assert time.latency_s == pytest.approx(cycles * 1e-9)


def test_memory_port_by_hand() -> None:
    mix = InstructionMix(scalar_load=4, scalar_store=1, vector_store=2, vector_store_bytes=64)
    # 4 loads, 1 store, 64 B in 4 accesses of 16 B: 9 accesses through one port; 5 stores on a port of one a cycle
    assert resource_cycles(mix, ROUND.replace(stores_per_cycle=1))["memory port"] == 9
    assert resource_cycles(mix, ROUND)["store"] == 10


def test_integer_alus_by_hand() -> None:
    assert resource_cycles(InstructionMix(scalar_int=6), ROUND.replace(int_alus=0.5))["integer ALU"] == 12


def test_split_loads_and_mispredictions_stall() -> None:
    mix = InstructionMix(vector_load=5, vector_load_bytes=80, branch=1, mispredicted=0.5)
    # 80 B in 10 accesses of 8 B: 10 cycles; 5 of them are second halves, 3 cycles each; half a misprediction of 10
    assert time_kernel(mix, NONE, ROUND).active_cycles == 10 + 5 * 3 + 5


def test_sustained_share_stretches_the_bottleneck_only() -> None:
    mix = InstructionMix(simd_float=8, branch=1, mispredicted=1)
    assert time_kernel(mix, NONE, ROUND.replace(sustained_share=0.8)).active_cycles == pytest.approx(8 / 0.8 + 10)


# ------------------------------------------------------------------------------------------------------------ waits


def test_l2_wait_by_hand() -> None:
    # 6 lines of 12 cycles, 3 at once: 24 cycles. A window of 40 instructions at 2 a cycle covers 20 > 12 cycles of each
    assert time_kernel(InstructionMix(simd_float=100), CacheMisses(6), ROUND).wait_cycles == 24
    assert time_kernel(InstructionMix(simd_float=100), CacheMisses(6), WINDOW).wait_cycles == 0
    # ... but not the transfer: 60 lines of 64 B at 16 B a cycle take 240 cycles, 100 of them behind the work
    assert time_kernel(InstructionMix(simd_float=100), CacheMisses(60), WINDOW).cycles == 240
    assert time_kernel(InstructionMix(simd_float=100), CacheMisses(60), WINDOW, n_active_cores=2).cycles == 480


def test_dram_wait_by_hand() -> None:
    lines = CacheMisses(0, 10, 10)
    # latency: 10 lines * 100 cycles / 5 at once = 200; transfer: 640 B at 2 B a cycle = 320
    assert time_kernel(NO_WORK, lines, ROUND).wait_cycles == 320
    assert time_kernel(NO_WORK, lines, ROUND.replace(dram_bytes_per_s=1e10)).wait_cycles == 200
    assert time_kernel(NO_WORK, lines, ROUND, n_active_cores=4).wait_cycles == 4 * 320
    # a window of 20 cycles hides a fifth of it, if there is work to do meanwhile
    assert time_kernel(InstructionMix(simd_float=100), lines, WINDOW).wait_cycles == 320 - 64
    assert time_kernel(InstructionMix(simd_float=10), lines, WINDOW).wait_cycles == 320 - 10


NO_WORK = InstructionMix()


def test_parallel_by_hand() -> None:
    mix = InstructionMix(simd_float=1000)
    time = time_parallel(mix, NONE, ROUND, n_cores=4, n_chunks=10, fork_join_s=50e-9)
    # the busiest core has 3 of 10 chunks: 300 cycles, and 50 to meet again; the mean core works for 250
    assert (time.cycles, time.active_cycles, time.idle_cycles) == pytest.approx((350, 250, 100))
    few = time_parallel(mix, NONE, ROUND, n_cores=4, n_chunks=1)
    assert (few.cycles, few.active_cycles, few.idle_cycles) == pytest.approx((1000, 250, 750))


@pytest.mark.parametrize(("n_cores", "n_chunks"), [(0, 1), (1, 0)])
def test_no_core_or_no_work_is_an_error(n_cores: int, n_chunks: int) -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        time_parallel(NO_WORK, NONE, ROUND, n_cores=n_cores, n_chunks=n_chunks)
    with pytest.raises(ConfigError, match="n_active_cores: got 0"):
        time_kernel(NO_WORK, NONE, ROUND, n_active_cores=0)


# ------------------------------------------------------------------------------------------------------------- laws


@given(mixes, misses, cores, st.sampled_from(CLASSES), amounts)
def test_more_instructions_are_never_faster(
    mix: InstructionMix, lines: CacheMisses, core: CoreSpec, name: str, more: float
) -> None:
    longer = replace(mix, **{name: getattr(mix, name) + more})
    if name == "vector_load":  # wider loads of the same bytes are fewer split ones; more loads bring their bytes
        longer = replace(longer, vector_load_bytes=mix.vector_load_bytes + 8 * more)
    assert time_kernel(longer, lines, core).cycles * SLACK >= time_kernel(mix, lines, core).cycles


@given(mixes, misses, cores, st.sampled_from([field.name for field in fields(CacheMisses)]), amounts)
def test_more_misses_are_never_faster(
    mix: InstructionMix, lines: CacheMisses, core: CoreSpec, name: str, more: float
) -> None:
    longer = replace(lines, **{name: getattr(lines, name) + more})
    assert time_kernel(mix, longer, core).cycles * SLACK >= time_kernel(mix, lines, core).cycles


@given(mixes, misses, cores, st.floats(1, 8))
def test_a_faster_clock_is_never_slower(mix: InstructionMix, lines: CacheMisses, core: CoreSpec, factor: float) -> None:
    fast = core.replace(clock_hz=core.clock_hz * factor)
    assert time_kernel(mix, lines, fast).latency_s <= time_kernel(mix, lines, core).latency_s * SLACK


@given(mixes, misses, cores, st.integers(1, 7))
def test_sharing_the_memory_is_never_faster(mix: InstructionMix, lines: CacheMisses, core: CoreSpec, n: int) -> None:
    alone = time_kernel(mix, lines, core, n_active_cores=n)
    assert time_kernel(mix, lines, core, n_active_cores=n + 1).cycles * SLACK >= alone.cycles


@given(mixes, misses)
def test_a_window_is_never_slower(mix: InstructionMix, lines: CacheMisses) -> None:
    assert time_kernel(mix, lines, WINDOW).cycles <= time_kernel(mix, lines, ROUND).cycles * SLACK


@given(mixes, misses, cores, st.floats(0.1, 10))
def test_work_scales(mix: InstructionMix, lines: CacheMisses, core: CoreSpec, factor: float) -> None:
    whole = time_kernel(mix, lines, core)
    assert time_kernel(mix * factor, lines * factor, core).cycles == pytest.approx(factor * whole.cycles, abs=1e-6)


@given(mixes, mixes, misses, misses, cores)
def test_two_kernels_as_one_are_never_slower(
    a: InstructionMix, b: InstructionMix, x: CacheMisses, y: CacheMisses, core: CoreSpec
) -> None:
    # one may overlap with the other; they never disturb each other
    a, b = (replace(mix, vector_load_bytes=16 * mix.vector_load) for mix in (a, b))
    apart = time_kernel(a, x, core).cycles + time_kernel(b, y, core).cycles
    assert time_kernel(a + b, x + y, core).cycles <= apart * SLACK + 1e-6


@given(mixes, mixes, st.floats(0, 10))
def test_mixes_add_and_scale(a: InstructionMix, b: InstructionMix, factor: float) -> None:
    assert astuple(a + b) == tuple(x + y for x, y in zip(astuple(a), astuple(b), strict=True))
    assert (a * factor).instructions == pytest.approx(a.instructions * factor)
    assert a.instructions == pytest.approx(a.scalar + a.simd + a.vector_load + a.vector_store)


@given(mixes, misses, cores, st.integers(1, 8), st.integers(1, 100))
def test_parallel_cycles_add_up(mix: InstructionMix, lines: CacheMisses, core: CoreSpec, n: int, chunks: int) -> None:
    time = time_parallel(mix, lines, core, n_cores=n, n_chunks=chunks)
    assert time.idle_cycles >= -1e-9 * time.cycles
    assert time.cycles == pytest.approx(time.active_cycles + time.wait_cycles + time.idle_cycles)
    if n == 1:
        assert time.cycles == pytest.approx(time_kernel(mix, lines, core).cycles)
        assert time.idle_cycles == pytest.approx(0, abs=1e-6 * (1 + time.cycles))


# ------------------------------------------------------------------------------------------------------------ cores


@pytest.mark.parametrize("name", core_names())
def test_shipped_cores_have_units_and_sources(name: str) -> None:
    constants = core_constants(name)
    for field, info in CoreSpec.model_fields.items():
        if field != "name":
            assert constants[field].unit == info.json_schema_extra["unit"], field
    assert set(constants) == set(CoreSpec.model_fields) - {"name"}
    assert load_core(name).name == name


def test_alpine_cores_agree_with_the_platforms() -> None:
    from lionheart.system import load_platform

    for core, platform in (("minor_high_power", "alpine-high-power"), ("minor_low_power", "alpine-low-power")):
        ours, theirs = load_core(core), load_platform(platform)
        assert (ours.clock_hz, ours.l2_bytes, ours.line_bytes) == (
            theirs.clock_hz,
            theirs.llc_bytes,
            theirs.cache_line_bytes,
        )


def test_unknown_core_suggests() -> None:
    with pytest.raises(ConfigError, match="did you mean 'cortex_a53'"):
        load_core("cortex-a53")


def test_wrong_unit_of_a_core_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    right = read_file("cores.toml")
    wrong = {**right, "cortex_a53.clock_hz": replace(right["cortex_a53.clock_hz"], unit="GHz")}
    monkeypatch.setattr(core_module, "read_file", lambda name: wrong)
    with pytest.raises(ConfigError, match=r"cortex_a53.clock_hz.unit: got 'GHz', expected 'Hz'"):
        load_core("cortex_a53")


# ---------------------------------------------------------------------------------------------------------- kernels


def test_gemm_mix_by_hand() -> None:
    kernel = load_library("xnnpack_a64").product(GemmShape(4, 512, 8), "f32")
    mix = kernel.mix(GemmShape(4, 512, 8))
    # 64 steps of 64 FMLA; 8 FMAX and 8 FMIN: one SIMD instruction for 4 products, and the clamp
    assert mix.simd_float == 64 * 64 + 16 == 4 * 512 * 8 / 4 + 16
    assert mix.vector_load_bytes == 64 * 384 + 40 + 80  # weights and inputs of each step, bias, saved registers
    assert mix.mispredicted == 1


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_need_their_multiplications(name: str, precision: str) -> None:
    library = load_library(name)
    for shape in (GemmShape(64, 256, 64), GemmShape(64, 32, 64, taps=9), GemmShape(1, 256, 64)):
        mix = library.product(shape, precision).mix(shape)
        lanes = 4 if precision == "f32" or name == "xnnpack_a32" else 8  # products of one SIMD instruction
        multiplications = mix.simd_float if precision == "f32" else mix.simd_multiply
        assert shape.macs / lanes <= multiplications <= 1.1 * shape.macs / lanes


def test_tails_cost_whole_blocks() -> None:
    library = load_library("xnnpack_a64")
    kernel = library.product(GemmShape(5, 16, 9), "f32")
    assert kernel.mix(GemmShape(5, 16, 9)) == kernel.mix(GemmShape(8, 16, 16))
    small = library.product(GemmShape(64, 3, 16, taps=9), "s8")
    assert small.mix(GemmShape(64, 3, 16, taps=9)) == small.mix(GemmShape(64, 8, 16, taps=9))  # depth in eights
    assert library.depthwise["s8"].mix(10, 9) == library.depthwise["s8"].mix(10, 16)


def test_elements_and_requantise_are_counted() -> None:
    library = load_library("xnnpack_a64")
    assert library.elements["add_f32"].mix(80).simd_float == 60  # 2 FADD, 2 FMAX and 2 FMIN for 8 elements
    assert library.elements["requantise_s8"].mix(16).simd == 22  # 6 of float and 5 of integer for 8 sums
    assert library.operator.instructions == pytest.approx(936)


def test_unknown_library_and_loop_suggest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'xnnpack_a64'"):
        load_library("xnnpack-a64")
    with pytest.raises(ConfigError, match="did you mean 'gemmlowp_u8'"):
        load_loop("gemmlowp_u9")


def counted_file(folder: Path, *lines: str) -> Path:
    path = folder / "kernels.toml"
    tail = 'unit = "instruction per MAC", source = "counted", kind = "measured" }'
    path.write_text("".join(f"{line.replace('|', tail)}\n" for line in lines), encoding="utf-8")
    return path


def test_counted_file(tmp_path: Path) -> None:
    path = counted_file(
        tmp_path, "[gemm_s8]", "simd_per_mac = { value = 0.1875, |", "vector_load_per_mac = { value = 0.03, |",
        "scalar_int_per_call = { value = 100, |", "other_per_call = { value = 2, |",
        "[relu_f32]", "simd_per_element = { value = 0.5, |", "[queue]", "tile_queue_per_element = { value = 0.25, |",
    )  # fmt: skip
    found = load_counted(path, multiply_share={"gemm_s8": 2 / 3})
    mac = InstructionMix(simd_int=0.0625, simd_multiply=0.125, vector_load=0.03, vector_load_bytes=0.48)
    assert astuple(found["gemm_s8"]["mac"]) == pytest.approx(astuple(mac))
    assert found["gemm_s8"]["call"] == InstructionMix(scalar_int=102)
    assert "queue" not in found  # instructions to a tile are not the core's arithmetic
    assert found["relu_f32"]["element"] == InstructionMix(simd_float=0.5)


@pytest.mark.parametrize("key", ["simd", "cycles_per_mac", "simd_per_"])
def test_counted_file_with_another_key_is_an_error(tmp_path: Path, key: str) -> None:
    with pytest.raises(ArtifactError, match="expected kernel.class_per_unit"):
        load_counted(counted_file(tmp_path, "[gemm_s8]", f"{key} = {{ value = 1, |"))


def test_counted_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_counted(tmp_path / "none.toml")


# ------------------------------------------------------------------------------------------------------ cache lines


def test_missing_share_solves_its_equation() -> None:
    assert missing_share(100, 100) == missing_share(0, 100) == 0
    assert missing_share(150, 100) == pytest.approx(0.583, abs=1e-3)
    assert missing_share(200, 100) == pytest.approx(0.797, abs=1e-3)
    share = missing_share(300, 100)
    assert share == pytest.approx(1 - math.exp(-3 * share))


@given(st.floats(0, 1e3), st.floats(0, 1e3))
def test_missing_share_grows_with_the_footprint(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= missing_share(low, 100) <= missing_share(high, 100) + 1e-9 < 1 + 1e-9


def test_activation_misses_by_hand() -> None:
    # 128 and 64 lines; all fit in 1 MB
    assert activation_misses(8192, 4096, 0, ROUND) == CacheMisses(192, 0, 0)
    share = missing_share(2**21, 2**20)
    far = activation_misses(2**20, 2**20, 0, ROUND)
    assert astuple(far) == pytest.approx((32768, 16384 * share, 32768 * share))


def test_gemm_misses_by_hand() -> None:
    kernel = load_library("xnnpack_a64").product(GemmShape(16, 64, 64), "f32")
    # weights of 16 kB and a block of inputs of 1 kB stay in L1: each line once, 256 + 64 + 64 of inputs and outputs
    near = gemm_misses(GemmShape(16, 64, 64), kernel, 4, ROUND, input_bytes=4096, network_bytes=0)
    assert near == CacheMisses(384, 0, 0)
    # weights of 256 kB: 4096 lines come from L2 again for each of 4 blocks of positions, less what L1 kept
    again = missing_share(2**18 + 4096, 2**15)
    far = gemm_misses(GemmShape(16, 256, 256), kernel, 4, ROUND, input_bytes=16384, network_bytes=0)
    assert far.l1_lines == pytest.approx(4096 * (1 + 3 * again) + 256 + 256)
    # four cores read them at the same time: one pass on the bus, four to wait for; all of it comes from DRAM
    cold = gemm_misses(GemmShape(16, 256, 256), kernel, 4, ROUND, input_bytes=16384, network_bytes=1e12, n_cores=4)
    assert (cold.dram_traffic_lines, cold.dram_lines) == pytest.approx((4096, 16384))


# ----------------------------------------------------------------------------------------------------- measurements


def test_networks_have_their_published_macs() -> None:
    for name, (build, published) in model.NETWORKS.items():
        assert build().macs / 1e6 == pytest.approx(published, rel=5e-3), name


def test_rows_within_the_target_stay_within() -> None:
    outside = {row.case for row in model.compare() if abs(row.error) > model.TARGET}
    assert outside == {"LiteRT DS-CNN fp32"}


def test_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "results" / "cpu_model.md").read_text(encoding="utf-8")
    assert page == model.render_page(), "run: python benchmarks/cpu_model/cpu_model.py --page"


def test_fitted_numbers_follow_from_the_fit() -> None:
    found = dict(line.split(",")[0].split(" = ") for line in model.fit().splitlines())
    assert float(found["cortex_a53.split_load_stall_cycles"]) == pytest.approx(2.4, abs=0.02)
    assert float(found["cortex_a57.sustained_share"]) == pytest.approx(0.81, abs=0.005)
    assert float(found["cortex_a72.l2_shared_bytes_per_cycle"]) == pytest.approx(7.35, abs=0.05)
    assert float(found["operator.instructions"]) == pytest.approx(936, abs=1)
    constants = read_file("cores.toml") | read_file("kernels_production.toml")
    fitted = {key for key, constant in constants.items() if constant.kind == "fitted"}
    assert fitted - {"cortex_a72.sustained_share"} == set(found)
