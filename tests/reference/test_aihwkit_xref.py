"""The physics against an installed AIHWKIT: distributions of weights, the noise-free MVM, tile sizes, drift compensation.

Every comparison is shown to fail when our side is changed: a wrong sign, exponent, coefficient, step or split.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lionheart.analog import AnalogLayer, convert_to_analog_, drift_chip_, program_chip_
from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar, read_crossbar
from lionheart.devices import DeviceSpec, TileSpec, pcm
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import split_evenly

pytestmark = pytest.mark.xref
aihwkit = pytest.importorskip("aihwkit", reason="compares with AIHWKIT, which is not installed")

from aihwkit.inference.noise.pcm import PCMLikeNoiseModel  # noqa: E402
from aihwkit.nn import AnalogLinear  # noqa: E402
from aihwkit.simulator.configs import (  # noqa: E402
    BoundManagementType,
    NoiseManagementType,
    TorchInferenceRPUConfig,
)

TARGETS = (0.04, 0.2, 0.5, 0.8, 1.0)  # of g_max
N = 200_000  # samples of each target
#: A crossbar's read noise depends on its largest programmed weight, one lucky draw; over many crossbars that averages out.
N_CROSSBARS = 40
TIMES = {"t_0": 0.0, "1 h": 3600.0, "1 day": 86400.0, "1 year": 365 * 86400.0}


@pytest.fixture(autouse=True)
def _fixed_aihwkit() -> Iterator[None]:
    """AIHWKIT draws from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(23)
        yield


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- distributions of weights -----------------------------------------------------------------------------------------


