"""A device that takes any conductance exactly and keeps it."""

from __future__ import annotations

import torch
from torch import Tensor

from lionheart.analog.device.registry import register_device
from lionheart.devices import DeviceSpec


@register_device("ideal")
class IdealModel:
    """Neither noise nor drift."""

    silent_at_zero = True
    reads_targets = False

    def program(self, g_target: Tensor, device: DeviceSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the targets and a state of zeros."""
        return g_target.clone(), torch.zeros_like(g_target)

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: DeviceSpec,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return what was programmed."""
        return g_programmed.clone()
