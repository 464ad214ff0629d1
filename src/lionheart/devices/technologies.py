"""The technologies: one spec each, with the coefficients of its physics. Constants and sources are in ``devices/data``."""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, Literal, Self, TypeAlias, final

from pydantic import Field, model_validator

from lionheart.devices.base import Converter, DeviceSpec, SingleConverter, default_of

#: A function of conductance: coefficients of a polynomial in x = g / g_max, or points (g [µS], value), linear between them.
Curve: TypeAlias = tuple[tuple[float, float], ...] | tuple[float, ...]

_TECHNOLOGY = "conductance physics"


def _pcm(name: str) -> Any:
    return default_of("pcm.toml", name)


class PCMNoise(DeviceSpec):
    """What phase-change memories share: programming and read noise, and the scales of all effects.

    ``x = g_target / g_max``; the three ``…_scale`` settings multiply a whole effect, 0 switches it off.
    """

    g_max: float = Field(_pcm("g_max"), gt=0, description="largest conductance [µS]")
    programming_noise: tuple[float, float, float] = Field(
        _pcm("programming_noise"), description="sigma of programming, polynomial in x at g_max_of_fit [µS]"
    )
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    g_max_of_fit: float = Field(
        _pcm("g_max_of_fit"), gt=0, description="g_max at which programming_noise was fitted; it scales with g_max [µS]"
    )
    drift_scale: float = Field(1.0, ge=0, description="multiplies the drift exponents [-]")
    read_noise: tuple[float, float, float, float] = Field(
        _pcm("read_noise"), description="Q = min(c0 / max(x^c1, c2), c3), relative to g [-]"
    )
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_0: float = Field(_pcm("t_0"), gt=0, description="reference time of the drift fit [s]")
    t_read: float = Field(_pcm("t_read"), gt=0, description="width of a read pulse [s]")

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.t_0 < self.t_read:  # the time factor of the read noise would have no root
            raise ValueError(f"t_0 must be at least t_read, got {self.t_0} s and {self.t_read} s")
        return self


@final
class PCMSpec(PCMNoise):
    """Phase-change memory. Defaults are in ``devices/pcm.toml``, where each number has its source.

    ``x = g_target / g_max``; the three ``…_scale`` settings multiply a whole effect, 0 switches it off.
    """

    summary: ClassVar[str] = "phase-change memory, AIHWKIT's PCM-like model"
    constants_file: ClassVar[str | None] = "pcm.toml"

    technology: Literal["pcm"] = Field("pcm", description=_TECHNOLOGY)
    drift_nu_mean: tuple[float, float, float, float] = Field(
        _pcm("drift_nu_mean"), description="mean exponent: slope on ln x, offset, lower and upper clamp [-]"
    )
    drift_nu_sigma: tuple[float, float, float, float] = Field(
        _pcm("drift_nu_sigma"),
        description="spread of the exponent: slope on ln x, offset, lower and upper clamp [-]",
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("drift_nu_mean", "drift_nu_sigma"):
            _, _, low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name}: the clamps must satisfy 0 <= lower <= upper, got {low} and {high}")
        return self


@final
class PCMCustomDriftSpec(PCMNoise):
    """Phase-change memory with your own drift exponents, linear between the conductances of a table."""

    summary: ClassVar[str] = "phase-change memory with your own table of drift exponents"
    constants_file: ClassVar[str | None] = "pcm.toml"

    technology: Literal["pcm_custom_drift"] = Field("pcm_custom_drift", description=_TECHNOLOGY)
    drift_table: tuple[tuple[float, float, float], ...] = Field(
        description="rows of target conductance [µS], mean and sigma of the exponent [-]; ascending, 0 .. g_max covered"
    )

    @model_validator(mode="after")
    def _check_table(self) -> Self:
        g = [row[0] for row in self.drift_table]
        _require_ascending("drift_table", g)
        if g[0] > self.g_min or g[-1] < self.g_max:
            raise ValueError(f"drift_table covers {g[0]} .. {g[-1]} µS, the device {self.g_min} .. {self.g_max} µS")
        if any(sigma < 0 for _, _, sigma in self.drift_table):
            raise ValueError("drift_table holds a negative sigma")
        return self


