"""Device physics: one contract for every registered technology, the laws of each, converters, stuck devices, own devices.

Formulas are written out again here from the papers' numbers, not imported, so a changed coefficient fails.
"""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from scipy import stats
from torch import Tensor

from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar, read_crossbar
from lionheart.analog.device import DEVICE_MODELS, DeviceModel, find_device_model, pcm
from lionheart.analog.device.conversion import convert_to_conductances, convert_to_weights
from lionheart.analog.device.registry import register_device
from lionheart.devices import (
    TECHNOLOGIES,
    CustomPairConverter,
    DeviceSpec,
    IdealSpec,
    PairConverter,
    PCMSpec,
    SingleConverter,
    TileSpec,
)
from lionheart.errors import ArtifactError, ConfigError

N = 200_000
HOUR, YEAR = 3600.0, 365 * 86400.0
T_0, T_READ = 20.0, 250e-9
SILENT = {"programming_noise_scale": 0.0, "drift_scale": 0.0, "read_noise_scale": 0.0}
DRIFT_TABLE = ((0.0, 0.09, 0.04), (10.0, 0.05, 0.01), (25.0, 0.03, 0.006))


def ranks(spread: float) -> tuple:
    """Quantiles of a uniform distribution around 0.9 and 0.5 times the target, at 1 s and 100 s."""
    return tuple(
        tuple(tuple(max(share * g + spread * (i / 50 - 1), 0.0) for i in range(101)) for share in (0.9, 0.5))
        for g in (0.0, 10.0, 25.0)
    )


