"""Phase-change memory: the laws of programming, drift and reading.

Formulas are written out again here from the papers' numbers, not imported, so a changed coefficient fails.
"""

import math

import numpy as np
import pytest
import torch
from device_examples import HOUR, YEAR, N, example, fits, normal, seeded, targets
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lionheart.devices import DeviceSpec, find_device_model, pcm
from lionheart.errors import ConfigError

T_0, T_READ = 20.0, 250e-9


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
        (((0.0, 0.1, 0.1), (0.0, 0.1, 0.1)), "ascending order"),
        (((0.0, 0.1, 0.1), (20.0, 0.1, 0.1)), "must cover the range .* got 0.0 .. 20.0"),
        (((0.0, 0.1, 0.1), (25.0, 0.1, -0.1)), "standard deviation of the drift exponent, must be >= 0"),
    ],
)
def test_faulty_drift_tables_are_refused(table: tuple, message: str):
    with pytest.raises(ConfigError, match=message):
        DeviceSpec.pcm_custom_drift(drift_table=table)


@pytest.mark.parametrize(("technology", "t_0"), [("pcm", 20.0), ("pcm_custom_drift", 20.0), ("table", 1.0)])
def test_drift_slope_is_minus_nu_everywhere(technology: str, t_0: float):
    model, device = example(technology, read_noise_scale=0.0, programming_noise_scale=0.0)
    g, nu = model.program(targets(100, dtype=torch.float64)[1:], device, generator=seeded())
    times = np.array([1.0, 60.0, HOUR, YEAR])
    reads = [model.read(g, nu, device, t_inference=t, generator=seeded()) for t in times]
    slopes = np.polyfit(np.log((times + t_0) / t_0), torch.stack(reads).log().numpy(), 1)[0]
    np.testing.assert_allclose(slopes, -nu.numpy(), rtol=0, atol=1e-8)