SIGNS = torch.ones(N // N_CROSSBARS)
SIGNS[1::2] = -1  # both devices of the pairs are used
#: One crossbar: a row for each target, and one for zero.
WEIGHTS = torch.tensor([*TARGETS, 0.0]).unsqueeze(1) * SIGNS


def program_ours(device: DeviceSpec, seed: int) -> list[ProgrammedCrossbar]:
    generator = seeded(seed)
    return [program_crossbar(WEIGHTS, device, generator=generator) for _ in range(N_CROSSBARS)]


def read_ours(chip: list[ProgrammedCrossbar], device: DeviceSpec, t_inference: float, seed: int) -> Tensor:
    generator = seeded(seed)
    return samples(read_crossbar(each, device, t_inference=t_inference, generator=generator) for each in chip)


def program_theirs(noise: PCMLikeNoiseModel) -> list[tuple[Tensor, list[Tensor]]]:
    return [noise.apply_programming_noise(WEIGHTS) for _ in range(N_CROSSBARS)]


def read_theirs(noise: PCMLikeNoiseModel, chip: list[tuple[Tensor, list[Tensor]]], t_inference: float) -> Tensor:
    return samples(noise.apply_drift_noise(weights, nu, t_inference) for weights, nu in chip)


def as_theirs(chip: list[ProgrammedCrossbar]) -> list[tuple[Tensor, list[Tensor]]]:
    """Our chip in their form; on it each weight has one exponent, that of the device that dominates."""
    return [(each.weights, [each.drift_nu, each.drift_nu]) for each in chip]


def samples(crossbars: Iterable[Tensor]) -> Tensor:
    """Return ``(targets, N)`` samples without their alternating signs."""
    return torch.cat([weights * SIGNS for weights in crossbars], dim=1)


@dataclass(frozen=True)
class Agreement:
    """How two sets of samples compare; deviations of the means are relative to the weight, or to sigma at weight 0."""

    p: float
    mean: float
    sigma: float

    @property
    def holds(self) -> bool:
        """Whether the samples may come from one distribution, and mean and sigma are within 1 %."""
        return self.p > 1e-3 and abs(self.mean) < 0.01 and abs(self.sigma) < 0.01


def compare(ours: Tensor, theirs: Tensor, scale: float) -> Agreement:
    one, other = ours.double().numpy(), theirs.double().numpy()
    assert min(len(one), len(other)) >= N
    return Agreement(
        p=float(stats.ks_2samp(one, other).pvalue),
        mean=(one.mean() - other.mean()) / (scale or other.std()),
        sigma=one.std() / other.std() - 1,
    )


def compare_rows(ours: Tensor, theirs: Tensor) -> dict[float, Agreement]:
    pairs = zip((*TARGETS, 0.0), ours, theirs, strict=True)
    return {target: compare(one, other, target) for target, one, other in pairs}


@dataclass(frozen=True)
class Reference:
    """What AIHWKIT programmed and read, and a chip of ours."""

    programmed: Tensor
    read: dict[str, Tensor]
    ours: list[ProgrammedCrossbar]


@pytest.fixture(scope="module")
def reference() -> Reference:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(29)
        noise = PCMLikeNoiseModel()
        chip = program_theirs(noise)
        return Reference(
            programmed=samples(weights for weights, _ in chip),
            read={name: read_theirs(noise, chip, t) for name, t in TIMES.items()},
            ours=program_ours(DeviceSpec(), seed=31),
        )


def test_defaults_are_theirs():
    ours, theirs = DeviceSpec(), PCMLikeNoiseModel()
    assert list(ours.programming_noise) == theirs.prog_coeff
    assert (ours.g_max, ours.t_0, ours.t_read) == (theirs.g_max, theirs.t_0, theirs.t_read)


def test_programmed_weights(reference: Reference):
    ours = samples(each.weights for each in reference.ours)
    for target, agreement in compare_rows(ours, reference.programmed).items():
        assert agreement.holds, (target, agreement)


@pytest.mark.parametrize("time", TIMES)
def test_programmed_drifted_and_read_weights(reference: Reference, time: str):
    ours = read_ours(reference.ours, DeviceSpec(), TIMES[time], seed=41)
    for target, agreement in compare_rows(ours, reference.read[time]).items():
        assert agreement.holds, (target, agreement)


@pytest.mark.parametrize("time", TIMES)
def test_reads_of_one_and_the_same_chip(reference: Reference, time: str):
    ours = read_ours(reference.ours, DeviceSpec(), TIMES[time], seed=43)
    theirs = read_theirs(PCMLikeNoiseModel(), as_theirs(reference.ours), TIMES[time])
    programmed = samples(each.weights for each in reference.ours)
    age = ((TIMES[time] + 20) / 20) ** -torch.cat([each.drift_nu for each in reference.ours], dim=1)
    large = programmed.abs() > 0.01
    left = (programmed * age)[large]  # what both read, before their noise
    assert compare(ours[large] / left - 1, theirs[large] / left - 1, 1.0).holds


def test_exponents():
    g = torch.tensor(TARGETS).unsqueeze(1).expand(-1, N).contiguous() * 25
    ours = pcm.sample_drift_nu(g, DeviceSpec(), generator=seeded(47))
    theirs = PCMLikeNoiseModel().generate_drift_coefficients(g)
    for one, other in zip(ours, theirs, strict=True):
        agreement = compare(one, other, float(other.mean()))
        assert agreement.holds, agreement


@pytest.mark.parametrize("g_max", [10.0, 90.0])
def test_another_largest_conductance(g_max: float):
    noise = PCMLikeNoiseModel(g_max=g_max)
    device = DeviceSpec(g_max=g_max)
    theirs = read_theirs(noise, program_theirs(noise), 3600.0)
    ours = read_ours(program_ours(device, seed=53), device, 3600.0, seed=59)
    for target, agreement in compare_rows(ours, theirs).items():
        assert agreement.holds, (target, agreement)


def test_scales_multiply_as_theirs():
    noise = PCMLikeNoiseModel(prog_noise_scale=0.5, read_noise_scale=2.0, drift_scale=1.5)
    device = DeviceSpec(programming_noise_scale=0.5, read_noise_scale=2.0, drift_scale=1.5)
    theirs = read_theirs(noise, program_theirs(noise), 86400.0)
    ours = read_ours(program_ours(device, seed=61), device, 86400.0, seed=67)
    for target, agreement in compare_rows(ours, theirs).items():
        assert agreement.holds, (target, agreement)


# -- the comparison can fail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        DeviceSpec(programming_noise=(0.26348, 1.9650, 1.1731)),  # a lost sign
        DeviceSpec(programming_noise=(0.26348, 1.9650 * 1.05, -1.1731)),
        DeviceSpec(programming_noise=(0.28, 1.9650, -1.1731)),
        DeviceSpec(programming_noise_scale=1.03),
    ],
)
def test_changed_programming_is_noticed(reference: Reference, changed: DeviceSpec):
    ours = samples(each.weights for each in program_ours(changed, seed=31))
    assert not all(agreement.holds for agreement in compare_rows(ours, reference.programmed).values())