SAMPLES = {"targets": (0.0, 10.0, 25.0), "times": (1.0, 100.0), "quantiles": ranks(2.0)}
CLEAN = tuple((tuple([g] * 2),) * 2 for g in (0.0, 10.0, 25.0))
#: For each technology: what it needs, what switches its noise off, and a time at which it can be read.
EXAMPLES: dict[str, tuple[dict, dict, float]] = {
    "ideal": ({}, {}, HOUR),
    "pcm": ({}, SILENT, HOUR),
    "pcm_custom_drift": ({"drift_table": DRIFT_TABLE}, SILENT, HOUR),
    "reram_wan2022": ({}, {"noise_scale": 0.0}, 86400.0),
    "reram_cmo": ({"g_min": 0.0, "g_max": 25.0}, SILENT, HOUR),
    "table": (
        {
            "programming_noise": (0.3, 1.0),
            "drift_nu_mean": ((0.0, 0.08), (25.0, 0.04)),
            "drift_nu_sigma": (0.005,),
            "read_noise": ((0.0, 0.05), (25.0, 0.2)),
        },
        SILENT,
        HOUR,
    ),
    "samples": (SAMPLES, {"quantiles": CLEAN}, 50.0),
}
RANDOM_READS = sorted(set(EXAMPLES) - {"ideal", "samples"})


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def targets(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Conductances from 0 to g_max = 25 µS, both ends included."""
    g = torch.rand(*shape, generator=seeded(99), dtype=dtype) * 25
    g.view(-1)[0], g.view(-1)[-1] = 0.0, 25.0
    return g


def fits(samples: Tensor, distribution: stats.distributions.rv_frozen) -> bool:
    """Whether a one-sample Kolmogorov-Smirnov test lets `samples` pass as drawn from `distribution`."""
    return bool(stats.kstest(samples.double().numpy(), distribution.cdf).pvalue > 0.01)


def normal(mean: float, sigma: float) -> stats.distributions.rv_frozen:
    return stats.norm(mean, sigma)


# -- contract ---------------------------------------------------------------------------------------------------------


def example(technology: str, **changes: object) -> tuple[DeviceModel, DeviceSpec]:
    device = DeviceSpec(technology=technology, **{**EXAMPLES[technology][0], **changes})
    return find_device_model(device), device


def test_every_technology_has_model_spec_and_example():
    assert set(DEVICE_MODELS) == set(TECHNOLOGIES) == set(EXAMPLES)


@pytest.mark.parametrize("technology", sorted(DEVICE_MODELS))
class TestContract:
    """What holds for every technology, present and future: they are found from the registry."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("shape", [(1,), (7, 5), (2, 3, 4)])
    def test_shape_dtype_and_sign(self, technology: str, shape: tuple[int, ...], dtype: torch.dtype):
        model, device = example(technology)
        g_target = targets(*shape, dtype=dtype)
        before = g_target.clone()
        g_programmed, state = model.program(g_target, device, generator=seeded())
        g_read = model.read(g_programmed, state, device, t_inference=EXAMPLES[technology][2], generator=seeded())
        for result in (g_programmed, g_read):
            assert result.shape == g_target.shape
            assert (result >= (-0.01 if technology == "reram_cmo" else 0)).all()  # 0.02 % noise at 0, off its range
        assert state.shape[-len(shape) :] == g_target.shape
        for result in (g_programmed, state, g_read):
            assert result.dtype == dtype
            assert torch.isfinite(result).all()
        assert torch.equal(g_target, before)  # the targets are the caller's

    def test_read_leaves_the_programmed_state_alone(self, technology: str):
        model, device = example(technology)
        g_programmed, state = model.program(targets(50), device, generator=seeded())
        kept = g_programmed.clone(), state.clone()
        model.read(g_programmed, state, device, t_inference=EXAMPLES[technology][2], generator=seeded())
        assert torch.equal(g_programmed, kept[0])
        assert torch.equal(state, kept[1])

    def test_same_generator_same_chip(self, technology: str):
        model, device = example(technology)
        g_target = targets(40, 30)

        def chip(seed: int) -> tuple[Tensor, ...]:
            generator, t_inference = seeded(seed), EXAMPLES[technology][2]
            g_programmed, state = model.program(g_target, device, generator=generator)
            read = model.read(g_programmed, state, device, t_inference=t_inference, generator=generator)
            return g_programmed, state, read

        for one, other in zip(chip(5), chip(5), strict=True):
            assert torch.equal(one, other)

    def test_other_generators_draw_independently(self, technology: str):
        model, device = example(technology)
        g_target = torch.full((20_000,), 12.5)
        one, other = (model.program(g_target, device, generator=seeded(seed))[0] for seed in (5, 6))
        if technology == "ideal":
            assert torch.equal(one, other)
            return
        correlation = float(torch.corrcoef(torch.stack([one, other]))[0, 1])
        assert abs(correlation) < 4 / math.sqrt(len(g_target))

    def test_reads_draw_independently_of_programming(self, technology: str):
        model, device = example(technology)
        g_target = torch.full((20_000,), 12.5)
        g_programmed, state = model.program(g_target, device, generator=seeded())
        generator, t_inference = seeded(2), EXAMPLES[technology][2]
        reads = [
            model.read(g_programmed, state, device, t_inference=t_inference, generator=generator) for _ in range(2)
        ]
        if technology not in RANDOM_READS:
            assert torch.equal(*reads)
            return
        change = reads[1] - reads[0]  # what only reading draws
        correlation = float(torch.corrcoef(torch.stack([g_programmed, change]))[0, 1])
        assert float(change.std()) > 0
        assert abs(correlation) < 4 / math.sqrt(len(g_target))

    def test_global_random_state_is_not_touched(self, technology: str):
        model, device = example(technology)
        before = torch.random.get_rng_state()
        g_programmed, state = model.program(targets(9), device, generator=seeded())
        model.read(g_programmed, state, device, t_inference=EXAMPLES[technology][2], generator=seeded())
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_switched_off_is_clean(self, technology: str):
        _, silent, t_inference = EXAMPLES[technology]
        model, device = example(technology, **silent)
        g_target = targets(33, 7)
        g_programmed, state = model.program(g_target, device, generator=seeded())
        g_read = model.read(g_programmed, state, device, t_inference=t_inference, generator=seeded())
        if technology == "samples":  # interpolates between the targets that were measured
            torch.testing.assert_close(g_programmed, g_target, rtol=1e-6, atol=1e-5)
            torch.testing.assert_close(g_read, g_target, rtol=1e-6, atol=1e-5)
            return
        assert torch.equal(g_programmed, g_target)
        assert torch.equal(g_read, g_target)

    @pytest.mark.parametrize("t_inference", [-1.0, math.nan, math.inf])
    def test_impossible_times_are_refused(self, technology: str, t_inference: float):
        model, device = example(technology)
        g_programmed, state = model.program(targets(3), device, generator=seeded())
        if technology != "ideal":
            with pytest.raises(ConfigError, match="t_inference"):
                model.read(g_programmed, state, device, t_inference=t_inference, generator=seeded())

    def test_spec_survives_json_alone_and_in_a_tile(self, technology: str):
        _, device = example(technology, stuck_on=0.01)
        data = json.loads(json.dumps(device.to_json()))
        assert data["technology"] == technology
        assert set(data) == {*type(device).model_fields, "schema_version"}
        assert DeviceSpec.from_json(data) == device == type(device).from_json(data)
        tile = TileSpec(device=device)
        again = TileSpec.from_json(json.loads(json.dumps(tile.to_json())))
        assert again == tile
        assert type(again.device) is type(device)
        assert again.replace(rows=3).device == device

    def test_settings_of_other_technologies_are_refused(self, technology: str):
        foreign = {"drift_nu_mean", "drift_table", "noise", "acceptance", "targets", "t_read", "read_noise"}
        for name in foreign - set(TECHNOLOGIES[technology].model_fields):
            with pytest.raises(ConfigError, match=f"{name}: unknown setting"):
                example(technology, **{name: 1.0})

    def test_many_crossbars_at_once_are_crossbars_of_their_own(self, technology: str):
        _, silent, t_inference = EXAMPLES[technology]
        _, device = example(technology, **silent)
        weights = torch.randn(3, 2, 5, 4, generator=seeded()) * torch.tensor([1.0, 10.0, 0.1]).view(3, 1, 1, 1)
        chips = program_crossbar(weights, device, generator=seeded())
        read = read_crossbar(chips, device, t_inference=t_inference, generator=seeded())
        torch.testing.assert_close(chips.weights, weights, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(read, weights, rtol=1e-4, atol=1e-5)


def test_ideal_is_the_identity():
    device = DeviceSpec.ideal()
    model = find_device_model(device)
    g_target = targets(33, 7)
    g_programmed, nu = model.program(g_target, device, generator=seeded())
    assert torch.equal(g_programmed, g_target)
    assert torch.equal(nu, torch.zeros_like(nu))
    assert torch.equal(model.read(g_programmed, nu, device, t_inference=YEAR, generator=seeded()), g_target)


def test_registry_names_what_exists():
    with pytest.raises(ConfigError, match="did you mean 'pcm'"):
        find_device_model(SimpleNamespace(technology="pcn"))
    with pytest.raises(ConfigError, match="registered twice"):
        register_device("pcm")(pcm.PCMModel)
    with pytest.raises(ConfigError, match="technology"):
        DeviceSpec(technology="pcn")


# -- programming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "sigma"),
    [
        (0.0, 0.26348),
        (0.2, 0.26348 + 1.9650 * 0.2 - 1.1731 * 0.04),  # 0.609556
        (0.5, 0.952705),  # 0.26348 + 0.9825 - 0.293275
        (1.0, 1.05538),  # 0.26348 + 1.9650 - 1.1731
    ],
)
def test_programming_sigma_by_hand(x: float, sigma: float):
    g_target = torch.tensor([25 * x], dtype=torch.float64)
    assert float(pcm.programming_sigma(g_target, DeviceSpec())) == pytest.approx(sigma, rel=1e-12)
    small = DeviceSpec(g_max=10.0, programming_noise_scale=0.5)  # the fit is relative to 25 µS
    assert float(pcm.programming_sigma(g_target * 0.4, small)) == pytest.approx(sigma * 0.4 * 0.5, rel=1e-12)


@pytest.mark.parametrize("x", [0.2, 0.5, 0.8, 1.0])  # from 8 sigma above 0 on: no clamping
def test_programming_noise_has_its_sigma(x: float):
    sigma = 0.26348 + 1.9650 * x - 1.1731 * x**2
    g = pcm.program_conductances(torch.full((N,), 25 * x), DeviceSpec(), generator=seeded())
    assert fits(g, normal(25 * x, sigma))
    assert not fits(g, normal(25 * x, sigma * 1.03))  # the test would see 3 %
    assert not fits(g, normal(25 * x + 0.02 * sigma, sigma))


def test_a_device_at_zero_is_programmed_to_half_a_normal():
    g = pcm.program_conductances(torch.zeros(N), DeviceSpec(), generator=seeded())
    assert float((g == 0).double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(N))
    assert fits(g[g > 0], stats.halfnorm(0, 0.26348))


def test_programming_scale_multiplies_the_noise():
    g_target = torch.full((100,), 12.5)
    full, double = (
        pcm.program_conductances(g_target, DeviceSpec(programming_noise_scale=scale), generator=seeded()) - g_target
        for scale in (1.0, 2.0)
    )
    torch.testing.assert_close(double, 2 * full, rtol=1e-4, atol=1e-5)


# -- drift ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nu", [0.0, 0.031, 0.05, 0.1, 0.3])
def test_drift_slope_is_minus_nu(nu: float):
    times = np.array([1.0, 60.0, HOUR, 86400.0, YEAR])
    start = torch.full((1,), 17.0, dtype=torch.float64)
    exponent = torch.full((1,), nu, dtype=torch.float64)
    g = [float(pcm.drift_conductances(start, exponent, t_inference=t, t_0=T_0)) for t in times]
    slope, intercept = np.polyfit(np.log((times + T_0) / T_0), np.log(g), 1)
    assert slope == pytest.approx(-nu, abs=1e-5)
    assert math.exp(intercept) == pytest.approx(17.0, rel=1e-5)


def test_drift_through_the_model_in_single_precision():
    device = DeviceSpec(programming_noise_scale=0.0, read_noise_scale=0.0)
    model = find_device_model(device)
    g_programmed, nu = model.program(targets(1000)[1:], device, generator=seeded())
    times = (0.0, 1.0, HOUR, YEAR)
    g = [model.read(g_programmed, nu, device, t_inference=t, generator=seeded()).double() for t in times]
    assert torch.equal(g[0], g_programmed.double())  # nothing has drifted when programming ends
    for t, aged in zip(times[1:], g[1:], strict=True):
        slope = (aged / g[0]).log() / math.log((t + T_0) / T_0)
        torch.testing.assert_close(slope, -nu.double(), rtol=0, atol=1e-5)


@given(
    st.floats(0, 25),
    st.floats(0, 1),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
)
def test_drift_only_ever_loses_conductance(g: float, nu: float, one: float, other: float):
    early, late = sorted((one, other))
    aged = [
        float(
            pcm.drift_conductances(
                torch.tensor(g, dtype=torch.float64), torch.tensor(nu, dtype=torch.float64), t_inference=t, t_0=T_0
            )
        )
        for t in (0.0, early, late)
    ]
    assert g == aged[0] >= aged[1] >= aged[2] >= 0


@pytest.mark.parametrize(
    ("x", "mean", "sigma"),
    [  # L = ln x; mean = clamp(-0.0155 L + 0.0244, 0.049, 0.1), sigma = clamp(-0.0125 L - 0.0059, 0.008, 0.045)
        (1.0, 0.049, 0.008),  # both at their lower clamps
        (0.3, 0.049, -0.0125 * math.log(0.3) - 0.0059),  # 0.04306 is clamped up, sigma 0.00915 is free
        (0.05, -0.0155 * math.log(0.05) + 0.0244, -0.0125 * math.log(0.05) - 0.0059),  # 0.07083 and 0.03155, both free
        (0.002, 0.1, 0.045),  # both at their upper clamps
        (0.0, 0.1, 0.045),  # ln 0 is taken at 1e-7
    ],
)
def test_drift_exponents_have_their_mean_and_sigma(x: float, mean: float, sigma: float):
    nu = pcm.sample_drift_nu(torch.full((N,), 25 * x), DeviceSpec(), generator=seeded())
    assert (nu >= 0).all()
    assert fits(nu, stats.foldnorm(mean / sigma, scale=sigma))  # |mean + sigma N|
    assert not fits(nu, stats.foldnorm(mean / sigma / 1.03, scale=sigma * 1.03))
    assert not fits(nu, stats.foldnorm((mean + 0.02 * sigma) / sigma, scale=sigma))


def test_drift_scale_multiplies_the_exponents():
    one, three = (
        pcm.sample_drift_nu(targets(50), DeviceSpec(drift_scale=scale), generator=seeded()) for scale in (1.0, 3.0)
    )
    torch.testing.assert_close(three, 3 * one)


@pytest.mark.parametrize(("t_inference", "t_0"), [(-1.0, 20.0), (-1e-9, 20.0), (1.0, 0.0), (1.0, -20.0)])
def test_times_outside_the_law_are_refused(t_inference: float, t_0: float):
    g = torch.ones(2)
    with pytest.raises(ConfigError, match="t_inference"):
        pcm.drift_conductances(g, g, t_inference=t_inference, t_0=t_0)


@pytest.mark.parametrize("t_inference", [math.nan, math.inf])
def test_times_that_are_no_number_are_refused(t_inference: float):
    with pytest.raises(ConfigError, match="t_inference"):  # nan passed "t < 0" and made every conductance nan
        pcm.drift_conductances(torch.ones(2), torch.ones(2), t_inference=t_inference, t_0=T_0)


def test_reading_before_programming_ended_is_refused():
    device = DeviceSpec()
    model = find_device_model(device)
    with pytest.raises(ConfigError, match="t_inference"):
        model.read(torch.ones(2), torch.ones(2), device, t_inference=-5.0, generator=seeded())


@pytest.mark.parametrize("setting", ["drift_nu_mean", "drift_nu_sigma"])
def test_crossed_clamps_are_refused(setting: str):
    with pytest.raises(ConfigError, match=setting):
        DeviceSpec(**{setting: (0.0, 0.0, 0.2, 0.1)})


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "q"),
    [
        (1.0, 0.0088),
        (0.25, 0.0088 / 0.25**0.65),  # 0.02167
        (0.001, 0.2),  # 0.0088 / 0.0112 = 0.785 is capped
        (0.0, 0.2),
    ],
)
@pytest.mark.parametrize(
    ("t_inference", "growth"),
    [
        (0.0, 4.1838),  # sqrt(ln((20 + 250e-9) / 500e-9)) = sqrt(ln 4.0e7) = sqrt(17.504) = 4.1838
        (86400.0, 5.0885),
    ],
)
def test_read_noise_sigma_by_hand(x: float, q: float, t_inference: float, growth: float):
    exact = math.sqrt(math.log((t_inference + T_0 + T_READ) / (2 * T_READ)))
    assert exact == pytest.approx(growth, rel=1e-3)
    g_programmed, g_drifted = torch.tensor([25 * x]).double(), torch.tensor([11.0]).double()
    sigma = pcm.read_noise_sigma(g_programmed, g_drifted, DeviceSpec(), t_inference=t_inference)
    assert float(sigma) == pytest.approx(
        11.0 * q * exact, rel=1e-12
    )  # Q from what was programmed, size from what is left
    half = pcm.read_noise_sigma(g_programmed, g_drifted, DeviceSpec(read_noise_scale=0.5), t_inference=t_inference)
    assert float(half) == pytest.approx(5.5 * q * exact, rel=1e-12)


