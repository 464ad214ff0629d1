"""Settings and physics of conductive-metal-oxide/HfOx (CMO/HfOx) resistive memory.

By default one device represents a weight. After programming, the conductance changes with the logarithm of time. All
conductances are in µS. Coefficients and their sources are in ``reram_cmo.toml``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from lionheart.devices.base import TECHNOLOGY, DeviceSpec, default_of, register_device
from lionheart.devices.converter import Converter, SingleConverter
from lionheart.devices.sampling import check_time, normal_like

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _cmo(name: str) -> Any:
    return default_of("reram_cmo.toml", name)


@final
class ReRAMCMOSpec(DeviceSpec):
    """Settings of conductive-metal-oxide/HfOx (CMO/HfOx) resistive memory.

    By default one device represents a weight. After programming, the conductance changes with the logarithm of time.
    """

    summary: ClassVar[str] = "CMO/HfOx resistive memory, one device per weight"
    constants_file: ClassVar[str | None] = "reram_cmo.toml"

    technology: Literal["reram_cmo"] = Field("reram_cmo", description=TECHNOLOGY)
    g_max: float = Field(_cmo("g_max"), gt=0, description="largest conductance [µS]")
    g_min: float = Field(_cmo("g_min"), ge=0, description="smallest conductance [µS]")
    converter: Converter = Field(default_factory=SingleConverter, description="how devices represent a weight")
    acceptance: float = Field(0.2, description="acceptance range of program-and-verify: 0.2 or 2 [% of the target]")
    programming_noise: tuple[float, float] | None = Field(
        None, description="c0 and c1 of sigma = c0 + c1 g with g in µS [µS]; None = values of the acceptance range"
    )
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    relaxation_mean: float = Field(_cmo("relaxation_mean"), description="mean change per unit of ln(t / 1 s) [µS]")
    relaxation_sigma: tuple[float, float] = Field(
        _cmo("relaxation_sigma"),
        description="sigma of the change: slope on ln(t / 1 s), offset [µS]",
    )
    drift_scale: float = Field(1.0, ge=0, description="multiplies mean and sigma of the relaxation [-]")
    read_noise: float = Field(
        _cmo("read_noise"),
        ge=0,
        description="K of sigma = K log10(g / 1 µS) sqrt(ln((t + t_read) / (2 t_read))) [µS]",
    )
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_read: float = Field(_cmo("t_read"), gt=0, description="width of a read pulse [s]")

    @model_validator(mode="after")
    def _check_acceptance(self) -> Self:
        if self.acceptance not in (0.2, 2.0):
            raise ValueError(
                f"acceptance must be 0.2 or 2, in percent of the target conductance, got {self.acceptance}"
            )
        return self

    def programming_coefficients(self) -> tuple[float, float]:
        """Return ``c0`` [µS] and ``c1`` [-] of the standard deviation of the programming noise.

        The standard deviation is ``c0 + c1 g`` [µS], where ``g`` is the target conductance [µS]. The coefficients are the
        setting ``programming_noise``. If ``programming_noise`` is None, ``c0`` and ``c1`` are the default coefficients for the
        setting ``acceptance``.
        """
        if self.programming_noise is not None:
            return self.programming_noise
        name = "programming_noise_0p2" if self.acceptance == 0.2 else "programming_noise_2"
        c0, c1 = _cmo(name)
        return c0, c1


@register_device(ReRAMCMOSpec)
class ReRAMCMOModel:
    """Physics of conductive-metal-oxide/HfOx (CMO/HfOx) resistive memory.

    The standard deviation of the programming noise is a linear function of the target conductance. The change of the
    conductance over time does not depend on the conductance. Each read adds noise.
    """

    silent_at_zero = False
    reads_targets = False

    def program(self, g_target: Tensor, device: ReRAMCMOSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the programmed conductances [µS] and a tensor of zeros as states, both shaped like `g_target`.

        The states are not used by `read`. The programming noise is ``scale * (c0 + c1 g) N``, where ``scale`` is
        ``device.programming_noise_scale``, ``g`` is the target conductance and ``N`` is a standard normal number.
        `ReRAMCMOSpec.programming_coefficients` returns ``c0`` and ``c1``. As in AIHWKIT, the programmed conductances are not
        limited to positive values. With default settings, ``g_min`` is at least 79 standard deviations of the noise above 0 µS.
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
        """Return the conductances that one noisy read measures, clamped to ``g_min .. g_max`` [µS].

        At ``t_inference = 0`` the programmed conductances ``g`` are returned without noise. At later times
        ``t = t_inference`` [s] after programming, the conductance first relaxes to
        ``g_relaxed = g + drift_scale * (m ln t + (s1 ln t + s0) N)``. The read then returns
        ``g_relaxed + read_noise_scale * K log10(g_relaxed) sqrt(ln((t + t_read) / (2 t_read))) N'``. ``N`` and ``N'`` are
        standard normal numbers. In the settings `device`, ``m`` is ``relaxation_mean``, ``s1`` and ``s0`` are
        ``relaxation_sigma``, and ``K`` is ``read_noise``. Conductances are in µS, times in s. The read noise is 0 for
        ``g_relaxed`` below 1 µS, where the logarithm is negative or undefined. At very early times, the formulas give a
        negative or undefined standard deviation, which is replaced by 0.

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
