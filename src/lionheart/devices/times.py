"""Times after programming at which a memory device can be read, and a check of the times at which a tile is evaluated.

A device that is known from measurements cannot be read at every time. `DeviceSpec.read_times` states the times of a device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from lionheart.errors import ConfigError
from lionheart.units import format_duration

if TYPE_CHECKING:
    from lionheart.devices.tile import TileSpec

_MOST_SHOWN = 8  # times in an error message


@final
@dataclass(frozen=True)
class ReadTimes:
    """Times after programming at which a memory device can be read.

    Args:
        longest: Last time [s]; infinity = no last time.
        only: The only times at which the device can be read, in ascending order [s]; None = every time up to `longest`.
    """

    longest: float = math.inf
    only: tuple[float, ...] | None = None

    @classmethod
    def at(cls, times: tuple[float, ...]) -> ReadTimes:
        """Return the `ReadTimes` of a device that can be read at the given times only [s], in ascending order."""
        return cls(times[-1], times)

    def __contains__(self, t_inference: float) -> bool:
        return t_inference <= self.longest if self.only is None else t_inference in self.only

    def __str__(self) -> str:
        if self.only is not None:
            return _join_times(self.only)
        return "any time" if self.longest == math.inf else f"at most {format_duration(self.longest)}"

    def find_nearest(self, t_inference: float, at_most: float = math.inf) -> float:
        """Return the known time that is nearest to `t_inference` on a logarithmic scale [s].

        Args:
            t_inference: Time after programming [s].
            at_most: Upper limit of the result [s]. If no known time is within the limit, the first known time is returned.
        """
        if self.only is None:
            return min(t_inference, self.longest)
        allowed = [t for t in self.only if t <= at_most] or [self.only[0]]
        return min(allowed, key=lambda t: abs(math.log(t / max(t_inference, allowed[0]))))


def _join_times(times: Iterable[float]) -> str:
    """Return times [s] as text, separated by commas. At most eight times are written."""
    texts = [format_duration(t) for t in times]
    return ", ".join(texts[:_MOST_SHOWN]) + (", ..." if len(texts) > _MOST_SHOWN else "")


def limit_times(tile: TileSpec, times: Iterable[float]) -> list[float]:
    """Return the times at which the devices of a tile can be read, or the nearest such time if there are none [s]."""
    moments = list(times)
    known = [t for t in moments if tile.can_be_read_at(t)]
    return known or list(dict.fromkeys(tile.device.read_times.find_nearest(t) for t in moments))


def check_times(tile: TileSpec, times: Iterable[float], where: str) -> None:
    """Check that the devices of a tile can be read at the given times after programming [s].

    Args:
        tile: Tile settings, with the device and the reprogramming interval.
        times: Times after programming [s].
        where: Name of the argument or setting that contains the times, with which the error message begins.

    Raises:
        ConfigError: The devices cannot be read at one of the times.
    """
    unknown = [t for t in times if not tile.can_be_read_at(t)]
    if not unknown:
        return
    device = tile.device
    again = (
        "" if tile.reprogram_after is None else f" (chips reprogrammed every {format_duration(tile.reprogram_after)})"
    )
    raise ConfigError(
        f"{where}: got {_join_times(unknown)}{again}, expected times at which the device {device.technology!r} is known: "
        f"{device.read_times}",
        hint=f"give only such times, for example {format_duration(device.read_times.find_nearest(unknown[-1]))}, or use "
        "another device; this one has no data for other times",
    )