@pytest.mark.parametrize("t_inference", [0.0, HOUR, YEAR])
@pytest.mark.parametrize("x", [0.2, 1.0])
def test_read_noise_has_its_sigma(x: float, t_inference: float):
    nu = 0.06
    g_left = 25 * x * ((t_inference + T_0) / T_0) ** -nu
    sigma = g_left * 0.0088 / x**0.65 * math.sqrt(math.log((t_inference + T_0 + T_READ) / (2 * T_READ)))
    device = DeviceSpec()
    g = find_device_model(device).read(
        torch.full((N,), 25 * x), torch.full((N,), nu), device, t_inference=t_inference, generator=seeded()
    )
    assert fits(g, normal(g_left, sigma))
    assert not fits(g, normal(g_left, sigma * 1.03))
    wrong_sign = 25 * x * ((t_inference + T_0) / T_0) ** nu
    assert t_inference == 0 or not fits(g, normal(wrong_sign, sigma))


def test_mean_over_reads_shrinks_with_their_root():
    device = DeviceSpec(drift_scale=0.0)
    model, generator = find_device_model(device), seeded()
    g = torch.full((4000,), 20.0)
    reads = torch.stack(
        [model.read(g, torch.zeros_like(g), device, t_inference=0.0, generator=generator) for _ in range(64)]
    )
    for n in (4, 16, 64):
        expected = float(reads[0].std()) / math.sqrt(n)
        assert float(reads[:n].mean(dim=0).std()) == pytest.approx(expected, rel=0.05)  # its own error is 1.1 %


