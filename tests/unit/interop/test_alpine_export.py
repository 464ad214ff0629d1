"""Emitted programs compute what the quantised reference computes, bit for bit, on every machine that can run them."""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import TINY, assert_refused, lionheart_command
from hypothesis import example, given
from hypothesis import strategies as st
from paths import SUPPORT
from torch import Tensor, nn

import lionheart.interop.alpine
from lionheart.errors import ArtifactError, ConfigError, GraphError, NumericsError, UnsupportedLayerError
from lionheart.files import read_json
from lionheart.interop.alpine import count_regions, emit_program, quantise_program, run_program, trace_program
from lionheart.interop.alpine.export import export_model
from lionheart.interop.alpine.fixed_point import scale_and_round, to_fixed_point
from lionheart.interop.alpine.qemu import missing_packages
from lionheart.interop.alpine.quantised import QuantisedProduct, QuantisedProgram
from lionheart.mapping import LayerMapping, Placement
from lionheart.tasks.images.networks.resnet import ResidualBlock
from lionheart.tasks.registry import build_untrained, checkpoint_path
from lionheart.training import load_weights

pytestmark = pytest.mark.usefixtures("small_noise_pool")

NATIVE = Path(lionheart.interop.alpine.__file__).parent / "native"
MISSING = missing_packages()
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
needs_aarch64 = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {' '.join(MISSING)}")


def run(*command: str | Path, is_checked: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program of this machine, found on the path."""
    program = shutil.which(str(command[0])) or str(command[0])
    return subprocess.run([program, *command[1:]], capture_output=True, text=True, check=is_checked)


# ------------------------------------------------------------------------------------------------------------ networks


class Residual(nn.Module):
    """A residual block with a strided shortcut, one with zero padding, and the mean over pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ResidualBlock(3, 6, 2)
        self.second = ResidualBlock(6, 10, 2, zero_pad=True)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean(dim=(2, 3)))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions with ReLU6, a grouped and a dilated one."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.pointwise = nn.Conv2d(3, 20, 1)
        self.deep = nn.Conv2d(20, 20, 3, stride=2, padding=1, groups=20)
        self.grouped = nn.Conv2d(20, 8, 3, padding="same", dilation=2, groups=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.depthwise(x)))
        x = F.hardtanh(self.deep(F.relu6(self.pointwise(x))), -0.5, 0.75)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.grouped(x), 1), 1))


class Pools(nn.Module):
    """Pools of every kind, a batch norm of its own, a flatten over pixels, dropout, a sum of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(3), nn.MaxPool2d(3, 2, padding=1), nn.AvgPool2d(3, 1, padding=1),
            nn.Conv2d(3, 5, (3, 2), bias=False), nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), nn.Dropout(), nn.ReLU(),
        )  # fmt: skip
        self.left, self.right = nn.Linear(10, 7), nn.Linear(10, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        return torch.relu(self.left(hidden) + self.right(hidden))


def build_perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(21, 33), nn.ReLU(), nn.Linear(33, 3))


def settle(model: nn.Module) -> nn.Module:
    """Give batch norms statistics and gains that are not those of a fresh one."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    return model.eval()


def build_resnet8() -> nn.Module:
    model = build_untrained("cifar10/resnet8", seed=0)
    load_weights(checkpoint_path("cifar10/resnet8"), model)
    return model


#: Name -> how it is built, the shape of an input, and what of it goes on tiles of which size.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...], int, int]] = {
    "residual": (Residual, (3, 9, 9), ("first.conv1", "first.shortcut.0", "second.conv2", "head"), 13, 5),
    "separable": (Separable, (3, 8, 7), ("depthwise", "pointwise", "grouped"), 16, 16),
    "pools": (Pools, (3, 11, 8), ("body.3", "left"), 256, 3),
    "perceptron": (build_perceptron, (21,), ("0", "2"), 8, 256),
    "resnet8": (
        build_resnet8,
        (3, 32, 32),
        ("conv", "stack1.conv2", "stack2.shortcut.0", "stack3.conv2", "fc"),
        256,
        256,
    ),
}
CASES = [(name, is_mapped) for name in NETWORKS for is_mapped in (False, True)]
IDS = [f"{name}-{'mapped' if is_mapped else 'digital'}" for name, is_mapped in CASES]


