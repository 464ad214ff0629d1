"""The memory device: which technology, and the statistics of one conductance."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lionheart.constants import load_constants
from lionheart.specs.base import Spec


def _default(name: str) -> Any:
    value = load_constants("lionheart.specs", "pcm.toml")[name].value
    return tuple(value) if isinstance(value, list) else value


class DeviceSpec(Spec):
    """Statistics of one device. Defaults are the PCM of ``specs/data/pcm.toml``, where each number has its source.

    ``x = g_target / g_max``; the three ``…_scale`` settings multiply a whole effect, 0 switches it off.
    """

    technology: Literal["pcm", "ideal"] = Field(
        "pcm", description="conductance physics; 'ideal' has neither noise nor drift"
    )
    g_max: float = Field(_default("g_max"), gt=0, description="largest conductance [µS]")
    programming_noise: tuple[float, float, float] = Field(
        _default("programming_noise"), description="sigma of programming, polynomial in x at g_max = 25 µS [µS]"
    )
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    drift_nu_mean: tuple[float, float, float, float] = Field(
        _default("drift_nu_mean"), description="mean exponent: slope on ln x, offset, lower and upper clamp [-]"
    )
    drift_nu_sigma: tuple[float, float, float, float] = Field(
        _default("drift_nu_sigma"),
        description="spread of the exponent: slope on ln x, offset, lower and upper clamp [-]",
    )
    drift_scale: float = Field(1.0, ge=0, description="multiplies the drift exponents [-]")
    read_noise: tuple[float, float, float, float] = Field(
        _default("read_noise"), description="Q = min(c0 / max(x^c1, c2), c3), relative to g [-]"
    )
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_0: float = Field(_default("t_0"), gt=0, description="reference time of the drift fit [s]")
    t_read: float = Field(_default("t_read"), gt=0, description="width of a read pulse [s]")

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("drift_nu_mean", "drift_nu_sigma"):
            _, _, low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name}: the clamps must satisfy 0 <= lower <= upper, got {low} and {high}")
        if self.t_0 < self.t_read:  # the time factor of the read noise would have no root
            raise ValueError(f"t_0 must be at least t_read, got {self.t_0} s and {self.t_read} s")
        return self

    @classmethod
    def pcm(cls, **changes: Any) -> Self:
        """Return phase-change memory as in AIHWKIT's PCM-like model, with `changes`."""
        return cls(technology="pcm", **changes)

    @classmethod
    def ideal(cls) -> Self:
        """Return a device that holds its target for ever."""
        return cls(technology="ideal")