def test_a_read_pulse_longer_than_the_reference_time_is_refused():
    with pytest.raises(ConfigError, match="t_read"):  # ln((t_0 + t_read) / (2 t_read)) would have no root
        DeviceSpec(t_0=1e-7, t_read=250e-9)


# -- resistive memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t_inference", [0.0, 2.0, HOUR, 3 * 86400.0])
def test_wan_knows_its_three_times_only(t_inference: float):
    device = DeviceSpec.reram_wan2022()
    with pytest.raises(ConfigError, match=r"measured are only 1s, 1d, 2d \(1, 86400, 172800 s\)"):
        find_device_model(device).read(
            torch.ones(2), torch.ones(2), device, t_inference=t_inference, generator=seeded()
        )


def test_wan_noise_scales_with_g_max_only_when_asked():
    sigma = 0.701 + 22.086 - 50.773 + 47.095 - 16.458  # 2.651 µS at x = 1 after a day
    for device, expected in (
        (DeviceSpec.reram_wan2022(), sigma),
        (DeviceSpec.reram_wan2022(g_max=40.0), sigma),
        (DeviceSpec.reram_wan2022(g_max_of_fit=40.0), sigma * 25 / 40),
    ):
        g = torch.full((N,), device.g_max)
        read = find_device_model(device).read(g, g, device, t_inference=86400.0, generator=seeded())
        assert fits(read, normal(device.g_max, expected))


