"""Devices from files: curves in TOML, measurements in CSV. Every fault names the file and the place."""

from __future__ import annotations

import csv
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lionheart.constants import Constant, parse_constants
from lionheart.devices.technologies import TableSpec
from lionheart.errors import ArtifactError, ConfigError, suggest

COLUMNS = ("target", "time", "conductance")
_LEAST_SAMPLES = 10
_N_RANKS = 101


def read_device_constants(path: Path) -> Mapping[str, Constant]:
    """Read the constants of a user's device file."""
    return parse_constants(_read_text(path), str(path))


def read_table_device(path: Path) -> dict[str, Any]:
    """Return the settings of a `TableSpec` that a TOML file defines.

    Raises:
        ArtifactError: The file cannot be read, or a number lacks its unit, source or kind.
        ConfigError: The file names a setting that does not exist, or one that is impossible.
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


def read_samples(path: Path) -> dict[str, Any]:
    """Return the settings of a `SamplesSpec` from a CSV with the columns target [µS], time [s], conductance [µS].

    Each target needs samples at each time, as many as you like but at least 10.

    Raises:
        ArtifactError: The file cannot be read, a line is faulty, or a pair of target and time lacks samples.
    """
    groups: dict[tuple[float, float], list[float]] = defaultdict(list)
    for target, time, conductance in _parse_lines(path, csv.reader(_read_text(path).splitlines())):
        groups[target, time].append(conductance)
    targets = sorted({target for target, _ in groups})
    times = sorted({time for _, time in groups})
    if len(targets) < 2:
        raise ArtifactError(f"{path}: got {len(targets)} targets, expected at least 2: those of weight 0 and of g_max")
    for target in targets:
        for time in times:
            n = len(groups.get((target, time), ()))
            if n < _LEAST_SAMPLES:
                raise ArtifactError(
                    f"{path}: target {target:g} µS at {time:g} s: got {n} samples, expected at least {_LEAST_SAMPLES}",
                    hint="every target must be measured at every time",
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
        place = rank * (len(ordered) - 1) / (_N_RANKS - 1)
        left = min(int(place), len(ordered) - 2)
        found.append(ordered[left] + (place - left) * (ordered[left + 1] - ordered[left]))
    return tuple(itertools.accumulate(found, max))  # rounding must not undo the order


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file", hint="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: not readable: {error}", hint="expected text in UTF-8") from error
