"""Settings and physics of the resistive memory (ReRAM) that Wan et al. measured, Nature 608 (2022).

The conductance of a device deviates randomly from the target conductance. The standard deviation was measured at a few times
after programming. All conductances are in µS. Coefficients and their sources are in ``reram_wan2022.toml``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from lionheart.devices.base import TECHNOLOGY, DeviceSpec, default_of, register_device
from lionheart.devices.curves import evaluate_polynomial, require_ascending
from lionheart.devices.sampling import normal_like
from lionheart.devices.times import ReadTimes
from lionheart.errors import ConfigError
from lionheart.units import format_duration

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _wan(name: str) -> Any:
    return default_of("reram_wan2022.toml", name)


@final
class ReRAMWan2022Spec(DeviceSpec):
    """Settings of the resistive memory (ReRAM) that Wan et al. measured, Nature 608 (2022).

    The conductance of a device deviates randomly from the target conductance. The standard deviation was measured at a few
    times after programming, and devices can be read at these times only. The mean conductance does not drift.
    """

    summary: ClassVar[str] = "resistive memory of Wan et al. (2022): 1 s, 1 day, 2 days"
    constants_file: ClassVar[str | None] = "reram_wan2022.toml"

    technology: Literal["reram_wan2022"] = Field("reram_wan2022", description=TECHNOLOGY)
    g_max: float = Field(_wan("g_max"), gt=0, description="largest conductance [µS]")
    times: tuple[float, ...] = Field(_wan("times"), min_length=1, description="measured times in ascending order [s]")
    noise: tuple[tuple[float, ...], ...] = Field(
        tuple(_wan(f"noise_{time}") for time in ("1s", "1d", "2d")),
        description="sigma at each time: coefficients of a polynomial in x = g_target / g_max [µS]",
    )
    noise_scale: float = Field(1.0, ge=0, description="multiplies noise [-]")
    g_max_of_fit: float | None = Field(
        None,
        gt=0,
        description="noise is multiplied by g_max / g_max_of_fit [µS]; None = noise in µS does not depend on g_max",
    )

    @property
    def read_times(self) -> ReadTimes:
        """The measured times, at which alone the device can be read."""
        return ReadTimes.at(self.times)

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        require_ascending("times", list(self.times), at_least=1)
        if self.times[0] <= 0 or len(self.times) != len(self.noise) or not all(self.noise):
            raise ValueError(
                "noise must have one non-empty list of coefficients for each entry of times, and times must be > 0 s,"
                f" got noise={self.noise} for times={self.times} s"
            )
        return self


def spread_sigma(g_target: Tensor, device: ReRAMWan2022Spec, *, index: int) -> Tensor:
    """Return the standard deviation of the conductance around the target conductance [µS], shaped like `g_target`.

    Args:
        g_target: Target conductances [µS].
        device: Settings of the technology.
        index: Index in ``device.times`` of the time after programming.

    Source:
        Wan et al., Nature 608, 504 (2022), as fitted by AIHWKIT's ReRamWan2022NoiseModel.
    """
    scale = device.noise_scale * (device.g_max / device.g_max_of_fit if device.g_max_of_fit is not None else 1.0)
    return evaluate_polynomial(g_target / device.g_max, device.noise[index]).mul_(scale)


@register_device(ReRAMWan2022Spec)
class ReRAMWan2022Model:
    """Physics of the resistive memory (ReRAM) that Wan et al. measured, Nature 608 (2022).

    Every read draws a new deviation from the target conductance. The deviation does not depend on the programmed conductance.
    """

    silent_at_zero = False
    reads_targets = (
        False  # reads use targets, but are converted with the scale of the programmed weights, as in AIHWKIT
    )

    def program(
        self, g_target: Tensor, device: ReRAMWan2022Spec, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the programmed conductances [µS], and a copy of the target conductances [µS] as states.

        Both are shaped like `g_target`. The programmed conductances are drawn around the target conductances, with the standard
        deviation that `spread_sigma` computes for the first measured time.
        """
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
        """Return conductances that are drawn around the target conductances in `state` [µS], shaped like `state`.

        `spread_sigma` computes the standard deviation at `t_inference`, the time after programming [s]. `g_programmed` is not
        used.

        Raises:
            ConfigError: `t_inference` is not one of the measured times, ``device.times``.
        """
        if t_inference not in device.times:
            raise ConfigError(
                f"reram_wan2022: got t_inference={t_inference} s, expected one of the measured times "
                f"{', '.join(format_duration(t) for t in device.times)} ({', '.join(f'{t:g}' for t in device.times)} s)",
                hint="evaluate at one of these times, or use another technology; this technology has no data for other times",
            )
        return self._spread(state, device, device.times.index(t_inference), generator)

    @staticmethod
    def _spread(g_target: Tensor, device: ReRAMWan2022Spec, index: int, generator: torch.Generator) -> Tensor:
        noise = normal_like(g_target, generator)
        return noise.mul_(spread_sigma(g_target, device, index=index)).add_(g_target).clamp_(min=0)
