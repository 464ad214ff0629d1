"""Parsing of durations, and formatting of durations, counts and physical quantities as text.

Times in code are always in seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from numbers import Real

from lionheart.errors import ConfigError

#: Seconds per duration unit. A month has 30 days and a year 365 days.
SECONDS_PER_UNIT = {
    "s": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
    "mo": 2_592_000.0,
    "y": 31_536_000.0,
}
_DURATION = re.compile(r"^\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Z]*)\s*$")


def parse_duration(text: str | float) -> float:
    """Return a duration in seconds, given as a number or as text.

    Args:
        text: Number of seconds, or a string of a number and a unit, such as ``"1d"``, ``"90s"`` or ``"1mo"``. A string without
            a unit is in seconds. Units are s, m or min, h, d, w, mo (30 days) and y (365 days), in upper or lower case.

    Returns:
        Duration [s], finite and >= 0.

    Raises:
        ConfigError: The text is not a duration, or the duration is negative or not finite.
    """
    if isinstance(text, Real) and not isinstance(text, bool):
        try:
            seconds = float(text)
        except OverflowError:  # a whole number beyond the range of floating point
            seconds = math.inf
    else:
        match = _DURATION.match(text) if isinstance(text, str) else None
        if match is None or (match[2] or "s").lower() not in SECONDS_PER_UNIT:
            raise ConfigError(
                f"duration: got {text!r:.80}, expected a number of seconds, or a number followed by a unit of time",
                hint="write, for example, 1s, 30min, 1h, 1d, 1w, 1mo (30 days) or 1y (365 days)",
            )
        seconds = float(match[1]) * SECONDS_PER_UNIT[(match[2] or "s").lower()]
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigError(
            f"duration: got {text!r:.80}, expected a finite number >= 0",
            hint="give a finite time that is not negative, for example 1d",
        )
    return seconds


def parse_durations(times: str | float | Iterable[str | float], where: str) -> list[float]:
    """Return one or more durations as a list of numbers of seconds, in the given order.

    Args:
        times: A duration in a form that `parse_duration` accepts, or several such durations.
        where: Name of the argument that is shown in error messages.

    Returns:
        Durations [s], at least one.

    Raises:
        ConfigError: No duration is given, or a given duration is invalid.
    """
    hint = f'write {where.rpartition(" ")[2]}=["1s", "1d"]'
    given = [times] if isinstance(times, (str, int, float)) else times
    if not isinstance(given, Iterable):
        raise ConfigError(
            f"{where}: got {type(times).__name__}, expected a duration or a sequence of durations", hint=hint
        )
    moments = []
    for each in given:
        if isinstance(each, bool) or not isinstance(each, (str, int, float)):
            hint_of_one = 'give a string such as "1d", or a number of seconds'
            raise ConfigError(f"{where}: got {each!r}, expected a duration", hint=hint_of_one)
        try:
            moments.append(parse_duration(each))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    if not moments:
        raise ConfigError(f"{where}: got no duration, expected at least one", hint=hint)
    return moments


def format_duration(seconds: float) -> str:
    """Return a duration as text in the largest unit (except weeks) that gives a whole number, otherwise in seconds.

    For example, 86400 s are formatted as ``"1d"``, and 0.5 s as ``"0.5s"``.
    """
    if seconds == 0:
        return "0s"
    for unit in ("y", "mo", "w", "d", "h", "min"):
        size = SECONDS_PER_UNIT[unit]
        if seconds >= size and math.isclose(seconds / size, round(seconds / size), rel_tol=1e-9):
            if unit == "w":
                continue
            return f"{round(seconds / size)}{unit}"
    return f"{seconds:.12g}s"


def format_elapsed(seconds: float) -> str:
    """Return an elapsed time as text, in seconds, in minutes and seconds, or in hours and minutes.

    For example, 75 s are formatted as ``"1 min 15 s"``.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_count(value: float) -> str:
    """Return a count as text with a decimal prefix, for example ``"12.50 M"`` for 12500000."""
    if abs(value) < 1000:
        return f"{value:g}"
    text = ""
    for size, prefix in ((1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T")):
        text = f"{value / size:.2f} {prefix}"
        if abs(value) / size < 999.995:
            break
    return text


def format_si(value: float, unit: str, digits: int = 3) -> str:
    """Return a quantity as text with an SI prefix and `digits` significant digits.

    For example, a `value` of 1.3e-4 with the `unit` ``"s"`` is formatted as ``"130 µs"``.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    prefixes = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}
    exponent = min(max(3 * math.floor(math.log10(abs(value)) / 3), -12), 12)
    scaled = value / 10.0**exponent
    if abs(float(f"{scaled:.{digits}g}")) >= 1000 and exponent < 12:
        exponent += 3
        scaled = value / 10.0**exponent
    rounded = abs(float(f"{scaled:.{digits}g}"))
    decimals = max(digits - 1 - math.floor(math.log10(rounded)), 0) if rounded else 0
    return f"{scaled:.{decimals}f} {prefixes[exponent]}{unit}"
