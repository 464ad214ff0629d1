"""Resistive memory: Wan et al. (2022), and conductive-metal-oxide (CMO) HfOx. All conductances in µS.

Coefficients and their sources are in ``devices/reram_wan2022.toml`` and ``reram_cmo.toml``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lionheart.analog.device.curves import evaluate_polynomial
from lionheart.analog.device.registry import register_device
from lionheart.analog.device.sampling import check_time, normal_like
from lionheart.devices import ReRAMCMOSpec, ReRAMWan2022Spec
from lionheart.errors import ConfigError
from lionheart.units import format_duration


def spread_sigma(g_target: Tensor, device: ReRAMWan2022Spec, *, index: int) -> Tensor:
    """Return the standard deviation around the target [µS] at the measured time of this index.

    Source:
        Wan et al., Nature 608, 504 (2022), as fitted by AIHWKIT's ReRamWan2022NoiseModel.
    """
    scale = device.noise_scale * (device.g_max / device.g_max_of_fit if device.g_max_of_fit is not None else 1.0)
    return evaluate_polynomial(g_target / device.g_max, device.noise[index]).mul_(scale)


@register_device("reram_wan2022")
class ReRAMWan2022Model:
    """At each measured time a fresh spread around the target; what was programmed is not remembered."""

    silent_at_zero = False
    reads_targets = False  # it does; but AIHWKIT converts back with the scale of the programmed weights, and so do we

    def program(
        self, g_target: Tensor, device: ReRAMWan2022Spec, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return conductances at the first measured time [µS], and the targets [µS]."""
        return self._spread(g_target, device, 0, generator), g_target.clone()

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: ReRAMWan2022Spec,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the conductances at a measured time [µS]; `state` is the target.

        Raises:
            ConfigError: Nothing was measured at this time.
        """
        if t_inference not in device.times:
            raise ConfigError(
                f"reram_wan2022: got t_inference = {t_inference} s, measured are only "
                f"{', '.join(format_duration(t) for t in device.times)} ({', '.join(f'{t:g}' for t in device.times)} s)",
                hint="evaluate at these times, or use another technology: these data say nothing about times between",
            )
        return self._spread(state, device, device.times.index(t_inference), generator)

    @staticmethod
    def _spread(g_target: Tensor, device: ReRAMWan2022Spec, index: int, generator: torch.Generator) -> Tensor:
        noise = normal_like(g_target, generator)
        return noise.mul_(spread_sigma(g_target, device, index=index)).add_(g_target).clamp_(min=0)


@register_device("reram_cmo")
class ReRAMCMOModel:
    """Programming noise linear in g, then a relaxation that does not depend on g, then read noise."""

    silent_at_zero = False
    reads_targets = False

    def program(self, g_target: Tensor, device: ReRAMCMOSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return programmed conductances [µS] and a state of zeros.

        The noise is ``scale * (c0 + c1 g) N``. As in AIHWKIT nothing is clamped here: the default g_min is at least 79
        sigma from 0.
        """
        c0, c1 = device.programming_coefficients()
        sigma = (g_target * c1).add_(c0).mul_(device.programming_noise_scale)
        g_programmed = normal_like(g_target, generator).mul_(sigma).add_(g_target)
        return g_programmed, g_target.new_zeros(()).expand_as(g_target)

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: ReRAMCMOSpec,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return one noisy read within ``g_min .. g_max`` [µS]; at ``t_inference = 0`` what was programmed.

        ``g_relaxed = g + scale * (m ln t + (s1 ln t + s0) N)``, then
        ``g_relaxed + scale * K log10(g_relaxed) sqrt(ln((t + t_read) / (2 t_read))) N``. Below 1 µS, where the logarithm
        would be negative or not exist, the read noise is 0; so is any sigma that an extremely early time makes negative.

        Source:
            AIHWKIT 1.1.0 inference/noise/reram.py, ReRamCMONoiseModel.
        """
        check_time(t_inference)
        if t_inference == 0:
            return g_programmed.clone()
        slope, offset = device.relaxation_sigma
        log_t = math.log(t_inference)
        relaxation = normal_like(g_programmed, generator).mul_(max(slope * log_t + offset, 0.0))
        g_relaxed = relaxation.add_(device.relaxation_mean * log_t).mul_(device.drift_scale).add_(g_programmed)
        growth = math.sqrt(max(math.log((t_inference + device.t_read) / (2 * device.t_read)), 0.0))
        sigma = g_relaxed.clamp(min=1).log10_().mul_(device.read_noise * growth * device.read_noise_scale)
        return normal_like(g_relaxed, generator).mul_(sigma).add_(g_relaxed).clamp_(device.g_min, device.g_max)
