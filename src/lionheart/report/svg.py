"""SVG elements, scales and tick positions, from which the figures of the report are built."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup, escape


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """Return one SVG element.

    Args:
        name: Name of the element, for example ``"rect"``.
        *children: Content of the element. Strings are escaped, except strings of type `Markup`.
        **attributes: Attributes of the element. Attributes with the value None are left out, and floats are rounded to two
            decimal places. In names, a trailing underscore is removed (``class_`` sets ``class``), and other underscores become
            dashes.
    """
    parts = []
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
            parts.append(Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), shown))
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, Markup("").join(parts), inside)


@final
@dataclass(frozen=True)
class LinearScale:
    """A linear map from values in ``[low, high]`` to coordinates in ``[start, end]``.

    Args:
        low: Value at `start`.
        high: Value at `end`; different from `low`.
        start: Coordinate of `low`.
        end: Coordinate of `high`.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of `value`. The map also applies to values outside ``[low, high]``."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@final
@dataclass(frozen=True)
class TimeScale:
    """A logarithmic map from times to coordinates. Time zero is drawn one decade before the first positive time.

    Args:
        low: Smallest positive time [s].
        high: Largest time [s], greater than `low`.
        start: Coordinate of the left end.
        end: Coordinate of `high`.
        has_zero: Whether the left end represents time zero and is one decade before `low`. If False, `low` is at the left end.
    """

    low: float
    high: float
    start: float
    end: float
    has_zero: bool = False

    @classmethod
    def over(cls, times: Sequence[float], start: float, end: float) -> TimeScale:
        """Return a scale that covers `times` [s] between the coordinates `start` and `end`.

        If there is only one positive time, the scale covers one decade before and one decade after this time.
        """
        positive = sorted(t for t in times if t > 0) or [1.0]
        low, high = positive[0], positive[-1]
        has_zero = any(t <= 0 for t in times)
        if math.isclose(low, high):
            low, high = (low, high * 10) if has_zero else (low / 10, high * 10)
        return cls(low, high, start, end, has_zero)

    def __call__(self, seconds: float) -> float:
        """Return the coordinate of the time `seconds` [s]. Time zero has the coordinate `start`."""
        left = math.log10(self.low) - (1.0 if self.has_zero else 0.0)
        place = math.log10(seconds) if seconds > 0 else left
        return self.start + (place - left) / (math.log10(self.high) - left) * (self.end - self.start)


def choose_ticks(low: float, high: float, n_ticks: int = 5) -> list[float]:
    """Return about `n_ticks` evenly spaced tick positions in ``[low, high]``, in ascending order.

    The distance between neighbouring ticks is 1, 2 or 5 times a power of ten.
    """
    raw = (high - low) / max(n_ticks, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def spread_labels(positions: Sequence[float], gap: float) -> list[float]:
    """Return `positions`, moved so that neighbours are at least `gap` apart. The order and the mean do not change."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    moved = list(positions)
    for _ in range(20 * len(positions)):
        for lower, upper in itertools.pairwise(order):
            overlap = gap - (moved[upper] - moved[lower])
            if overlap > 1e-6:
                moved[lower] -= overlap / 2
                moved[upper] += overlap / 2
    return moved
