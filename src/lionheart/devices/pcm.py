"""Settings and physics of phase-change memory (PCM): programming noise, drift and read noise as in AIHWKIT's PCM-like models.

All conductances are in µS. Coefficients and their sources are in ``pcm.toml``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from lionheart.devices.base import TECHNOLOGY, DeviceSpec, default_of, register_device
from lionheart.devices.curves import interpolate_points, require_ascending
from lionheart.devices.sampling import normal_like
from lionheart.errors import ConfigError
from lionheart.extras import lazy_import

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")

_SMALLEST_X = 1e-7  # lower bound of x in ln(x); mean and sigma of the exponent reach their clamps at much larger x


def _pcm(name: str) -> Any:
    return default_of("pcm.toml", name)


class PCMNoise(DeviceSpec):
    """Settings that all technologies of phase-change memory have, such as programming noise and read noise.

    In the descriptions of the settings, ``x`` is the relative target conductance ``g_target / g_max``. The settings
    ``programming_noise_scale``, ``drift_scale`` and ``read_noise_scale`` are factors of the programming noise, the drift
    exponents and the read noise. A factor of 0 disables the effect.
    """

    g_max: float = Field(_pcm("g_max"), gt=0, description="largest conductance [µS]")
    programming_noise: tuple[float, float, float] = Field(
        _pcm("programming_noise"),
        description="sigma of programming: coefficients of a polynomial in x, at g_max_of_fit [µS]",
    )
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    g_max_of_fit: float = Field(
        _pcm("g_max_of_fit"),
        gt=0,
        description="g_max at which programming_noise was fitted; the noise scales with g_max [µS]",
    )
    drift_scale: float = Field(1.0, ge=0, description="multiplies the drift exponents [-]")
    read_noise: tuple[float, float, float, float] = Field(
        _pcm("read_noise"),
        description="c0 .. c3 of Q = min(c0 / max(x^c1, c2), c3), sigma of a read relative to g without its time factor [-]",
    )
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_0: float = Field(_pcm("t_0"), gt=0, description="reference time of the drift fit [s]")
    t_read: float = Field(_pcm("t_read"), gt=0, description="width of a read pulse [s]")

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.t_0 < self.t_read:  # the read noise would need the square root of a negative number
            raise ValueError(
                f"t_0 must be at least t_read, the width of a read pulse, got t_0={self.t_0} s and t_read={self.t_read} s"
            )
        return self


@final
class PCMSpec(PCMNoise):
    """Settings of phase-change memory (PCM) whose drift exponents follow a published fit.

    Default values and their sources are in ``devices/pcm.toml``. In the descriptions of the settings, ``x`` is the relative
    target conductance ``g_target / g_max``. The settings ``programming_noise_scale``, ``drift_scale`` and ``read_noise_scale``
    are factors of the programming noise, the drift exponents and the read noise. A factor of 0 disables the effect.
    """

    summary: ClassVar[str] = "phase-change memory, AIHWKIT's PCM-like model"
    constants_file: ClassVar[str | None] = "pcm.toml"

    technology: Literal["pcm"] = Field("pcm", description=TECHNOLOGY)
    drift_nu_mean: tuple[float, float, float, float] = Field(
        _pcm("drift_nu_mean"),
        description="mean of the drift exponent: slope on ln x, offset, lower and upper clamp [-]",
    )
    drift_nu_sigma: tuple[float, float, float, float] = Field(
        _pcm("drift_nu_sigma"),
        description="sigma of the drift exponent: slope on ln x, offset, lower and upper clamp [-]",
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("drift_nu_mean", "drift_nu_sigma"):
            _, _, low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(
                    f"{name}: the last two values, the limits of the line, must satisfy 0 <= lower <= upper, "
                    f"got lower={low} and upper={high}"
                )
        return self


@final
class PCMCustomDriftSpec(PCMNoise):
    """Settings of phase-change memory (PCM) with a user-defined table of drift exponents.

    Each row of the table gives the mean and the standard deviation of the drift exponent at one target conductance. Between
    rows, the mean and the standard deviation are interpolated linearly in the target conductance.
    """

    summary: ClassVar[str] = "phase-change memory with a user-defined drift table"
    constants_file: ClassVar[str | None] = "pcm.toml"

    technology: Literal["pcm_custom_drift"] = Field("pcm_custom_drift", description=TECHNOLOGY)
    drift_table: tuple[tuple[float, float, float], ...] = Field(
        description="rows of target conductance [µS], mean and sigma of the drift exponent [-]; conductances in ascending "
        "order from at most g_min to at least g_max"
    )

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        g = [row[0] for row in self.drift_table]
        require_ascending("drift_table", g)
        if g[0] > self.g_min or g[-1] < self.g_max:
            raise ValueError(
                f"the conductances in drift_table must cover the range from g_min={self.g_min} µS to g_max={self.g_max} µS, "
                f"got {g[0]} .. {g[-1]} µS"
            )
        if any(sigma < 0 for _, _, sigma in self.drift_table):
            raise ValueError(
                f"the third value in each row of drift_table, the standard deviation of the drift exponent, must be >= 0, "
                f"got {min(row[2] for row in self.drift_table)}"
            )
        return self


def programming_sigma(g_target: Tensor, device: PCMNoise) -> Tensor:
    """Return the standard deviation of the programming noise [µS], shaped like `g_target` [µS].

    ``sigma = scale * (c0 + c1 x + c2 x^2) * g_max / g_max_of_fit`` with ``x = g_target / g_max``. In the settings `device`,
    ``scale`` is ``programming_noise_scale``, and ``c0, c1, c2`` are ``programming_noise``.

    Source:
        Joshi et al., Nat. Commun. 11, 2473 (2020), Methods.
    """
    c0, c1, c2 = device.programming_noise
    x = g_target / device.g_max
    return (c0 + c1 * x + c2 * x**2) * (device.programming_noise_scale * device.g_max / device.g_max_of_fit)


def program_conductances(g_target: Tensor, device: PCMNoise, *, generator: torch.Generator) -> Tensor:
    """Return randomly drawn programmed conductances ``max(g_target + sigma N, 0)`` [µS], shaped like `g_target` [µS].

    ``sigma`` is computed by `programming_sigma`, and ``N`` is a standard normal number. Noise is also added where the target is
    0 µS.
    """
    noise = normal_like(g_target, generator)
    return noise.mul_(programming_sigma(g_target, device)).add_(g_target).clamp_(min=0)


def sample_drift_nu(g_target: Tensor, device: PCMSpec, *, generator: torch.Generator) -> Tensor:
    """Return randomly drawn drift exponents ``scale * |mean(x) + sigma(x) N|`` [-], shaped like `g_target` [µS].

    ``x = g_target / g_max`` is the relative target conductance, and ``N`` is a standard normal number. The mean and the
    standard deviation ``sigma`` are linear functions of ``ln x``, limited to a range. The settings ``drift_nu_mean`` and
    ``drift_nu_sigma`` in `device` contain the slope, the offset and the range of each function. ``scale`` is
    ``device.drift_scale``.

    Source:
        Joshi et al., Nat. Commun. 11, 2473 (2020), Methods.
    """
    log_x = (g_target / device.g_max).clamp_(min=_SMALLEST_X).log_()

    def clamped_line(coefficients: tuple[float, float, float, float]) -> Tensor:
        slope, offset, low, high = coefficients
        return (slope * log_x + offset).clamp_(low, high)

    noise = normal_like(g_target, generator)
    nu = noise.mul_(clamped_line(device.drift_nu_sigma)).add_(clamped_line(device.drift_nu_mean))
    return nu.abs_().mul_(device.drift_scale)


def drift_conductances(g_programmed: Tensor, drift_nu: Tensor, *, t_inference: float, t_0: float) -> Tensor:
    """Return the conductances after drift [µS]: ``g_programmed * ((t_inference + t_0) / t_0) ** -drift_nu``.

    All tensors have the same shape.

    Args:
        g_programmed: Conductances at the end of programming [µS].
        drift_nu: Drift exponent of each device [-].
        t_inference: Time since the end of programming [s], finite and >= 0.
        t_0: Reference time of the drift [s], > 0.

    Raises:
        ConfigError: `t_inference` or `t_0` is out of range.
    """
    if not (0 <= t_inference < math.inf and t_0 > 0):
        raise ConfigError(
            f"drift: got t_inference={t_inference} s and t_0={t_0} s, expected a finite t_inference >= 0 s and t_0 > 0 s",
            hint="t_inference is the time since programming, t_0 is the device setting for the reference time of drift",
        )
    return g_programmed * torch.exp(drift_nu * -math.log((t_inference + t_0) / t_0))


def read_noise_sigma(g_programmed: Tensor, g_drifted: Tensor, device: PCMNoise, *, t_inference: float) -> Tensor:
    """Return the standard deviation of the read noise of each device [µS], shaped like `g_drifted`.

    `g_programmed` and `g_drifted` are the conductances [µS] directly after programming and after drift. `t_inference` is the
    time between programming and the read [s]. The standard deviation ``sigma`` grows with time (1/f noise):
    ``sigma = scale * g_drifted * Q * sqrt(ln((t + t_read) / (2 t_read)))`` with ``t = t_inference + t_0``,
    ``Q = min(c0 / max(x^c1, c2), c3)`` and ``x = g_programmed / g_max``. In the settings `device`, ``scale`` is
    ``read_noise_scale``, and ``c0 .. c3`` are ``read_noise``. Conductances are in µS, times in s.

    Source:
        Nandakumar et al., ICECS 2019; Joshi et al., Nat. Commun. 11, 2473 (2020), Methods.
    """
    c0, c1, c2, c3 = device.read_noise
    q = (c0 / (g_programmed / device.g_max).pow(c1).clamp_(min=c2)).clamp_(max=c3)
    t = t_inference + device.t_0
    growth = math.sqrt(math.log((t + device.t_read) / (2 * device.t_read)))
    return g_drifted * q * (device.read_noise_scale * growth)


def sample_table_nu(g_target: Tensor, device: PCMCustomDriftSpec, *, generator: torch.Generator) -> Tensor:
    """Return randomly drawn drift exponents ``scale * |mean(g) + sigma(g) N|`` [-], shaped like `g_target` [µS].

    The mean and the standard deviation ``sigma`` at the target conductance ``g`` are interpolated linearly between the rows of
    ``device.drift_table``. ``scale`` is ``device.drift_scale``, and ``N`` is a standard normal number.

    Source:
        AIHWKIT 1.1.0 inference/noise/pcm.py, CustomDriftPCMLikeNoiseModel.
    """
    g, mean, sigma = zip(*device.drift_table, strict=True)
    nu = normal_like(g_target, generator).mul_(interpolate_points(g_target, g, sigma))
    return nu.add_(interpolate_points(g_target, g, mean)).abs_().mul_(device.drift_scale)


class _PCMModel:
    """Base class that implements drift and read noise for the device models of phase-change memory (PCM)."""

    silent_at_zero = True  # drift and read noise are relative to the conductance
    reads_targets = False

    def read(
        self,
        g_programmed: Tensor,
        state: Tensor,
        device: PCMNoise,
        *,
        t_inference: float,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the conductances that one noisy read measures [µS], at least 0 µS, shaped like `g_programmed`.

        `g_programmed` contains the programmed conductances [µS], and `state` contains the drift exponent of each device [-].
        `t_inference` is the time between programming and the read [s].
        """
        g_drifted = drift_conductances(g_programmed, state, t_inference=t_inference, t_0=device.t_0)
        sigma = read_noise_sigma(g_programmed, g_drifted, device, t_inference=t_inference)
        return normal_like(g_drifted, generator).mul_(sigma).add_(g_drifted).clamp_(min=0)


@register_device(PCMSpec)
class PCMModel(_PCMModel):
    """Physics of phase-change memory (PCM). `sample_drift_nu` draws the drift exponents from a published fit."""

    def program(self, g_target: Tensor, device: PCMSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the programmed conductances [µS] and the states of the devices, both shaped like `g_target`.

        The state of a device is the drift exponent of the device [-].
        """
        g_programmed = program_conductances(g_target, device, generator=generator)
        return g_programmed, sample_drift_nu(g_target, device, generator=generator)


@register_device(PCMCustomDriftSpec)
class PCMCustomDriftModel(_PCMModel):
    """Physics of phase-change memory (PCM) with drift exponents from the user-defined table ``device.drift_table``."""

    def program(
        self, g_target: Tensor, device: PCMCustomDriftSpec, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the programmed conductances [µS] and the states of the devices, both shaped like `g_target`.

        The state of a device is the drift exponent of the device [-].
        """
        g_programmed = program_conductances(g_target, device, generator=generator)
        return g_programmed, sample_table_nu(g_target, device, generator=generator)
