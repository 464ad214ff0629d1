"""Times after programming that a job uses, limited to the times at which the device of the settings can be read.

Times that are defaults are limited, and a note says so. Times that the user has given raise an error instead. Both happen
before a run directory exists.
"""

from __future__ import annotations

from collections.abc import Iterable

from lionheart.devices import HWASpec, TileSpec, check_times, limit_times
from lionheart.errors import ConfigError
from lionheart.jobs.settings import MapSettings
from lionheart.progress import Progress
from lionheart.search import SearchSpec
from lionheart.units import format_duration, parse_durations

REPORT_TIMES: tuple[float, ...] = SearchSpec.model_fields["report_times"].default
LONGEST_AGE: float = HWASpec.model_fields["t_longest"].default


def fit_times(settings: MapSettings, *, stored: bool = False) -> tuple[MapSettings, list[str]]:
    """Return settings for a mapping run in which all times are times at which the device can be read.

    The settings ``search.report_times`` and ``tile.hwa.t_longest`` are limited if they have their default values.

    Args:
        settings: Settings of the run.
        stored: Whether the settings were read from a run directory, which states all values, whether given or default.

    Returns:
        The settings, and one note for each limited setting.

    Raises:
        ConfigError: A time that was given, or a time at which the bound on the drop must hold, is not known for the device.
    """
    check_decision_times(settings)
    search, tile = settings.search, settings.tile
    if (stored or "report_times" not in search.model_fields_set) and search.report_times == REPORT_TIMES:
        times = tuple(limit_times(tile, REPORT_TIMES))
        if times != REPORT_TIMES:
            settings = settings.replace(search=search.replace(report_times=times))
    check_times(tile, settings.search.report_times, "search.report_times")
    notes = describe_limit(settings)
    longest = tile.device.read_times.longest
    if tile.hwa.weight_noise_kind == "device" and tile.hwa.t_longest > longest:
        is_given = not stored and "t_longest" in tile.hwa.model_fields_set
        if is_given or tile.hwa.t_longest != LONGEST_AGE:
            raise ConfigError(
                f"tile.hwa.t_longest: got {format_duration(tile.hwa.t_longest)}, expected a time at which the device "
                f"{tile.device.technology!r} is known: {tile.device.read_times}",
                hint=f"set tile.hwa.t_longest to at most {format_duration(longest)}, or use another device",
            )
        hwa = tile.hwa.replace(t_longest=max(longest, 1.0))
        settings = settings.replace(tile=tile.replace(hwa=hwa))
        notes.append(
            f"The device {tile.device.technology!r} is known for {tile.device.read_times}: training simulates chips up to this "
            "age."
        )
    return settings, notes


def check_decision_times(settings: MapSettings) -> None:
    """Check that the device can be read at the times at which the bound on the accuracy drop must hold.

    Raises:
        ConfigError: It cannot.
    """
    search = settings.search
    name = "search.t_inference" if search.lifetime is None else "search.lifetime"
    check_times(settings.tile, search.decision_times(), name)
    check_times(settings.tile, [search.t_inference], "search.t_inference")


def describe_limit(settings: MapSettings) -> list[str]:
    """Return a note if the report times are the default times without the times at which the device cannot be read."""
    tile, times = settings.tile, settings.search.report_times
    if times == REPORT_TIMES or list(times) != limit_times(tile, REPORT_TIMES):
        return []
    shown = ", ".join(format_duration(t) for t in times)
    return [
        f"The device {tile.device.technology!r} is known for {tile.device.read_times}: final results are measured at {shown}, "
        "not at later or other times."
    ]


def choose_times(
    given: str | float | Iterable[str | float] | None,
    default: tuple[str, ...],
    tiles: Iterable[TileSpec],
    where: str,
    progress: Progress,
) -> list[float]:
    """Return the times of an evaluation [s].

    Args:
        given: Times that the caller has given; None = `default`.
        default: Default times. Those at which the devices cannot be read are left out; if none is left, the nearest is used.
        tiles: Tile settings of the layers to evaluate.
        where: Name of the argument with the times, with which an error message begins.
        progress: Receiver of a note if default times are left out because a device is not known at them.

    Raises:
        ConfigError: A given time is invalid, or a device cannot be read at it.
    """
    distinct = list({id(tile): tile for tile in tiles}.values())
    moments = parse_durations(default if given is None else given, where)
    if given is None:
        limited = moments
        for tile in distinct:
            limited = limit_times(tile, limited)
        if limited != moments:
            names = ", ".join(dict.fromkeys(repr(tile.device.technology) for tile in distinct))
            shown = ", ".join(format_duration(t) for t in limited)
            progress.note(f"{where}: the default times that the device {names} is not known for are left out: {shown}")
            return limited
    for tile in distinct:
        check_times(tile, moments, where)
    return moments