@functools.cache
def network(name: str) -> tuple[nn.Module, Tensor]:
    build, shape, _, _, _ = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = build().eval() if name == "resnet8" else settle(build())
        return model, torch.randn(10, *shape)


@functools.cache
def quantised(name: str, is_mapped: bool) -> QuantisedProgram:
    model, samples = network(name)
    _, _, analog, rows, cols = NETWORKS[name]
    mapping = LayerMapping(dict.fromkeys(analog, Placement.ANALOG)) if is_mapped else None
    return quantise_program(trace_program(model, samples), mapping, tile_rows=rows, tile_cols=cols)


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    base = tmp_path_factory.mktemp("emitted")

    @functools.cache
    def emit(name: str, is_mapped: bool) -> Path:
        program = quantised(name, is_mapped)
        folder = base / f"{name}-{is_mapped}"
        emit_program(program, folder, program.program.samples[: 2 if name == "resnet8" else 4])
        return folder

    return emit


# ------------------------------------------------------------------------------------------------------ bit for bit


@needs_compiler
@pytest.mark.parametrize(("name", "is_mapped"), CASES, ids=IDS)
def test_program_on_this_machine_gives_the_reference(emitted, name: str, is_mapped: bool):
    done = run_program(emitted(name, is_mapped), "host")
    assert done.outputs.shape[0] > 0
    np.testing.assert_array_equal(done.outputs, done.expected)
    assert (done.tile_instructions["process"] > 0) == is_mapped


@needs_aarch64
@pytest.mark.parametrize(("name", "is_mapped"), CASES, ids=IDS)
def test_program_for_aarch64_gives_the_same(emitted, name: str, is_mapped: bool):
    done = run_program(emitted(name, is_mapped), "aarch64")
    np.testing.assert_array_equal(done.outputs, done.expected)


@pytest.mark.parametrize(("name", "is_mapped"), CASES, ids=IDS)
def test_reference_is_close_to_floating_point(name: str, is_mapped: bool):
    """Eight bits cost a few per cent of the largest output; a lost bias, batch norm or activation costs far more."""
    model, samples = network(name)
    with torch.no_grad():
        exact = model(samples).numpy()
    program = quantised(name, is_mapped)
    found = program.run(program.program.samples).reshape(len(samples), -1) * program.output_scale
    assert np.abs(found - exact).max() < (0.12 if is_mapped else 0.08) * np.abs(exact).max()