@final
class ReRAMWan2022Spec(DeviceSpec):
    """Resistive memory of Wan et al., Nature 608 (2022): a spread around the target at a few measured times, no drift."""

    summary: ClassVar[str] = "resistive memory of Wan et al. (2022): 1 s, 1 day, 2 days"
    constants_file: ClassVar[str | None] = "reram_wan2022.toml"

    technology: Literal["reram_wan2022"] = Field("reram_wan2022", description=_TECHNOLOGY)
    g_max: float = Field(default_of("reram_wan2022.toml", "g_max"), gt=0, description="largest conductance [µS]")
    times: tuple[float, ...] = Field(
        default_of("reram_wan2022.toml", "times"), min_length=1, description="times that were measured, ascending [s]"
    )
    noise: tuple[tuple[float, ...], ...] = Field(
        tuple(default_of("reram_wan2022.toml", f"noise_{time}") for time in ("1s", "1d", "2d")),
        description="sigma at each time, polynomial in x = g_target / g_max [µS]",
    )
    noise_scale: float = Field(1.0, ge=0, description="multiplies noise [-]")
    g_max_of_fit: float | None = Field(
        None, gt=0, description="noise scales with g_max over this [µS]; None: it holds in µS for any g_max"
    )

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        _require_ascending("times", list(self.times), at_least=1)
        if self.times[0] <= 0 or len(self.times) != len(self.noise) or not all(self.noise):
            raise ValueError("noise needs one polynomial for each of times, and times must be positive")
        return self


@final
class ReRAMCMOSpec(DeviceSpec):
    """Conductive-metal-oxide/HfOx resistive memory: relaxation in µS with the logarithm of time; one device a weight."""

    summary: ClassVar[str] = "CMO/HfOx resistive memory, one device a weight"
    constants_file: ClassVar[str | None] = "reram_cmo.toml"

    technology: Literal["reram_cmo"] = Field("reram_cmo", description=_TECHNOLOGY)
    g_max: float = Field(default_of("reram_cmo.toml", "g_max"), gt=0, description="largest conductance [µS]")
    g_min: float = Field(default_of("reram_cmo.toml", "g_min"), ge=0, description="smallest conductance [µS]")
    converter: Converter = Field(default_factory=SingleConverter, description="how devices hold a weight")
    acceptance: float = Field(0.2, description="acceptance range of program-and-verify: 0.2 or 2 [% of the target]")
    programming_noise: tuple[float, float] | None = Field(
        None, description="sigma = c0 + c1 g with g in µS [µS]; None: that of the acceptance range"
    )
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    relaxation_mean: float = Field(
        default_of("reram_cmo.toml", "relaxation_mean"), description="mean change for each unit of ln(t / 1 s) [µS]"
    )
    relaxation_sigma: tuple[float, float] = Field(
        default_of("reram_cmo.toml", "relaxation_sigma"),
        description="sigma of the change: slope on ln(t / 1 s), offset [µS]",
    )
    drift_scale: float = Field(1.0, ge=0, description="multiplies the relaxation, mean and sigma [-]")
    read_noise: float = Field(
        default_of("reram_cmo.toml", "read_noise"),
        ge=0,
        description="K of sigma = K log10(g / 1 µS) sqrt(ln((t + t_read) / (2 t_read))) [µS]",
    )
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_read: float = Field(default_of("reram_cmo.toml", "t_read"), gt=0, description="width of a read pulse [s]")

    @model_validator(mode="after")
    def _check_acceptance(self) -> Self:
        if self.acceptance not in (0.2, 2.0):
            raise ValueError(f"acceptance: got {self.acceptance} %, measured are 0.2 % and 2 %")
        return self

    def programming_coefficients(self) -> tuple[float, float]:
        """Return c0 and c1 of ``sigma = c0 + c1 g`` [µS]."""
        if self.programming_noise is not None:
            return self.programming_noise
        name = "programming_noise_0p2" if self.acceptance == 0.2 else "programming_noise_2"
        c0, c1 = default_of("reram_cmo.toml", name)
        return c0, c1


@final
class IdealSpec(DeviceSpec):
    """A device that takes any conductance exactly and keeps it."""

    summary: ClassVar[str] = "exact for ever"

    technology: Literal["ideal"] = Field("ideal", description=_TECHNOLOGY)