@pytest.mark.parametrize("t_inference", [1e-7, 1.0, HOUR, YEAR])
@pytest.mark.parametrize("g", [20.0, 60.0])
def test_cmo_relaxes_with_the_logarithm_of_time(t_inference: float, g: float):
    device, log_t = DeviceSpec.reram_cmo(read_noise_scale=0.0), math.log(t_inference)
    read = find_device_model(device).read(
        torch.full((N,), g), torch.zeros(N), device, t_inference=t_inference, generator=seeded()
    )
    sigma = max(0.04201137 * log_t + 0.41183342, 0.0)
    if sigma == 0:  # the fit's sigma is negative this early
        assert torch.allclose(read, torch.tensor(g - 0.08900206 * log_t))
        return
    assert fits(read, normal(g - 0.08900206 * log_t, sigma))
    assert not fits(read, normal(g + 0.08900206 * log_t + 0.02, sigma))


def test_cmo_read_noise_by_hand_and_finite_at_zero():
    device = DeviceSpec.reram_cmo(drift_scale=0.0, g_min=0.0)
    model = find_device_model(device)
    sigma = 0.0277316483 * 1.69897 * math.sqrt(math.log(3600.000001 / 2e-6))  # log10(50)
    for g, expected in ((50.0, sigma), (0.0, 0.0), (0.9, 0.0)):
        read = model.read(torch.full((N,), g), torch.zeros(N), device, t_inference=HOUR, generator=seeded())
        if expected:
            assert fits(read, normal(g, expected))
        else:
            assert torch.equal(read, torch.full((N,), g))
    with pytest.raises(ConfigError, match=r"measured are 0.2 % and 2 %"):
        DeviceSpec.reram_cmo(acceptance=1.0)


# -- mean of reads, and drift, for all they apply to ------------------------------------------------------------------


@pytest.mark.parametrize("technology", ["pcm", "pcm_custom_drift", "reram_wan2022", "reram_cmo", "table"])
def test_mean_over_reads_shrinks_with_their_root_everywhere(technology: str):
    model, device = example(technology)
    g = torch.full((4000,), 12.5)
    state = g if technology == "reram_wan2022" else torch.zeros_like(g)
    generator, t_inference = seeded(), EXAMPLES[technology][2]
    reads = torch.stack([model.read(g, state, device, t_inference=t_inference, generator=generator) for _ in range(64)])
    for n in (4, 16, 64):
        assert float(reads[:n].mean(dim=0).std()) == pytest.approx(float(reads[0].std()) / math.sqrt(n), rel=0.05)


