"""One crossbar: signed weights on pairs of devices, programmed, drifted, read. Pure functions.

Weights are in tile units, ``(cols, rows)``, the largest of each column 1. A weight is the difference of two devices of which
one holds the target and the other is at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from lionheart.analog.device import find_device_model
from lionheart.specs import DeviceSpec

_SMALLEST_WEIGHT = 1e-7  # keeps an all-zero crossbar finite, as AIHWKIT does


@final
@dataclass(frozen=True)
class ProgrammedCrossbar:
    """What programming left behind.

    Args:
        weights: ``(cols, rows)``, at the end of programming [tile units].
        drift_nu: ``(cols, rows)``, exponent of the device that holds the weight [-].
    """

    weights: Tensor
    drift_nu: Tensor


def program_crossbar(weights: Tensor, device: DeviceSpec, *, generator: torch.Generator) -> ProgrammedCrossbar:
    """Program weights on pairs of devices; both devices of a pair get programming noise.

    Args:
        weights: ``(cols, rows)`` [tile units]; the largest magnitude maps to ``g_max``.
        device: The technology.
        generator: Source of this chip's noise.
    """
    model = find_device_model(device)
    scale = device.g_max / weights.abs().amax().clamp(min=_SMALLEST_WEIGHT)
    g_plus, nu_plus = model.program((weights * scale).clamp_(min=0), device, generator=generator)
    g_minus, nu_minus = model.program((weights * -scale).clamp_(min=0), device, generator=generator)
    programmed = (g_plus - g_minus) / scale
    return ProgrammedCrossbar(programmed, torch.where(programmed >= 0, nu_plus, nu_minus))


def read_crossbar(
    crossbar: ProgrammedCrossbar, device: DeviceSpec, *, t_inference: float, generator: torch.Generator
) -> Tensor:
    """Return the weights at `t_inference` [s] with one draw of read noise, ``(cols, rows)`` [tile units].

    As in AIHWKIT the pair is represented by its net conductance, rescaled so that the largest is ``g_max``; it drifts with the
    exponent of the device that dominates.
    """
    model = find_device_model(device)
    scale = device.g_max / crossbar.weights.abs().amax().clamp(min=_SMALLEST_WEIGHT)
    g_read = model.read(
        crossbar.weights.abs() * scale, crossbar.drift_nu, device, t_inference=t_inference, generator=generator
    )
    return torch.copysign(g_read / scale, crossbar.weights)