@pytest.mark.parametrize("is_mapped", [False, True], ids=["digital", "mapped"])
def test_emission_is_deterministic(tmp_path: Path, is_mapped: bool):
    model, samples = network("residual")
    mapping = LayerMapping(dict.fromkeys(NETWORKS["residual"][2], Placement.ANALOG)) if is_mapped else None
    for name in ("first", "second"):
        export_model(model, samples, tmp_path / name, mapping=mapping, tile_rows=13, tile_cols=5)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == [
        "Makefile", "README.md", "aimc.hh", "expected.bin", "inputs.bin", "lionheart_kernels.h", "main.cc", "manifest.json",
        "weights.bin",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_tracing_leaves_the_network_as_it_was():
    model = Residual()
    model.first.eval()
    modes = [module.training for module in model.modules()]
    trace_program(model, torch.randn(2, 3, 9, 9))
    assert [module.training for module in model.modules()] == modes


# ---------------------------------------------------------------------------------------------------------- ideal tile


def multiply_by_hand(step: QuantisedProduct, x: np.ndarray, tile_rows: int, tile_cols: int) -> np.ndarray:
    """Return one image's outputs with nothing but loops: tile by tile, each sum converted, partial sums, requantisation."""
    operation, window = step.operation, step.operation.window
    count, (out_h, out_w) = window.source.channels // operation.groups, window.out
    out = np.zeros((out_h, out_w, operation.groups * operation.cols), int)
    for row, col, group in np.ndindex(out_h, out_w, operation.groups):
        patch = []
        for ky, kx, channel in np.ndindex(*window.kernel, count):
            y = row * window.stride[0] - window.padding[0] + ky * window.dilation[0]
            at = col * window.stride[1] - window.padding[1] + kx * window.dilation[1]
            inside = 0 <= y < window.source.height and 0 <= at < window.source.width
            patch.append(int(x[y, at, group * count + channel]) if inside else 0)
        n_pieces = -(-len(patch) // tile_rows)
        starts = np.cumsum([0] + [len(patch) // n_pieces + (i < len(patch) % n_pieces) for i in range(n_pieces)])
        for output in range(operation.cols):
            total = 0
            for first, last in itertools.pairwise(starts):
                exact = sum(patch[i] * int(step.weights[group, output, i]) for i in range(first, last))
                total += 256 * max(-128, min(127, round(exact * step.tiles.adc_scale)))
            at = group * operation.cols + output
            scaled = round_half_away((total + int(step.bias[at])) * int(step.multiplier[at]), int(step.shift[at]))
            out[row, col, at] = max(step.bounds[0], min(step.bounds[1], scaled))
    return out


def round_half_away(product: int, shift: int) -> int:
    magnitude = (2 * abs(product) + (1 << shift)) >> (shift + 1)
    return magnitude if product >= 0 else -magnitude


@pytest.mark.parametrize(
    ("name", "layer"), [("residual", "first.conv1"), ("separable", "grouped"), ("perceptron", "0")]
)
def test_projection_on_tiles_is_that_of_loops(name: str, layer: str):
    program = quantised(name, True)
    [step] = [s for s in program.steps if getattr(s.operation, "fqn", "") == layer]
    source = step.operation.window.source
    x = np.random.default_rng(2).integers(-128, 128, (1, source.height, source.width, source.channels)).astype(np.int8)
    by_hand = multiply_by_hand(step, x[0], program.tile_rows, program.tile_cols)
    np.testing.assert_array_equal(step.run(x)[0], by_hand)


TILE_PROGRAM = """
#define LH_AIMC_TILES 2
#define LH_AIMC_ROWS 11
#define LH_AIMC_COLS 7
#include "aimc.hh"
int main() {
    int8_t weights[9 * 6], inputs[11], outputs[6];
    for (int i = 0; i < 9 * 6; ++i) weights[i] = (int8_t)(i * 37 % 255 - 127);
    mapMatrix(1, 2, 9, 6, weights, 1);
    aimcSetAdcScale(0.0078125, 1);
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 11; ++i) inputs[i] = (int8_t)(i * 91 + 50 * round);
        queueVector(11, inputs, 1);
        aimcProcess(1);
        aimcDequeue(1);
        aimcProcess(1);  // nothing was queued: zeros, and both counters are back at the start
        if (aimcDequeue(1) != 0) return 1;
        queueVector(11, inputs, 1);
        aimcProcess(1);
        dequeueVector(6, outputs, 1);
        for (int8_t each : outputs) std::printf("%d ", each);
    }
    std::printf("%d %d\\n", (int)aimcParamRead(1, 2, 1), (int)aimcParamRead(0, 0, 0));
    FAULT
}
"""


def tile_by_hand() -> str:
    words = []
    for round_ in range(3):
        inputs = [(i * 91 + 50 * round_ + 128) % 256 - 128 for i in range(11)]
        for col in range(6):  # column 0 of the tile holds nothing, so outputs come one later
            exact = sum(inputs[row + 2] * ((row * 6 + col - 1) * 37 % 255 - 127) for row in range(9)) if col else 0
            words.append(max(-128, min(127, round(exact / 128))))
    return " ".join(map(str, [*words, -127, 0])) + "\n"


def compile_tile(folder: Path, fault: str, *flags: str, compiler: str = "g++") -> Path:
    (folder / "tile.cc").write_text(TILE_PROGRAM.replace("FAULT", fault))
    program = folder / "tile"
    run(compiler, "-std=c++17", "-Wall", "-Werror", *flags, f"-I{NATIVE}", folder / "tile.cc", "-o", program)
    return program


@needs_compiler
def test_emulated_tile_is_that_of_loops(tmp_path: Path):
    program = compile_tile(tmp_path, "", "-DUSE_CHECKER")
    assert run(program).stdout == tile_by_hand()


@needs_aarch64
def test_trapped_instructions_of_the_simulator_do_the_same(tmp_path: Path):
    program = compile_tile(tmp_path, "", "-DLH_AIMC_TRAP", "-static", "-O2", compiler="aarch64-linux-gnu-g++")
    words = np.frombuffer(program.read_bytes()[: program.stat().st_size // 4 * 4], "<u4")
    for word in (0x01000000, 0x21008100, 0x2100000A, 0x41009D2A, 0x41081D2A):
        assert word in words, f"{word:08x}"
    done = run("qemu-aarch64", program)
    assert done.stdout == tile_by_hand()


@needs_compiler
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("mapMatrix(2, 2, 9, 6, weights, 1);", "no such column (7)"),
        ("mapMatrix(1, 3, 9, 6, weights, 1);", "no such row (11)"),
        ("aimcProcess(2);", "no such tile (2)"),
        ("queueVector(11, inputs, 1); queueVector(3, inputs, 1);", "more inputs than rows (12)"),
        ("aimcProcess(1); for (int i = 0; i < 3; ++i) aimcDequeue(1);", "more outputs than columns (8)"),
    ],
)
def test_emulated_tile_refuses_what_lies_outside(tmp_path: Path, fault: str, message: str):
    done = run(compile_tile(tmp_path, fault, "-DUSE_CHECKER"), is_checked=False)
    assert done.returncode == 3
    assert message in done.stderr


# ------------------------------------------------------------------------------------------------------------- kernels


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    library = tmp_path_factory.mktemp("kernels") / "kernels.so"
    header = NATIVE / "lionheart_kernels.h"
    run("g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-x", "c++", header, "-o", library)
    return ctypes.CDLL(str(library))


@given(
    x=st.integers(-(2**31) + 1, 2**31 - 1),
    multiplier=st.integers(0, 2**31 - 1),
    shift=st.integers(1, 62),
)
def test_requantisation_is_that_of_whole_numbers(kernels: ctypes.CDLL, x: int, multiplier: int, shift: int):
    exact = round_half_away(x * multiplier, shift)
    assert int(scale_and_round(np.array(x), multiplier, shift)) == exact
    numbers = [(ctypes.c_int32 * 1)(n) for n in (x, 0, multiplier, shift)]
    out = (ctypes.c_int8 * 1)()
    kernels.lh_requantise(1, 1, *numbers, -128, 127, out, 1)
    assert out[0] == max(-128, min(127, exact))


@given(half=st.integers(-200, 200))
def test_halves_are_rounded_away_from_zero(half: int):
    assert int(scale_and_round(np.array(2 * half + 1), 1, 1)) == (half + 1 if half >= 0 else half)


@given(value=st.floats(0, 2**29, exclude_max=True))
@example(value=float(np.nextafter(2.0**29, 0)))  # rounds up to the next power of two
@example(value=2.0**-63)
def test_fixed_point_is_exact_to_31_bits(value: float):
    multiplier, shift = to_fixed_point(value)
    assert 0 <= multiplier < 2**31
    assert 1 <= shift <= 62
    assert abs(multiplier / 2**shift - value) <= max(value * 2.0**-30, 2.0**-62)


def test_factor_between_scales_must_be_possible():
    with pytest.raises(NumericsError, match="expected at least 0"):
        to_fixed_point(float("nan"))


@needs_compiler
@needs_aarch64
def test_kernels_give_the_same_bits_with_and_without_neon(tmp_path: Path):
    found = []
    for compiler, runner, flags in [
        ("g++", [], ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover"]),
        ("aarch64-linux-gnu-g++", ["qemu-aarch64"], ["-O3", "-static"]),
        ("aarch64-linux-gnu-g++", ["qemu-aarch64"], ["-O1", "-static", "-DLH_PORTABLE"]),
    ]:
        program = tmp_path / "kernels"
        command = [
            compiler,
            "-std=c++17",
            "-Wall",
            "-Werror",
            *flags,
            f"-I{NATIVE}",
            SUPPORT / "native_kernels.cc",
            "-o",
            program,
        ]
        run(*command)
        found.append(run(*runner, program).stdout)
    assert len(set(found)) == 1


# ------------------------------------------------------------------------------------------------------------- folders


@needs_aarch64
def test_regions_count_the_work_of_each_layer(emitted):
    """The dry build's tile instructions, layer by layer, are those that the trapped build executes."""
    folder = emitted("residual", True)
    n_samples = read_json(folder / "manifest.json")["n_samples"]
    regions = count_regions(folder, n_samples=n_samples)
    executed = run_program(folder, "aarch64").tile_instructions
    for name in ("queue", "process", "dequeue"):
        assert sum(getattr(each.counts, f"tile_{name}") for each in regions) == executed[name]
        assert all(each.kind == name for each in regions if getattr(each.counts, f"tile_{name}"))
    layers = {layer["number"]: layer for layer in read_json(folder / "manifest.json")["layers"]}
    for each in regions:
        assert each.counts.instructions > 0 or each.kind == "control"
        if each.kind == "process":
            height, width, _ = layers[each.layer]["shape"]
            assert each.counts.tile_process == n_samples * height * width * len(layers[each.layer]["tiles"])


@needs_aarch64
def test_several_tiles_need_a_simulator_that_selects_them(emitted):
    folder = emitted("residual", True)
    refused = run("make", "-C", folder, "alpine", is_checked=False)
    assert refused.returncode != 0
    assert "LH_AIMC_TILE_SELECT" in refused.stderr
    run("make", "-s", "-C", folder, "alpine", "TILE_SELECT=1")
    run("make", "-s", "-C", emitted("residual", False), "alpine")


@needs_compiler
def test_makefile_compares_outputs(emitted):
    done = run("make", "-C", emitted("perceptron", True), "check")
    assert "outputs as expected" in done.stdout
    assert "warning" not in done.stderr


def test_manifest_names_layers_tiles_and_regions(emitted):
    manifest = read_json(emitted("separable", True) / "manifest.json")
    [grouped] = [layer for layer in manifest["layers"] if layer.get("fqn") == "grouped"]
    # 2 groups of 90 rows over 16: 6 rows of tiles, 4 columns over 16: one; depthwise 3 and pointwise 2 tiles come before
    assert grouped["tiles"] == list(range(5, 17))
    assert grouped["placement"] == "analog"
    assert {"im2col", "queue", "process", "dequeue", "partial_sums", "requantise"} <= set(grouped["regions"])
    numbers = [n for layer in manifest["layers"] for n in layer["regions"].values()]
    assert len(numbers) == len(set(numbers))
    assert manifest["n_tiles"] == 17


# -------------------------------------------------------------------------------------------------------------- errors


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(x)))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "shape", "parts"),
    [
        (nn.Sequential(Gate()), (3, 4, 4), ("0.act", "silu")),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.ConvTranspose2d(2, 2, 2)), (3, 4, 4), ("1", "conv_transpose2d")),
        (nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")), (3, 4, 4), ("0", "pad")),
        (nn.Sequential(nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)), (3, 8, 8), ("0", "avg_pool2d")),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), (3, 5, 5), ("0", "ceil_mode")),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), (3, 4, 4), ("network", "flattened")),
    ],
    ids=["silu", "transposed", "circular", "average", "ceil", "flatten"],
)
def test_what_cannot_be_exported_is_named(model: nn.Module, shape: tuple[int, ...], parts: tuple[str, str]):
    with pytest.raises(UnsupportedLayerError) as caught:
        trace_program(model, torch.randn(2, *shape))
    assert caught.value.message.startswith(parts[0])
    assert parts[1] in caught.value.message
    assert caught.value.hint