@pytest.mark.parametrize(("technology", "t_0"), [("pcm", 20.0), ("pcm_custom_drift", 20.0), ("table", 1.0)])
def test_drift_slope_is_minus_nu_everywhere(technology: str, t_0: float):
    model, device = example(technology, read_noise_scale=0.0, programming_noise_scale=0.0)
    g, nu = model.program(targets(100, dtype=torch.float64)[1:], device, generator=seeded())
    times = np.array([1.0, 60.0, HOUR, YEAR])
    reads = [model.read(g, nu, device, t_inference=t, generator=seeded()) for t in times]
    slopes = np.polyfit(np.log((times + t_0) / t_0), torch.stack(reads).log().numpy(), 1)[0]
    np.testing.assert_allclose(slopes, -nu.numpy(), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("g", "mean", "sigma"),
    [(0.0, 0.09, 0.04), (5.0, 0.07, 0.025), (10.0, 0.05, 0.01), (17.5, 0.04, 0.008), (25.0, 0.03, 0.006)],
)
def test_custom_drift_is_linear_between_rows(g: float, mean: float, sigma: float):
    _, device = example("pcm_custom_drift")
    nu = pcm.sample_table_nu(torch.full((N,), g), device, generator=seeded())
    assert fits(nu, stats.foldnorm(mean / sigma, scale=sigma))
    assert not fits(nu, stats.foldnorm(mean / sigma / 1.03, scale=sigma * 1.03))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (((0.0, 0.1, 0.1),), "at least 2"),
        (((0.0, 0.1, 0.1), (0.0, 0.1, 0.1)), "must ascend"),
        (((0.0, 0.1, 0.1), (20.0, 0.1, 0.1)), "covers 0.0 .. 20.0"),
        (((0.0, 0.1, 0.1), (25.0, 0.1, -0.1)), "negative sigma"),
    ],
)
def test_faulty_drift_tables_are_refused(table: tuple, message: str):
    with pytest.raises(ConfigError, match=message):
        DeviceSpec.pcm_custom_drift(drift_table=table)


# -- the family of specs ----------------------------------------------------------------------------------------------


def test_a_device_without_technology_is_pcm():
    assert type(DeviceSpec()) is type(DeviceSpec.pcm()) is PCMSpec
    assert DeviceSpec() == DeviceSpec.pcm() == PCMSpec() == TileSpec().device
    assert type(TileSpec(device={"technology": "ideal"}).device) is IdealSpec
    assert TileSpec(device={"drift_scale": 0.5}).device == DeviceSpec.pcm(drift_scale=0.5)
    assert "oneOf" in json.dumps(TileSpec.model_json_schema())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"g_min": 25.0}, "g_min must be below g_max"),
        ({"stuck_off": 0.6, "stuck_on": 0.6}, "at most 1"),
        ({"stuck_off": -0.1}, "stuck_off"),
        ({"converter": {"kind": "pear"}}, "custom_pair"),
        ({"converter": {"kind": "pair", "significance": [0.0]}}, "must be positive"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 25]], "g_minus": [[25, 0, 0]]}}, "common length"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 3, 25]], "g_minus": [[25, 0, 0]]}}, "straight line"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 26]], "g_minus": [[26, 0]]}}, "above g_max"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, 25]] * 2, "g_minus": [[25, 0]]}}, "one table for each"),
        ({"converter": {"kind": "custom_pair", "g_plus": [[0, -2]], "g_minus": [[25, 0]]}}, "negative"),
    ],
)
def test_impossible_devices_are_refused(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        DeviceSpec(**settings)


# -- converters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("converter", "g_min", "expected"),
    [  # of the weights 1, 0.5, -0.1 at g_max = 10
        (PairConverter(), 0.0, [[10, 5, 0], [0, 0, 1]]),
        (PairConverter(), 2.0, [[10, 6, 2], [2, 2, 2.8]]),
        # range 10 + 30: 0.5 is 20, of which the first pair takes 10 and the second 10 / 3
        (PairConverter(significance=(1, 3)), 0.0, [[10, 10, 0], [0, 0, 4], [10, 10 / 3, 0], [0, 0, 0]]),
        (SingleConverter(), 0.0, [[10, 6 / 1.1, 0]]),
        (CustomPairConverter(g_plus=((0, 5, 10),), g_minus=((10, 5, 0),)), 0.0, [[10, 7.5, 4.5], [0, 2.5, 5.5]]),
    ],
)
def test_conductances_by_hand(converter: object, g_min: float, expected: list):
    device = DeviceSpec(g_max=10.0, g_min=g_min, converter=converter)
    weights = torch.tensor([[1.0, 0.5, -0.1]], dtype=torch.float64)
    found, scale = convert_to_conductances(weights, device)
    torch.testing.assert_close(torch.cat(found), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(convert_to_weights(found, scale, device), weights)


@pytest.mark.parametrize("converter", [PairConverter(), PairConverter(significance=(1, 2)), SingleConverter()])
def test_a_crossbar_of_zeros_stays_finite(converter: object):
    device = DeviceSpec(converter=converter, programming_noise_scale=0.0)
    chip = program_crossbar(torch.zeros(2, 3), device, generator=seeded())
    read = read_crossbar(chip, device, t_inference=HOUR, generator=seeded())
    assert torch.equal(chip.weights, torch.zeros(2, 3))
    assert torch.allclose(read, torch.zeros(2, 3), atol=1e-6)


# -- stuck devices ----------------------------------------------------------------------------------------------------

#: No other effects.
STUCK_ONLY = DeviceSpec.ideal(stuck_off=0.1, stuck_on=0.05)


def test_fractions_of_devices_are_stuck_for_the_life_of_a_chip():
    weights = torch.full((400, 500), 0.5)
    weights[0, 0] = 1.0
    chip = program_crossbar(weights, STUCK_ONLY, generator=seeded())
    # positive device at 0.5, negative at 0: either may be off (0) or on (1)
    plus, minus = {0.0: 0.1, 1.0: 0.05, 0.5: 0.85}, {0.0: 0.95, 1.0: 0.05}
    shares: dict[float, float] = {}
    for p, share_p in plus.items():
        for m, share_m in minus.items():
            shares[p - m] = shares.get(p - m, 0.0) + share_p * share_m
    values, counts = chip.weights.flatten()[1:].unique(return_counts=True)
    assert values.tolist() == sorted(shares)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        share = shares[value]
        assert count / 199_999 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 199_999))
    for t in (0.0, YEAR):
        read = read_crossbar(chip, STUCK_ONLY, t_inference=t, generator=seeded(7))
        torch.testing.assert_close(read, chip.weights)


