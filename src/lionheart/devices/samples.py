"""A user-defined device: quantiles of measured conductances, from Python or from a CSV file of measurements.

Conductances are in µS. Errors in a file name the file and the line.
"""

from __future__ import annotations

import bisect
import csv
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from lionheart.devices.base import TECHNOLOGY, DeviceSpec, register_device
from lionheart.devices.curves import interpolate_points, require_ascending
from lionheart.devices.sampling import check_time, uniform_like
from lionheart.errors import ArtifactError, ConfigError
from lionheart.extras import lazy_import
from lionheart.files import read_text
from lionheart.units import format_duration

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")

COLUMNS = ("target", "time", "conductance")
_LEAST_SAMPLES = 10
_N_RANKS = 101


@final
class SamplesSpec(DeviceSpec):
    """A device defined by quantiles of measured conductances, interpolated in the target and in the logarithm of time.

    Each device keeps its rank among all devices over time: the device with the highest conductance after programming always has
    the highest conductance.
    """

    summary: ClassVar[str] = "user-defined device, from a CSV file of measurements"

    technology: Literal["samples"] = Field("samples", description=TECHNOLOGY)
    targets: tuple[float, ...] = Field(
        min_length=2, description="target conductances in ascending order, g_min .. g_max [µS]"
    )
    times: tuple[float, ...] = Field(min_length=1, description="times after programming in ascending order [s]")
    quantiles: tuple[tuple[tuple[float, ...], ...], ...] = Field(
        description="conductances at equidistant ranks from 0 to 1, for each target and each time [µS]"
    )

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        require_ascending("targets", list(self.targets))
        require_ascending("times", list(self.times), at_least=1)
        if self.times[0] <= 0:
            raise ValueError(f"all times must be positive, got {self.times[0]} s")
        if self.targets[0] > self.g_min or self.targets[-1] < self.g_max:
            raise ValueError(
                f"targets cover {self.targets[0]} .. {self.targets[-1]} µS, "
                f"expected the range of the device, {self.g_min} .. {self.g_max} µS"
            )
        lengths = {len(ranks) for times in self.quantiles for ranks in times}
        n_times = {len(times) for times in self.quantiles}
        if (
            len(self.quantiles) != len(self.targets)
            or n_times != {len(self.times)}
            or len(lengths) != 1
            or min(lengths) < 2
        ):
            raise ValueError("quantiles must have the shape targets x times x ranks, with at least two ranks")
        for ranks in itertools.chain.from_iterable(self.quantiles):
            if ranks[0] < 0 or any(a > b for a, b in itertools.pairwise(ranks)):
                raise ValueError("quantiles must be >= 0 and must not decrease over the ranks")
        return self

    @classmethod
    def from_samples(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Read a device from a CSV file of measurements; see `DeviceSpec.from_samples`."""
        return cls(**{**read_samples(Path(path)), **changes})


@register_device(SamplesSpec)
class SamplesModel:
    """Physics from quantiles of measured conductances; programming draws a rank for each device.

    Assumes:
        A device keeps its rank over time. The measurements need not follow single devices. Read noise is part of the spread
        between devices, so two reads at the same time are equal.
    """

    silent_at_zero = False
    reads_targets = True

    def program(self, g_target: Tensor, device: SamplesSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the conductances at the first measured time [µS], and targets [µS] and ranks [-] stacked as state."""
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
        """Return the conductances [µS] at the quantile of each device; before the first measured time, those of that time.

        Raises:
            ConfigError: `t_inference` is after the last measured time.
        """
        check_time(t_inference)
        if t_inference > device.times[-1]:
            raise ConfigError(
                f"samples: got t_inference = {t_inference:g} s, expected at most the last measured time, "
                f"{device.times[-1]:g} s ({format_duration(device.times[-1])})",
                hint="evaluate at earlier times, or add measurements at later times",
            )
        g_target, rank = state
        table = _quantiles_at(g_target, device, t_inference)  # (targets, ranks)
        position = rank * (table.shape[1] - 1)
        low = position.long().clamp_(0, table.shape[1] - 2)
        share = position - low
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


def read_samples(path: Path) -> dict[str, Any]:
    """Return the settings of a `SamplesSpec` from a CSV file with the columns target [µS], time [s], conductance [µS].

    Each target needs at least 10 samples at each time.

    Raises:
        ArtifactError: The file cannot be read, a line is invalid, or a target has too few samples at a time.
    """
    groups: dict[tuple[float, float], list[float]] = defaultdict(list)
    for target, time, conductance in _parse_lines(path, csv.reader(read_text(path).splitlines())):
        groups[target, time].append(conductance)
    targets = sorted({target for target, _ in groups})
    times = sorted({time for _, time in groups})
    if len(targets) < 2:
        raise ArtifactError(
            f"{path}: got {len(targets)} targets, expected at least 2: g_min and g_max",
            hint="measure devices at more target conductances",
        )
    for target in targets:
        for time in times:
            n = len(groups.get((target, time), ()))
            if n < _LEAST_SAMPLES:
                raise ArtifactError(
                    f"{path}: target {target:g} µS at {time:g} s: got {n} samples, expected at least {_LEAST_SAMPLES}",
                    hint="measure every target at every time",
                )
    return {
        "g_min": targets[0],
        "g_max": targets[-1],
        "targets": tuple(targets),
        "times": tuple(times),
        "quantiles": tuple(tuple(_quantiles(groups[target, time]) for time in times) for target in targets),
    }


def _parse_lines(path: Path, lines: Iterable[list[str]]) -> Iterator[tuple[float, float, float]]:
    header_seen = False
    for number, cells in enumerate(lines, start=1):
        if not cells or (len(cells) == 1 and not cells[0].strip()) or cells[0].lstrip().startswith("#"):
            continue
        if not header_seen:
            header_seen = True
            if tuple(cell.strip() for cell in cells) != COLUMNS:
                raise ArtifactError(
                    f"{path}:{number}: got the header {','.join(cells)!r}, expected {','.join(COLUMNS)!r}"
                )
            continue
        if len(cells) != len(COLUMNS):
            raise ArtifactError(f"{path}:{number}: got {len(cells)} columns, expected {', '.join(COLUMNS)}")
        target, time, conductance = (_number(path, number, *each) for each in zip(COLUMNS, cells, strict=True))
        if time == 0:
            raise ArtifactError(f"{path}:{number}: time: got 0, expected seconds after programming, > 0")
        yield target, time, conductance
    if not header_seen:
        raise ArtifactError(f"{path}: empty, expected the header {','.join(COLUMNS)!r}")


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArtifactError(f"{path}:{line}: {column}: got {text.strip()!r}, expected a number >= 0")
    return value


def _quantiles(values: list[float]) -> tuple[float, ...]:
    ordered = sorted(values)
    found = []
    for rank in range(_N_RANKS):
        position = rank * (len(ordered) - 1) / (_N_RANKS - 1)
        left = min(int(position), len(ordered) - 2)
        found.append(ordered[left] + (position - left) * (ordered[left + 1] - ordered[left]))
    return tuple(itertools.accumulate(found, max))  # ascending despite rounding