@pytest.mark.parametrize(
    "changed",
    [
        {"drift_nu_mean": (0.0155, 0.0244, 0.049, 0.1)},  # a lost sign: small conductances drift least
        {"drift_nu_mean": (-0.0155, 0.0244, 0.051, 0.1)},
        {"drift_nu_sigma": (0.0125, -0.0059, 0.008, 0.045)},
        {"drift_scale": 1.03},
        {"read_noise": (0.0088, -0.65, 1e-3, 0.2)},
        {"read_noise": (0.0088, 0.5, 1e-3, 0.2)},
        {"read_noise": (0.0088, 0.65, 1e-3, 0.02)},
        {"t_0": 25.0},
        {"t_read": 250e-6},
    ],
)
def test_changed_drift_and_reads_are_noticed(reference: Reference, changed: dict[str, object]):
    device = DeviceSpec(**changed)
    ours = read_ours(program_ours(device, seed=31), device, 86400.0, seed=41)
    assert not all(agreement.holds for agreement in compare_rows(ours, reference.read["1 day"]).values())


def _grow(g: Tensor, nu: Tensor, *, t_inference: float, t_0: float) -> Tensor:
    return g * ((t_inference + t_0) / t_0) ** nu


def _start_at_t_0(g: Tensor, nu: Tensor, *, t_inference: float, t_0: float) -> Tensor:
    return g * (max(t_inference, t_0) / t_0) ** -nu


def _start_at_one_second(g: Tensor, nu: Tensor, *, t_inference: float, t_0: float) -> Tensor:
    return g * (t_inference + t_0) ** -nu


@pytest.mark.parametrize("drift", [_grow, _start_at_t_0, _start_at_one_second])
def test_another_law_of_drift_is_noticed(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, drift: Callable[..., Tensor]
):
    monkeypatch.setattr(pcm, "drift_conductances", drift)
    theirs = read_theirs(PCMLikeNoiseModel(), as_theirs(reference.ours), 60.0)
    ours = read_ours(reference.ours, DeviceSpec(), 60.0, seed=41)
    assert not all(agreement.holds for agreement in compare_rows(ours, theirs).values())


def test_exponents_of_the_wrong_device_are_noticed(reference: Reference):
    """A pair drifts with the exponent of the device that holds the weight, not with that of the one at zero."""
    generator = seeded(71)
    swapped = [
        ProgrammedCrossbar(
            each.weights, pcm.sample_drift_nu(torch.zeros_like(WEIGHTS), DeviceSpec(), generator=generator)
        )
        for each in reference.ours
    ]
    ours = read_ours(swapped, DeviceSpec(), 3600.0, seed=41)
    assert not all(agreement.holds for agreement in compare_rows(ours, reference.read["1 h"]).values())


# -- matrix-vector products without noise -----------------------------------------------------------------------------


def aihwkit_config(rows: int, cols: int, *, out_noise: float = 0.0) -> TorchInferenceRPUConfig:
    config = TorchInferenceRPUConfig()
    config.forward.inp_res = config.forward.out_res = 1 / 254  # 8 bit
    config.forward.out_noise = out_noise
    config.forward.noise_management = NoiseManagementType.ABS_MAX
    config.forward.bound_management = BoundManagementType.NONE
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.max_input_size, config.mapping.max_output_size = rows, cols
    return config


def aihwkit_linear(linear: nn.Linear, config: TorchInferenceRPUConfig) -> AnalogLinear:
    theirs = AnalogLinear(linear.in_features, linear.out_features, bias=linear.bias is not None, rpu_config=config)
    theirs.set_weights(linear.weight.detach(), None if linear.bias is None else linear.bias.detach())
    return theirs.eval()


def our_linear(linear: nn.Linear, tile: TileSpec, input_range: float) -> AnalogLayer:
    model = nn.Sequential(copy.deepcopy(linear))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile, generator=seeded(73))
    model[0].analog_input_range.fill_(input_range)
    return model.eval()[0]


SHAPES = {
    "whole": (40, 24, 256, 256),
    "split rows": (40, 24, 16, 256),  # 14 + 13 + 13
    "split columns": (40, 24, 256, 10),
    "both": (40, 24, 7, 5),
    "large": (300, 50, 128, 32),
}