@pytest.mark.parametrize("converter", [PairConverter(), PairConverter(significance=(1, 4)), SingleConverter()])
@pytest.mark.parametrize("technology", ["pcm", "reram_cmo", "table"])
def test_stuck_devices_neither_drift_nor_vary(technology: str, converter: object):
    _, device = example(technology, converter=converter, stuck_off=0.5, stuck_on=0.5)
    chip = program_crossbar(torch.randn(20, 30, generator=seeded()), device, generator=seeded())
    for seed in (1, 2):
        read = read_crossbar(chip, device, t_inference=HOUR, generator=seeded(seed))
        torch.testing.assert_close(read, chip.weights)


def test_healthy_devices_are_programmed_alike_with_and_without_stuck_ones():
    weights = torch.randn(40, 30, generator=seeded())
    plain = program_crossbar(weights, DeviceSpec(), generator=seeded(3))
    chip = program_crossbar(weights, DeviceSpec(stuck_off=0.1), generator=seeded(3))
    healthy = ~chip.stuck.cells()
    assert 0.7 < float(healthy.float().mean()) < 0.9
    assert torch.equal(chip.weights[healthy], plain.weights[healthy])


def test_no_stuck_devices_draw_nothing():
    generators = seeded(3), seeded(3)
    weights = torch.randn(4, 3, generator=seeded())
    program_crossbar(weights, DeviceSpec.ideal(), generator=generators[0])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    program_crossbar(weights, STUCK_ONLY, generator=generators[0])
    assert not torch.equal(generators[0].get_state(), generators[1].get_state())


def test_single_pairs_keep_one_exponent_and_the_order_of_draws():
    """What earlier versions drew: programming and exponent of the positive devices, then of the negative ones."""
    weights, generator, device = torch.randn(7, 5, generator=seeded()), seeded(3), DeviceSpec()
    scale = 25.0 / weights.abs().max()
    arrays = []
    for sign in (1, -1):
        g = (weights * sign * scale).clamp(min=0)
        g_programmed = pcm.program_conductances(g, device, generator=generator)
        arrays.append((g_programmed, pcm.sample_drift_nu(g, device, generator=generator)))
    (g_plus, nu_plus), (g_minus, nu_minus) = arrays
    chip = program_crossbar(weights, device, generator=seeded(3))
    assert torch.equal(chip.weights, (g_plus - g_minus) / scale)
    assert torch.equal(chip.drift_nu, torch.where(chip.weights >= 0, nu_plus, nu_minus))
    again = 25.0 / chip.weights.abs().max()
    g_read = pcm.PCMModel().read(
        chip.weights.abs() * again, chip.drift_nu, device, t_inference=HOUR, generator=seeded(4)
    )
    read = read_crossbar(ProgrammedCrossbar(chip.weights, chip.drift_nu), device, t_inference=HOUR, generator=seeded(4))
    assert torch.equal(read, torch.copysign(g_read / again, chip.weights))


# -- devices from files -----------------------------------------------------------------------------------------------


def constant(name: str, value: str) -> str:
    return f'[{name}]\nvalue = {value}\nunit = "µS"\nsource = "lab"\nkind = "measured"\n'


