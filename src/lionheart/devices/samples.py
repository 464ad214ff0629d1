"""Settings and physics of a user-defined memory device that is described by quantiles of measured conductances.

The quantiles are given in Python, or computed from a CSV file of measured conductances. All conductances are in µS.
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
from lionheart.devices.times import ReadTimes
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
    """Settings of a user-defined memory device that is described by quantiles of measured conductances.

    Between the measured targets and times, the quantiles are interpolated linearly in the target conductance and in the
    logarithm of time. Each device keeps its rank: among devices with the same target, the highest conductance always belongs to
    the same device.
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

    @property
    def read_times(self) -> ReadTimes:
        """All times up to the last measured time."""
        return ReadTimes(self.times[-1])

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        require_ascending("targets", list(self.targets))
        require_ascending("times", list(self.times), at_least=1)
        if self.times[0] <= 0:
            raise ValueError(f"times must be greater than 0 s, got {self.times[0]} s")
        if self.targets[0] > self.g_min or self.targets[-1] < self.g_max:
            raise ValueError(
                f"targets must cover the range from g_min={self.g_min} µS to g_max={self.g_max} µS, "
                f"got {self.targets[0]} .. {self.targets[-1]} µS"
            )
        lengths = {len(ranks) for times in self.quantiles for ranks in times}
        n_times = {len(times) for times in self.quantiles}
        if (
            len(self.quantiles) != len(self.targets)
            or n_times != {len(self.times)}
            or len(lengths) != 1
            or min(lengths) < 2
        ):
            raise ValueError(
                "quantiles must have the shape (number of targets, number of times, number of ranks), with at least 2 ranks, "
                f"got {len(self.targets)} target(s) and {len(self.times)} time(s), but quantiles has entries for "
                f"{len(self.quantiles)} target(s), with {sorted(n_times)} time(s) and {sorted(lengths)} rank(s)"
            )
        for (target, time), ranks in zip(
            itertools.product(self.targets, self.times), itertools.chain.from_iterable(self.quantiles), strict=True
        ):
            wrong = f"{ranks[0]}" if ranks[0] < 0 else ""
            wrong = wrong or next((f"{a} before {b}" for a, b in itertools.pairwise(ranks) if a > b), "")
            if wrong:
                raise ValueError(
                    "quantiles must be >= 0 µS and in ascending order for each target and time, "
                    f"got {wrong} for the target {target:g} µS at {time:g} s"
                )
        return self

    @classmethod
    def from_samples(cls, path: str | Path, **changes: Any) -> DeviceSpec:
        """Return device settings computed from a CSV file of measured conductances; see `DeviceSpec.from_samples`."""
        return cls(**{**read_samples(Path(path)), **changes})


