"""CMO/HfOx resistive memory: relaxation and read noise.

Formulas are written out again here from the papers' numbers, not imported, so a changed coefficient fails.
"""

import math

import pytest
import torch
from device_examples import HOUR, YEAR, N, fits, normal, seeded

from lionheart.devices import DeviceSpec, find_device_model
from lionheart.errors import ConfigError


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
    with pytest.raises(ConfigError, match=r"acceptance must be 0.2 or 2"):
        DeviceSpec.reram_cmo(acceptance=1.0)


def test_cmo_read_noise_follows_what_is_left():
    device = DeviceSpec.reram_cmo(relaxation_mean=-5.0, relaxation_sigma=(0.0, 0.0), g_min=0.0)
    g_left = 60 - 5 * math.log(HOUR)  # 19.06 µS
    read = find_device_model(device).read(
        torch.full((N,), 60.0), torch.zeros(N), device, t_inference=HOUR, generator=seeded()
    )
    sigma = 0.0277316483 * math.log10(g_left) * math.sqrt(math.log(3600.000001 / 2e-6))
    assert fits(read, normal(g_left, sigma))
