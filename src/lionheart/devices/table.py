"""A user-defined device: curves of programming noise, drift and read noise, from Python or from a TOML file.

Conductances are in µS.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from lionheart.constants import Constant, parse_constants
from lionheart.devices.base import TECHNOLOGY, DeviceSpec, register_device
from lionheart.devices.curves import Curve, curve_value, evaluate_curve, require_ascending
from lionheart.devices.pcm import drift_conductances
from lionheart.devices.sampling import normal_like
from lionheart.errors import ConfigError, suggest
from lionheart.files import read_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@final
class TableSpec(DeviceSpec):
    """A user-defined device with a curve for each effect.

    A curve is a list of coefficients of a polynomial in x = g / g_max, or a list of points (g [µS], value) with linear
    interpolation. Outside the range of its points, a curve has the value of the nearest point.
    """

    summary: ClassVar[str] = "user-defined device, from a TOML file of curves"

    technology: Literal["table"] = Field("table", description=TECHNOLOGY)
    programming_noise: Curve = Field((0.0,), description="sigma of programming as a curve over the target [µS]")
    drift_nu_mean: Curve = Field((0.0,), description="mean drift exponent as a curve over the target [-]")
    drift_nu_sigma: Curve = Field((0.0,), description="sigma of the drift exponent as a curve over the target [-]")
    read_noise: Curve = Field((0.0,), description="sigma of one read as a curve over the drifted conductance [µS]")
    programming_noise_scale: float = Field(1.0, ge=0, description="multiplies programming_noise [-]")
    drift_scale: float = Field(1.0, ge=0, description="multiplies the drift exponents [-]")
    read_noise_scale: float = Field(1.0, ge=0, description="multiplies read_noise [-]")
    t_0: float = Field(1.0, gt=0, description="t_0 of the drift factor ((t_inference + t_0) / t_0) ** -nu [s]")
    t_read: float | None = Field(
        None,
        gt=0,
        description="t_read of the growth of the read noise, sqrt(ln((t + t_read) / (2 t_read))) with t = t_inference + t_0 "
        "[s]; None = no growth",
    )

    @model_validator(mode="after")
    def _check_curves(self) -> Self:
        for name in ("programming_noise", "drift_nu_mean", "drift_nu_sigma", "read_noise"):
            curve = getattr(self, name)
            if not curve:
                raise ValueError(f"{name} must not be empty; [0.0] disables the effect")
            if isinstance(curve[0], tuple):
                require_ascending(name, [g for g, _ in curve])
            for step in range(101):
                g = self.g_min + (self.g_max - self.g_min) * step / 100
                if name != "drift_nu_mean" and curve_value(curve, g, self.g_max) < 0:
                    raise ValueError(f"{name} must not be negative, and is negative at {g:.4g} µS")
        if self.t_read is not None and self.t_0 < self.t_read:
            raise ValueError(f"t_0 must be at least t_read, got {self.t_0} s and {self.t_read} s")
        return self

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Read a device from a TOML file of curves; see `DeviceSpec.from_toml`."""
        return cls(**{**read_table_device(Path(path)), **changes})


@register_device(TableSpec)
class TableModel:
    """Physics with programming noise, power-law drift and read noise from the curves of a `TableSpec`."""

    silent_at_zero = False  # the read noise is in µS and may be larger than 0 at 0 µS
    reads_targets = False

    def program(self, g_target: Tensor, device: TableSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return conductances ``max(g_target + sigma N, 0)`` [µS] and drift exponents ``mean + sigma N`` [-], of any sign."""
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
        """Return the conductances of one noisy read [µS], >= 0; `state` holds the drift exponents [-]."""
        g_drifted = drift_conductances(g_programmed, state, t_inference=t_inference, t_0=device.t_0)
        growth = device.read_noise_scale
        if device.t_read is not None:
            growth *= math.sqrt(math.log((t_inference + device.t_0 + device.t_read) / (2 * device.t_read)))
        sigma = evaluate_curve(device.read_noise, g_drifted, device.g_max).clamp_(min=0)
        return normal_like(g_drifted, generator).mul_(sigma).mul_(growth).add_(g_drifted).clamp_(min=0)


def read_device_constants(path: Path) -> Mapping[str, Constant]:
    """Return the constants of a TOML file that defines a device, by name.

    Raises:
        ArtifactError: The file cannot be read, or a number lacks its unit, source or kind.
    """
    return parse_constants(read_text(path), str(path))


def read_table_device(path: Path) -> dict[str, Any]:
    """Return the settings of a `TableSpec` from a TOML file.

    Raises:
        ArtifactError: The file cannot be read, or a number lacks its unit, source or kind.
        ConfigError: The file contains an unknown setting, or a value that is not allowed.
    """
    settings = {name: constant.value for name, constant in read_device_constants(path).items()}
    unknown = [name for name in settings if name not in TableSpec.model_fields]
    if unknown:
        raise ConfigError(
            "\n".join(f"{path}:{name}: unknown setting" for name in unknown),
            hint=suggest(unknown[0], TableSpec.model_fields, label="known settings"),
        )
    try:
        TableSpec(**settings)
    except ConfigError as error:
        raise ConfigError(error.message.replace("DeviceSpec.", f"{path}:"), hint=error.hint) from None
    return settings