def product_error(shape: tuple[int, int, int, int], tile: TileSpec, n_vectors: int = 32) -> float:
    """Return the largest deviation from AIHWKIT over `n_vectors`, relative to the largest output."""
    n_in, n_out, rows, cols = shape
    linear = nn.Linear(n_in, n_out)
    linear.weight.data *= torch.logspace(-1, 1, n_out).unsqueeze(1)  # columns of very different size
    linear.weight.data[0].uniform_(0.9, 1.0)  # one that leaves the ADC's range
    theirs = aihwkit_linear(linear, aihwkit_config(rows, cols))
    edges = np.cumsum([0, *split_evenly(n_in, rows)])
    worst, largest = 0.0, 0.0
    for x in torch.randn(n_vectors, 1, n_in, generator=seeded(79)):
        x[0, edges[:-1]] = x.abs().max()  # AIHWKIT scales each tile's inputs by their largest: make it ours everywhere
        with torch.no_grad():
            ours, expected = our_linear(linear, tile.replace(rows=rows, cols=cols), float(x.abs().max()))(x), theirs(x)
        worst = max(worst, float((ours - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
    return worst / largest


CONVERTERS_ONLY = TileSpec(output_noise=0.0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matrix_vector_product(shape: tuple[int, int, int, int]):
    assert product_error(shape, CONVERTERS_ONLY) < 1e-5


@pytest.mark.parametrize(
    "changed",
    [
        {"dac_bits": 9},
        {"adc_bits": 9},
        {"output_bound": 12.1},
        {"output_bound": 12 * 127 / 128},  # a step of 2 * 12 / 256
        {"output_noise": 1e-3},
    ],
)
def test_other_converters_are_noticed(changed: dict[str, float]):
    assert product_error(SHAPES["both"], CONVERTERS_ONLY.replace(**changed), n_vectors=4) > 1e-5


@pytest.mark.parametrize(("size", "largest"), [(768, 256), (3072, 255), (576, 256), (147, 64), (10, 256), (257, 256)])
def test_even_split(size: int, largest: int):
    theirs = AnalogLinear(size, 3, bias=False, rpu_config=aihwkit_config(largest, 2)).analog_module
    if size > largest:
        assert tuple(theirs.in_sizes) == split_evenly(size, largest)
        assert tuple(theirs.out_sizes) == split_evenly(3, 2)
    assert sum(split_evenly(size, largest)) == size


# -- global drift compensation ----------------------------------------------------------------------------------------


def our_alphas(linear: nn.Linear, tile: TileSpec, t_inference: float, n_chips: int, seed: int) -> np.ndarray:
    layer = our_linear(linear, tile, 1.0)
    generator, alphas = seeded(seed), []
    for _ in range(n_chips):
        program_chip_(layer, generator)
        drift_chip_(layer, t_inference, generator)
        ((_, scaled),) = layer._programmed
        alphas.append(float((scaled / layer._scales[0]).mean()))
    return np.array(alphas)


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("out_noise", [0.0, 0.06])
def test_global_compensation(time: str, out_noise: float):
    n_chips, t_inference = 60, TIMES[time]
    linear = nn.Linear(128, 64, bias=False)
    linear.weight.data.normal_(0, 0.05, generator=seeded(83))
    theirs = aihwkit_linear(linear, aihwkit_config(256, 256, out_noise=out_noise))
    expected = []
    for _ in range(n_chips):
        theirs.program_analog_weights()
        theirs.drift_analog_weights(t_inference)
        ((tile),) = theirs.analog_tiles()
        expected.append(float(tile.alpha))
    ours = our_alphas(linear, TileSpec(output_noise=out_noise), t_inference, n_chips, seed=89)

    def agrees(alphas: np.ndarray) -> bool:
        error = math.hypot(stats.sem(alphas), stats.sem(expected)) / np.mean(expected)
        assert error < 2e-3  # so the comparison has teeth
        return abs(np.mean(alphas) / np.mean(expected) - 1) < 4 * error

    assert agrees(ours)
    assert not agrees(ours * 1.01)
    if t_inference > 0:
        assert not agrees(1 / ours)
        assert not agrees(our_alphas(linear, TileSpec(output_noise=out_noise), 2 * t_inference, n_chips, seed=97))
