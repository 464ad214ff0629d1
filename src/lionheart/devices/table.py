"""Settings and physics of a user-defined memory device whose programming noise, drift and read noise are given by curves.

A curve is a function of the conductance. The curves are given in Python or read from a TOML file. All conductances are in µS.
"""

from __future__ import annotations

import math
import re
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

_DESCRIBED_UNIT = re.compile(r"\[(µS|s|-)\]")  # in the description of a setting
_SAME_UNIT = {"uS": "µS", "μS": "µS", "1": "-", "seconds": "s"}  # the second µ is a Greek letter


@final
class TableSpec(DeviceSpec):
    """Settings of a user-defined memory device whose programming noise, drift and read noise are given by curves.

    A curve is a function of the conductance ``g``. The setting for a curve is a list of coefficients of a polynomial in
    ``x = g / g_max``, lowest power first, or a list of points ``(g [µS], value)``. Values between two points are
    interpolated linearly. Outside the range of the points, a curve has the value of the nearest point.
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
                raise ValueError(
                    f"{name} must not be empty; give coefficients or points, or [0.0] to disable the effect"
                )
            if isinstance(curve[0], tuple):
                require_ascending(name, [g for g, _ in curve])
            for step in range(101):
                g = self.g_min + (self.g_max - self.g_min) * step / 100
                if name != "drift_nu_mean" and curve_value(curve, g, self.g_max) < 0:
                    raise ValueError(f"{name} must be >= 0 from g_min to g_max, but is negative at {g:.4g} µS")
        if self.t_read is not None and self.t_0 < self.t_read:
            raise ValueError(
                f"t_0 must be at least t_read, got t_0={self.t_0} s and t_read={self.t_read} s; "
                f"set t_read=None for read noise that does not grow with time"
            )
        return self

    @classmethod
    def from_toml(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Return device settings read from a TOML file of curves; see `DeviceSpec.from_toml`."""
        return cls(**{**read_table_device(Path(path)), **changes})


@register_device(TableSpec)
class TableModel:
    """Physics of a user-defined memory device whose programming noise, drift and read noise are given by curves."""

    silent_at_zero = False  # the read noise is in µS and may be larger than 0 at 0 µS
    reads_targets = False

    def program(self, g_target: Tensor, device: TableSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the programmed conductances [µS] and the states of the devices, both shaped like `g_target`.

        The state of a device is the drift exponent of the device [-]. Programmed conductances are
        ``max(g_target + programming_noise_scale * sigma N, 0)``. Drift exponents are ``drift_scale * (mean + sigma N)`` and may
        be negative. ``N`` is a standard normal number. Each ``mean`` and ``sigma`` is the value of a curve in `device` at the
        target conductance.
        """
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
        """Return the conductances that one noisy read measures [µS], at least 0 µS, shaped like `g_programmed`.

        `g_programmed` contains the programmed conductances [µS], and `state` contains the drift exponent of each device [-].
        `t_inference` is the time between programming and the read [s].
        """
        g_drifted = drift_conductances(g_programmed, state, t_inference=t_inference, t_0=device.t_0)
        growth = device.read_noise_scale
        if device.t_read is not None:
            growth *= math.sqrt(math.log((t_inference + device.t_0 + device.t_read) / (2 * device.t_read)))
        sigma = evaluate_curve(device.read_noise, g_drifted, device.g_max).clamp_(min=0)
        return normal_like(g_drifted, generator).mul_(sigma).mul_(growth).add_(g_drifted).clamp_(min=0)


def read_device_constants(path: Path) -> Mapping[str, Constant]:
    """Return the `Constant` for each name in a TOML file that defines a memory device.

    Raises:
        ArtifactError: The file cannot be read, or a number in the file has no unit or no source, or the file does not state
            whether the number was measured, fitted, derived or assumed.
    """
    return parse_constants(read_text(path), str(path))


def read_table_device(path: Path) -> dict[str, Any]:
    """Return a dict of settings for a `TableSpec`, read from a TOML file.

    Raises:
        ArtifactError: The file cannot be read, or a number in the file has no unit or no source, or the file does not state
            whether the number was measured, fitted, derived or assumed.
        ConfigError: The file contains an unknown setting, a value that is not allowed, or a unit other than that of the
            setting.
    """
    constants = read_device_constants(path)
    settings = {name: constant.value for name, constant in constants.items()}
    unknown = [name for name in settings if name not in TableSpec.model_fields]
    if unknown:
        raise ConfigError(
            "\n".join(f"{path}:{name}: unknown setting" for name in unknown),
            hint=suggest(unknown[0], TableSpec.model_fields, label="known settings"),
        )
    faults = [f"{path}:{name}.unit: {fault}" for name, each in constants.items() if (fault := _check_unit(name, each))]
    if faults:
        raise ConfigError(
            "\n".join(faults),
            hint="convert the values: conductances are in µS, times in s, and other numbers have unit 1",
        )
    try:
        TableSpec(**settings)
    except ConfigError as error:
        raise ConfigError(error.message.replace("DeviceSpec.", f"{path}:"), hint=error.hint) from None
    return settings


def _check_unit(name: str, constant: Constant) -> str:
    """Return how the unit of a constant differs from the unit of the setting `name`; an empty text if it does not.

    Remarks may follow a unit after a comma, a semicolon or a colon. The unit of a curve that is given as points may begin
    with that of the conductance.
    """
    described = _DESCRIBED_UNIT.search(TableSpec.model_fields[name].description or "")
    if described is None:
        return ""
    is_points = isinstance(constant.value, list) and any(isinstance(each, list) for each in constant.value)
    expected = ["µS", described[1]] if is_points else [described[1]]
    words = re.split(r"[,;:]", constant.unit)[0].split()
    found = [_SAME_UNIT.get(word, word) for word in words if word not in ("points", "of", "and")]
    if found in (expected, expected[-1:]):
        return ""
    wanted = " and ".join("1" if unit == "-" else unit for unit in expected)
    return f"got {constant.unit!r}, expected {f'points of {wanted}' if is_points else wanted}"