@final
class TableSpec(DeviceSpec):
    """A device of your own. Each curve is a polynomial in x = g / g_max or points (g [µS], value), held beyond the ends."""

    summary: ClassVar[str] = "your own device, from a TOML file of curves"

    technology: Literal["table"] = Field("table", description=_TECHNOLOGY)
    programming_noise: Curve = Field((0.0,), description="sigma of programming over the target [µS]")
    drift_nu_mean: Curve = Field((0.0,), description="mean drift exponent over the target [-]")
    drift_nu_sigma: Curve = Field((0.0,), description="sigma of the drift exponent over the target [-]")
    read_noise: Curve = Field((0.0,), description="sigma of one read over the conductance it reads [µS]")
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    drift_scale: float = Field(1.0, ge=0, description="multiplies the drift exponents [-]")
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_0: float = Field(1.0, gt=0, description="drift is ((t_inference + t_0) / t_0) ** -nu [s]")
    t_read: float | None = Field(
        None, gt=0, description="read noise grows as sqrt(ln((t + t_read) / (2 t_read))) [s]; None: it does not grow"
    )

    @model_validator(mode="after")
    def _check_curves(self) -> Self:
        for name in ("programming_noise", "drift_nu_mean", "drift_nu_sigma", "read_noise"):
            curve = getattr(self, name)
            if not curve:
                raise ValueError(f"{name} is empty; [0.0] switches it off")
            if isinstance(curve[0], tuple):
                _require_ascending(name, [g for g, _ in curve])
            for step in range(101):
                g = self.g_min + (self.g_max - self.g_min) * step / 100
                if name != "drift_nu_mean" and evaluate_curve(curve, g, self.g_max) < 0:
                    raise ValueError(f"{name} is negative at {g:.4g} µS")
        if self.t_read is not None and self.t_0 < self.t_read:
            raise ValueError(f"t_0 must be at least t_read, got {self.t_0} s and {self.t_read} s")
        return self


@final
class SamplesSpec(DeviceSpec):
    """A device known by measurements: quantiles of its conductance, linear in the target and in the logarithm of time.

    A device keeps its rank among all devices over time: the one that is highest after programming stays so.
    """

    summary: ClassVar[str] = "your own device, from a CSV of measurements"

    technology: Literal["samples"] = Field("samples", description=_TECHNOLOGY)
    targets: tuple[float, ...] = Field(min_length=2, description="target conductances, ascending, g_min .. g_max [µS]")
    times: tuple[float, ...] = Field(min_length=1, description="times after programming, ascending [s]")
    quantiles: tuple[tuple[tuple[float, ...], ...], ...] = Field(
        description="for each target, for each time: conductances at equidistant ranks 0 .. 1 [µS]"
    )

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        _require_ascending("targets", list(self.targets))
        _require_ascending("times", list(self.times), at_least=1)
        if self.times[0] <= 0:
            raise ValueError(f"times must be positive, got {self.times[0]} s")
        if self.targets[0] > self.g_min or self.targets[-1] < self.g_max:
            raise ValueError(
                f"targets cover {self.targets[0]} .. {self.targets[-1]} µS, the device {self.g_min} .. {self.g_max} µS"
            )
        lengths = {len(ranks) for times in self.quantiles for ranks in times}
        n_times = {len(times) for times in self.quantiles}
        if (
            len(self.quantiles) != len(self.targets)
            or n_times != {len(self.times)}
            or len(lengths) != 1
            or min(lengths) < 2
        ):
            raise ValueError("quantiles must be targets x times x ranks, with at least two ranks")
        for ranks in itertools.chain.from_iterable(self.quantiles):
            if ranks[0] < 0 or any(a > b for a, b in itertools.pairwise(ranks)):
                raise ValueError("quantiles must be >= 0 and ascending over the ranks")
        return self


def evaluate_curve(curve: Curve, g: float, g_max: float) -> float:
    """Return the value of a curve at one conductance [µS]."""
    points = [point for point in curve if isinstance(point, tuple)]
    if not points:
        coefficients = [c for c in curve if not isinstance(c, tuple)]
        return math.fsum(c * (g / g_max) ** power for power, c in enumerate(coefficients))
    if g <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in itertools.pairwise(points):
        if g <= right:
            return low + (high - low) * (g - left) / (right - left)
    return points[-1][1]


def _require_ascending(name: str, values: list[float], at_least: int = 2) -> None:
    if len(values) < at_least:
        raise ValueError(f"{name} needs at least {at_least} entries, got {len(values)}")
    for one, other in itertools.pairwise(values):
        if other <= one:
            raise ValueError(f"{name} must ascend, got {one} before {other}")