def test_device_from_toml(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(constant("g_max", "20.0") + constant("programming_noise", "[[0.0, 0.2], [10.0, 0.6], [20.0, 0.4]]"))
    device = DeviceSpec.from_toml(path, stuck_off=0.01)
    assert (device.technology, device.g_max, device.stuck_off) == ("table", 20.0, 0.01)
    for g, sigma in ((10.0, 0.6), (15.0, 0.5), (5.0, 0.4)):
        g_programmed, _ = find_device_model(device).program(torch.full((N,), g), device, generator=seeded())
        assert fits(g_programmed, normal(g, sigma))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("[g_max\n", ArtifactError, "mine.toml: not valid TOML"),
        ("[g_max]\nvalue = 3\n", ArtifactError, "mine.toml:g_max: got the keys"),
        (constant("g_mx", "3.0"), ConfigError, "mine.toml:g_mx: unknown setting(.|\n)*did you mean 'g_max'"),
        (constant("g_max", "-3.0"), ConfigError, "mine.toml:g_max: got -3.0"),
        (constant("read_noise", "[0.1, -0.2]"), ConfigError, "read_noise is negative at"),
        (constant("read_noise", "[[3.0, 0.1], [2.0, 0.1]]"), ConfigError, "read_noise must ascend"),
        (constant("read_noise", "[]"), ConfigError, "read_noise is empty"),
    ],
)
def test_faulty_device_files_are_refused(text: str, error: type[Exception], message: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        DeviceSpec.from_toml(path)


def test_missing_device_files_are_refused(tmp_path: Path):
    for read in (DeviceSpec.from_toml, DeviceSpec.from_samples):
        with pytest.raises(ArtifactError, match="no such file"):
            read(tmp_path / "none")


HEADER = "target,time,conductance\n"


def test_device_from_samples(tmp_path: Path):
    """Normal spreads around 0.9 and 0.7 times the target at 1 s and 10,000 s; between, linear in target and log time."""
    draw, rows = np.random.default_rng(1), []
    for target in (0.0, 10.0, 20.0):
        for time, share in ((1.0, 0.9), (10_000.0, 0.7)):
            g = np.abs(share * target + draw.normal(0, 1, 4000))
            rows += [f"{target},{time},{each:.6f}" for each in g]
    path = tmp_path / "mine.csv"
    path.write_text(HEADER + "# a comment\n" + "\n".join(rows) + "\n")
    device = DeviceSpec.from_samples(path)
    assert (device.g_min, device.g_max, device.times) == (0.0, 20.0, (1.0, 10_000.0))
    model = find_device_model(device)
    g_programmed, state = model.program(torch.full((50_000,), 15.0), device, generator=seeded())
    for t, mean in ((0.0, 13.5), (1.0, 13.5), (100.0, 12.0), (10_000.0, 10.5)):
        g = model.read(g_programmed, state, device, t_inference=t, generator=seeded())
        assert float(g.mean()) == pytest.approx(mean, abs=0.05)
        assert float(g.std()) == pytest.approx(1.0, rel=0.05)
        assert stats.spearmanr(g.numpy(), g_programmed.numpy()).statistic == pytest.approx(1.0)  # the rank is kept
    with pytest.raises(ConfigError, match="the last measurement is at 10000 s"):
        model.read(g_programmed, state, device, t_inference=10_001.0, generator=seeded())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.csv: empty"),
        ("g,t\n", "mine.csv:1: got the header 'g,t'"),
        (HEADER + "1,1,1\n1,1\n", "mine.csv:3: got 2 columns"),
        (HEADER + "1,1,many\n", "mine.csv:2: conductance: got 'many'"),
        (HEADER + "1,1,nan\n", "mine.csv:2: conductance: got 'nan'"),
        (HEADER + "-1,1,1\n", "mine.csv:2: target: got '-1'"),
        (HEADER + "1,0,1\n", "mine.csv:2: time: got 0"),
        (HEADER + "1,1,1\n" * 10, "got 1 targets"),
        (HEADER + "0,1,1\n" * 10 + "5,1,1\n" * 9, "target 5 µS at 1 s: got 9 samples"),
        (HEADER + "0,1,1\n" * 10 + "5,2,1\n" * 10, "target 0 µS at 2 s: got 0 samples"),
    ],
)
def test_faulty_samples_are_refused(text: str, message: str, tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=message):
        DeviceSpec.from_samples(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"times": (0.0, 1.0)}, "times must be positive"),
        ({"targets": (0.0, 10.0, 20.0)}, "targets cover 0.0 .. 20.0"),
        ({"quantiles": ranks(2.0)[:2]}, "targets x times x ranks"),
        ({"quantiles": tuple(tuple(row[::-1] for row in times) for times in ranks(2.0))}, "ascending over the ranks"),
    ],
)
def test_faulty_quantiles_are_refused(changed: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        DeviceSpec(technology="samples", **{**SAMPLES, **changed})


def test_the_template_of_the_page_is_a_device(tmp_path: Path):
    page = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
    template = page.split("## A device from curves")[1].split("```toml\n")[1].split("```")[0]
    path = tmp_path / "template.toml"
    path.write_text(template, encoding="utf-8")
    device = DeviceSpec.from_toml(path)
    assert (device.g_max, device.t_0, device.t_read, device.drift_nu_sigma) == (20.0, 20.0, None, (0.01,))


def test_samples_are_read_with_the_scale_of_programming():
    _, device = example("samples")
    chip = program_crossbar(torch.randn(20, 30, generator=seeded()), device, generator=seeded())
    read = read_crossbar(chip, device, t_inference=1.0, generator=seeded())
    torch.testing.assert_close(read, chip.weights)  # though the largest programmed weight is not the largest target


@pytest.mark.parametrize("converter", [PairConverter(), PairConverter(significance=(1, 4))])
def test_weights_with_stuck_devices_keep_their_scale(converter: object):
    device = DeviceSpec(converter=converter, read_noise_scale=0.0, drift_scale=0.0, stuck_off=0.05, stuck_on=0.05)
    chip = program_crossbar(torch.randn(50, 40, generator=seeded()), device, generator=seeded())
    read = read_crossbar(chip, device, t_inference=HOUR, generator=seeded())
    torch.testing.assert_close(read, chip.weights, rtol=1e-4, atol=1e-5)


def test_cmo_read_noise_follows_what_is_left():
    device = DeviceSpec.reram_cmo(relaxation_mean=-5.0, relaxation_sigma=(0.0, 0.0), g_min=0.0)
    g_left = 60 - 5 * math.log(HOUR)  # 19.06 µS
    read = find_device_model(device).read(
        torch.full((N,), 60.0), torch.zeros(N), device, t_inference=HOUR, generator=seeded()
    )
    sigma = 0.0277316483 * math.log10(g_left) * math.sqrt(math.log(3600.000001 / 2e-6))
    assert fits(read, normal(g_left, sigma))
