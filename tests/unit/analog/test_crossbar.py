"""Crossbars of devices: programming, reading, stuck devices."""

import math

import pytest
import torch
from device_examples import HOUR, YEAR, example, seeded

from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar, read_crossbar
from lionheart.devices import (
    DeviceSpec,
    PairConverter,
    SingleConverter,
    pcm,
)


@pytest.mark.parametrize("converter", [PairConverter(), PairConverter(significance=(1, 2)), SingleConverter()])
def test_a_crossbar_of_zeros_stays_finite(converter: object):
    device = DeviceSpec(converter=converter, programming_noise_scale=0.0)
    chip = program_crossbar(torch.zeros(2, 3), device, generator=seeded())
    read = read_crossbar(chip, device, t_inference=HOUR, generator=seeded())
    assert torch.equal(chip.weights, torch.zeros(2, 3))
    assert torch.allclose(read, torch.zeros(2, 3), atol=1e-6)


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
