"""The ideal device."""

import torch
from device_examples import YEAR, seeded, targets

from lionheart.devices import DeviceSpec, find_device_model


def test_ideal_is_the_identity():
    device = DeviceSpec.ideal()
    model = find_device_model(device)
    g_target = targets(33, 7)
    g_programmed, nu = model.program(g_target, device, generator=seeded())
    assert torch.equal(g_programmed, g_target)
    assert torch.equal(nu, torch.zeros_like(nu))
    assert torch.equal(model.read(g_programmed, nu, device, t_inference=YEAR, generator=seeded()), g_target)
