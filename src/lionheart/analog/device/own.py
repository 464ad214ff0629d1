"""Devices that the user defines: by curves in a TOML file, or by measurements in a CSV. All conductances in µS."""

from __future__ import annotations

import bisect
import math

import torch
from torch import Tensor

from lionheart.analog.device.curves import evaluate_curve, interpolate_points
from lionheart.analog.device.pcm import drift_conductances
from lionheart.analog.device.registry import register_device
from lionheart.analog.device.sampling import check_time, normal_like, uniform_like
from lionheart.devices import SamplesSpec, TableSpec
from lionheart.errors import ConfigError
from lionheart.units import format_duration


@register_device("table")
class TableModel:
    """Programming, drift by a power law, read noise; each from its curve."""

    silent_at_zero = False  # the read noise is in µS and need not vanish at 0
    reads_targets = False

    def program(self, g_target: Tensor, device: TableSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return ``max(g_target + sigma N, 0)`` [µS] and drift exponents ``mean + sigma N`` [-], which may be negative."""
        sigma = evaluate_curve(device.programming_noise, g_target, device.g_max)
        noise = normal_like(g_target, generator).mul_(sigma).mul_(device.programming_noise_scale)
        nu = normal_like(g_target, generator).mul_(evaluate_curve(device.drift_nu_sigma, g_target, device.g_max))
        nu = nu.add_(evaluate_curve(device.drift_nu_mean, g_target, device.g_max)).mul_(device.drift_scale)
        return noise.add_(g_target).clamp_(min=0), nu

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: TableSpec,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return one noisy read [µS], never negative; `state` is the drift exponent."""
        g_drifted = drift_conductances(g_programmed, state, t_inference=t_inference, t_0=device.t_0)
        growth = device.read_noise_scale
        if device.t_read is not None:
            growth *= math.sqrt(math.log((t_inference + device.t_0 + device.t_read) / (2 * device.t_read)))
        sigma = evaluate_curve(device.read_noise, g_drifted, device.g_max).clamp_(min=0)
        return normal_like(g_drifted, generator).mul_(sigma).mul_(growth).add_(g_drifted).clamp_(min=0)


@register_device("samples")
class SamplesModel:
    """Quantiles of measured conductances; each device has a rank, drawn when it is programmed and kept.

    Assumes:
        A device keeps its rank over time, so it ages along a quantile. The measurements need not follow single devices, and
        read noise is not told apart from the spread of devices: two reads at the same time are equal.
    """

    silent_at_zero = False
    reads_targets = True

    def program(self, g_target: Tensor, device: SamplesSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return conductances at the first measured time [µS]; the state holds targets [µS] and ranks [-]."""
        state = torch.stack([g_target, uniform_like(g_target, generator)])
        return self.read(g_target, state, device, t_inference=0.0, generator=generator), state

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: SamplesSpec,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the measured quantiles [µS]; before the first measured time they are those of that time.

        Raises:
            ConfigError: The time is after the last measurement.
        """
        check_time(t_inference)
        if t_inference > device.times[-1]:
            raise ConfigError(
                f"samples: got t_inference = {t_inference:g} s, the last measurement is at {device.times[-1]:g} s "
                f"({format_duration(device.times[-1])})",
                hint="measure longer, or evaluate at earlier times",
            )
        g_target, rank = state
        table = _quantiles_at(g_target, device, t_inference)  # (targets, ranks)
        place = rank * (table.shape[1] - 1)
        low = place.long().clamp_(0, table.shape[1] - 2)
        share = place - low
        number = interpolate_points(g_target, device.targets, range(len(device.targets)))
        left = number.long().clamp_(0, len(device.targets) - 2)
        one = torch.lerp(table[left, low], table[left, low + 1], share)
        other = torch.lerp(table[left + 1, low], table[left + 1, low + 1], share)
        return torch.lerp(one, other, number - left)


def _quantiles_at(like: Tensor, device: SamplesSpec, t_inference: float) -> Tensor:
    table = like.new_tensor(device.quantiles)  # (targets, times, ranks)
    right = bisect.bisect_left(device.times, t_inference)
    if right == 0:
        return table[:, 0]
    early, late = device.times[right - 1], device.times[right]
    return torch.lerp(table[:, right - 1], table[:, right], math.log(t_inference / early) / math.log(late / early))