@register_device(SamplesSpec)
class SamplesModel:
    """Physics of a user-defined memory device that is described by quantiles of measured conductances.

    Programming draws a rank for each device, from 0 (lowest conductance) to 1 (highest conductance). Every later read returns
    the quantile of the measured conductances for this rank.

    Assumes:
        A device keeps its rank over time. Measurements at different times need not belong to the same physical devices. The
        measured spread between devices includes the read noise. Two reads at the same time therefore return equal conductances.
    """

    silent_at_zero = False
    reads_targets = True

    def program(self, g_target: Tensor, device: SamplesSpec, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the conductances at the first measured time [µS], shaped like `g_target`, and the states ``(2, ...)``.

        The first element of the states contains the target conductances [µS]. The second element contains the ranks of the
        devices, 0 (lowest conductance) to 1 (highest conductance).
        """
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
        """Return the conductance of each device [µS] at the time `t_inference` after programming [s].

        The result has the shape of one element of `state`, which contains the target conductances and the ranks of the devices.
        The conductance of a device is the quantile for its target and rank; `g_programmed` is not used. Before the
        first measured time, the conductances at the first measured time are returned.

        Raises:
            ConfigError: `t_inference` is negative or not finite, or is after the last measured time.
        """
        check_time(t_inference)
        if t_inference > device.times[-1]:
            raise ConfigError(
                f"samples: got t_inference={t_inference:g} s, expected at most the last measured time, "
                f"{device.times[-1]:g} s ({format_duration(device.times[-1])})",
                hint="evaluate at an earlier time, or add measurements at later times to the CSV file of the device",
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
    """Return a dict of settings for a `SamplesSpec`, computed from a CSV file of measured conductances.

    The columns of the file are ``target`` [µS], ``time`` after programming [s] and ``conductance`` [µS]. At least 2 targets are
    needed, and at least 10 measurements for each combination of target and time.

    Raises:
        ArtifactError: The file cannot be read, a line is invalid, or there are too few targets or measurements.
    """
    groups: dict[tuple[float, float], list[float]] = defaultdict(list)
    for target, time, conductance in _parse_lines(path, _read_cells(path)):
        groups[target, time].append(conductance)
    targets = sorted({target for target, _ in groups})
    times = sorted({time for _, time in groups})
    if len(targets) < 2:
        raise ArtifactError(
            f"{path}: got {len(targets)} different target conductance(s), expected at least 2",
            hint="add measurements at least at the smallest and the largest conductance of the device",
        )
    for target in targets:
        for time in times:
            n = len(groups.get((target, time), ()))
            if n < _LEAST_SAMPLES:
                raise ArtifactError(
                    f"{path}: got {n} measurement(s) for the target {target:g} µS at {time:g} s, "
                    f"expected at least {_LEAST_SAMPLES}",
                    hint="add measurements, or remove this target or this time; every target needs measurements at every time",
                )
    return {
        "g_min": targets[0],
        "g_max": targets[-1],
        "targets": tuple(targets),
        "times": tuple(times),
        "quantiles": tuple(tuple(_quantiles(groups[target, time]) for time in times) for target in targets),
    }


def _read_cells(path: Path) -> Iterator[list[str]]:
    reader = csv.reader(read_text(path).splitlines())
    try:
        yield from reader
    except csv.Error as error:  # a quote that is not closed, or a cell of more than 128 kB
        raise ArtifactError(
            f"{path}:{reader.line_num}: not readable as CSV: {error}",
            hint="write one measurement per line, without quotes",
        ) from error


def _parse_lines(path: Path, lines: Iterable[list[str]]) -> Iterator[tuple[float, float, float]]:
    header_seen = False
    for number, cells in enumerate(lines, start=1):
        if not cells or (len(cells) == 1 and not cells[0].strip()) or cells[0].lstrip().startswith("#"):
            continue
        if not header_seen:
            header_seen = True
            if tuple(cell.strip() for cell in cells) != COLUMNS:
                raise ArtifactError(
                    f"{path}:{number}: got the header {','.join(cells)!r}, expected the header {','.join(COLUMNS)!r}",
                    hint="write the names of the columns in this order on the first line that is not a comment",
                )
            continue
        if len(cells) != len(COLUMNS):
            raise ArtifactError(
                f"{path}:{number}: got {len(cells)} columns, expected {len(COLUMNS)}: {', '.join(COLUMNS)}",
                hint="write one measurement per line, with commas between the columns",
            )
        target, time, conductance = (_number(path, number, *each) for each in zip(COLUMNS, cells, strict=True))
        if time == 0:
            raise ArtifactError(
                f"{path}:{number}: time: got 0 s, expected the time since programming in seconds, > 0 s",
                hint="give the time of the first read after programming, or delete the line",
            )
        yield target, time, conductance
    if not header_seen:
        raise ArtifactError(
            f"{path}: got a file without data, expected the header {','.join(COLUMNS)!r} and one measurement per line",
            hint="check that the path is that of the CSV file of measured conductances",
        )


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArtifactError(
            f"{path}:{line}: {column}: got {text.strip()!r}, expected a finite number >= 0",
            hint="correct the value or delete the line; targets and conductances are in µS, times in s",
        )
    return value


def _quantiles(values: list[float]) -> tuple[float, ...]:
    ordered = sorted(values)
    found = []
    for rank in range(_N_RANKS):
        position = rank * (len(ordered) - 1) / (_N_RANKS - 1)
        left = min(int(position), len(ordered) - 2)
        found.append(ordered[left] + (position - left) * (ordered[left + 1] - ordered[left]))
    return tuple(itertools.accumulate(found, max))  # ascending despite rounding