def test_what_cannot_be_followed_is_an_error():
    with pytest.raises(GraphError, match="Branching"):
        trace_program(Branching(), torch.randn(2, 4))
    with pytest.raises(ConfigError, match="expected a tensor"):
        trace_program(Gate(), torch.randn(4))


def test_mapping_must_fit_the_network():
    program = trace_program(Twice(), torch.randn(3, 4))
    with pytest.raises(ConfigError, match="'leyer'"):
        quantise_program(program, LayerMapping({"leyer": Placement.ANALOG}))
    with pytest.raises(UnsupportedLayerError, match="runs 2 times"):
        quantise_program(program, LayerMapping({"layer": Placement.ANALOG}))
    assert quantise_program(program, LayerMapping({"layer": Placement.DIGITAL})).n_tiles == 0


def test_folder_must_be_free(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    program = quantised("perceptron", False)
    with pytest.raises(ArtifactError, match="not empty"):
        emit_program(program, tmp_path, program.program.samples)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# -------------------------------------------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TINY)
    config = ("--config", folder / "tiny.toml", "--out", folder / "run")
    assert lionheart_command("map", "quadrants:build_task", *config, "--json").exit_code == 0
    return folder / "run"


def alpine(run: Path) -> tuple[str | Path, ...]:
    return (run, "--to", "alpine", "--task", "quadrants:build_task")


def test_run_of_a_task_of_python_says_how_to_name_it(finished: Path, tmp_path: Path):
    """The score needs the validation data; a run folder names its task, but does not contain the data."""
    result = lionheart_command("export", finished, "--to", "alpine", "--out", tmp_path / "program")
    assert_refused(result, "the task 'quadrants:build_task' of this run is not built in", "--task TASK")
    assert not (tmp_path / "program").exists()


@needs_compiler
def test_run_is_exported_and_checked(finished: Path, tmp_path: Path):
    result = lionheart_command("export", *alpine(finished), "--out", tmp_path / "program", "--check")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "outputs on host: identical" in result.stderr
    assert "accuracy of the program on 128 validation samples: " in result.stderr
    assert "accuracy of the run: digital " in result.stderr
    assert "warning" not in result.stderr
    manifest = read_json(tmp_path / "program" / "manifest.json")
    results = read_json(finished / "results.json")
    assert manifest["score"]["digital_score"] == results["baseline"]["validation_accuracy"]
    assert manifest["score"]["chips_score"] == results["validation"]["mean"]
    assert manifest["score"]["max_drop_pp"] == 20
    assert manifest["score"]["is_within_bound"]
    assert all(layer["output_bound"] == 12 for layer in manifest["layers"] if layer.get("tiles"))
    found = {layer["fqn"]: layer["placement"] for layer in manifest["layers"] if layer["kind"] == "product"}
    assert found == read_json(finished / "mapping.json")["placements"]
    assert manifest["tile"] == {"rows": 32, "cols": 32}


def test_mapping_is_exported_as_json(finished: Path, tmp_path: Path):
    result = lionheart_command("export", finished, "--to", "json")
    assert result.exit_code == 0
    assert result.stdout == (finished / "mapping.json").read_text()
    assert "placements and read policies. The weights and the tile settings are in" in result.stderr
    assert lionheart_command("export", finished, "--to", "json", "--out", tmp_path / "mapping.json").stdout == ""
    assert LayerMapping.load(tmp_path / "mapping.json") == LayerMapping.load(finished / "mapping.json")


def test_program_beyond_the_bound_is_warned_of(finished: Path, tmp_path: Path):
    """An exported program once lost more than the bound, and nothing said so."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    results = read_json(run / "results.json")
    (run / "results.json").write_text(json.dumps(results | {"max_drop_pp": -100.0}))
    arguments = ("export", *alpine(run), "--score-samples", "40", "--json")
    result = lionheart_command(*arguments, "--out", tmp_path / "program")
    assert result.exit_code == 0
    score = json.loads(result.stdout)["manifest"]["score"]
    assert score == read_json(tmp_path / "program" / "manifest.json")["score"]
    assert not score["is_within_bound"]
    assert score["n_samples"] == 40
    assert (40 * score["digital_score"]) % 1 == 0  # measured on the same samples, not taken from the run
    result = lionheart_command(*arguments[:-1], "--out", tmp_path / "again")
    assert "warning: the drop of the program" in result.stderr
    assert "exceeds the bound of the run" in (tmp_path / "again" / "README.md").read_text()


def test_interrupted_export_leaves_nothing(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(QuantisedProgram, "compute", interrupt)
    result = lionheart_command("export", *alpine(finished), "--out", tmp_path / "program")
    assert result.exit_code == 130
    assert not (tmp_path / "program").exists()


def test_bad_exports_are_refused(finished: Path, tmp_path: Path):
    assert_refused(lionheart_command("export", finished, "--to", "alpin"), "--to: got 'alpin'", "alpine")
    assert_refused(lionheart_command("export", *alpine(tmp_path)), "no run in this directory")
    assert_refused(lionheart_command("export", *alpine(finished), "--inputs", "0"), "got 0 stored samples")
    assert_refused(lionheart_command("export", *alpine(finished), "--score-samples", "0"), "got 0 scored samples")
    assert_refused(lionheart_command("export", finished, "--to", "json", "--check"), "--check")
