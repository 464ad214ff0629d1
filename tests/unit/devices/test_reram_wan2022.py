"""Resistive memory of Wan et al. (2022).

Formulas are written out again here from the papers' numbers, not imported, so a changed coefficient fails.
"""

import pytest
import torch
from device_examples import HOUR, N, fits, normal, seeded

from lionheart.devices import DeviceSpec, find_device_model
from lionheart.errors import ConfigError


@pytest.mark.parametrize("t_inference", [0.0, 2.0, HOUR, 3 * 86400.0])
def test_wan_knows_its_three_times_only(t_inference: float):
    device = DeviceSpec.reram_wan2022()
    with pytest.raises(ConfigError, match=r"expected one of the measured times 1s, 1d, 2d \(1, 86400, 172800 s\)"):
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
