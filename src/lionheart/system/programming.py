"""What it takes to put a network's weights on tiles, and after how many inferences it has paid for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, final

from lionheart.devices import CustomPairConverter, PairConverter, SingleConverter, TileSpec
from lionheart.errors import ConfigError
from lionheart.partition import TilePartition
from lionheart.runs.costs import AgeCost, ProgrammingRecord
from lionheart.system.platform import PROGRAMMING_UNITS, PlatformSpec
from lionheart.system.tile_energy import mvm_energy, tile_point

_SAME_DEVICE = {"pcm_custom_drift": "pcm"}
WRITES = ("row", "device")


@final
@dataclass(frozen=True)
class ProgrammingEstimate:
    """Time and energy of programming one chip, by component.

    Args:
        technology: Of the devices.
        n_devices: Devices that are programmed.
        write: ``row``: all devices of a row at a time; ``device``: one at a time.
        time_s: Component -> seconds; empty when unknown.
        energy: Component -> joules; empty when unknown.
        saved_s: Seconds that the mapping saves at each inference, against all-digital.
        saved_j: Joules that it saves at each inference.
        reason_unknown: Why there are no numbers; empty when there are.
        reprogram_after: Age at which the tile is programmed anew [s]; None = never.
    """

    technology: str
    n_devices: int
    write: str
    time_s: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    saved_s: float = 0.0
    saved_j: float = 0.0
    reason_unknown: str = ""
    reprogram_after: float | None = None

    @property
    def duration_s(self) -> float:
        """Seconds of programming one chip."""
        return sum(self.time_s.values())

    @property
    def energy_j(self) -> float:
        """Joules of programming one chip."""
        return sum(self.energy.values())

    @property
    def break_even_time(self) -> int | None:
        """Inferences after which the time of programming is saved; None: never, or unknown."""
        return self._divide(self.duration_s, self.saved_s)

    @property
    def break_even_energy(self) -> int | None:
        """Inferences after which the energy of programming is saved; None: never, or unknown."""
        return self._divide(self.energy_j, self.saved_j)

    def _divide(self, spent: float, saved: float) -> int | None:
        return math.ceil(spent / saved) if saved > 0 and not self.reason_unknown else None

    def at_age(self, reprogram_after: float) -> AgeCost:
        """Return what it costs to program anew every `reprogram_after` seconds.

        Raises:
            ConfigError: The time is not positive, or nothing is known about the technology.
        """
        if self.reason_unknown:
            raise ConfigError(f"programming: {self.reason_unknown}")
        if not 0 < reprogram_after < math.inf:
            raise ConfigError(f"programming: got {reprogram_after} s between two programmings, expected more than 0")
        power_w = self.energy_j / reprogram_after
        rate = power_w / self.saved_j if self.saved_j > 0 else None
        return AgeCost(
            reprogram_after=reprogram_after,
            power_w=power_w,
            time_share=self.duration_s / reprogram_after,
            inferences_per_s=rate,
        )

    def summary(self) -> ProgrammingRecord:
        """Return what is written; numbers are None where nothing is known."""
        known = not self.reason_unknown
        return ProgrammingRecord(
            technology=self.technology,
            n_devices=self.n_devices,
            write=self.write,
            time_s=self.duration_s if known else None,
            energy_j=self.energy_j if known else None,
            time_breakdown_s=dict(self.time_s),
            energy_breakdown_j=dict(self.energy),
            break_even_time=self.break_even_time,
            break_even_energy=self.break_even_energy,
            reprogramming=self.at_age(self.reprogram_after) if known and self.reprogram_after else None,
            reason_unknown=self.reason_unknown,
        )


def estimate_programming(
    partitions: Mapping[str, TilePartition],
    platform: PlatformSpec,
    tile: TileSpec | None = None,
    *,
    write: Literal["row", "device"] = "row",
    saved_s: float = 0.0,
    saved_j: float = 0.0,
) -> ProgrammingEstimate:
    """Return time and energy of programming the devices of `partitions` once.

    Each device takes one reset and ``n_pulses`` further pulses, each followed by a read to verify it. A read is a product
    of the whole tile with one row switched on. ``row``: the devices of a row that belong to the same plane (the positive
    ones of pairs, say) are pulsed and read together; ``device``: one after another. Tiles follow each other. Meanwhile the
    core reads the weights from DRAM once and waits.

    Args:
        partitions: Tiles of each analog projection, by name.
        platform: Times and energies.
        tile: Its device and converters; default: PCM, and the platform's converters.
        write: How many devices are written at a time.
        saved_s: Seconds saved at each inference, for the number after which programming has paid.
        saved_j: Joules saved at each inference.

    Raises:
        ConfigError: `write` is neither.

    Assumes:
        All devices take the same number of pulses, also those of a pair that stay at the smallest conductance. Devices
        that hold no weight are not programmed. A read takes as long and as much energy as a product.
    """
    if write not in WRITES:
        raise ConfigError(f"write: got {write!r}, expected one of {', '.join(WRITES)}")
    spec = tile or _default_tile()
    n_weights = sum(sum(p.row_sizes) * sum(p.col_sizes) * p.groups for p in partitions.values())
    one = _of_one_device(spec.device.technology, platform)
    estimate = ProgrammingEstimate(
        spec.device.technology,
        _n_planes(spec) * n_weights,
        write,
        saved_s=saved_s,
        saved_j=saved_j,
        reason_unknown=one if isinstance(one, str) else "",
        reprogram_after=spec.reprogram_after,
    )
    if isinstance(one, str):
        return estimate
    n_writes, verify_j = _count_writes(partitions, platform, tile, write)
    n_bytes = n_weights * platform.activation_bytes
    time_s = {
        "pulses": n_writes * (one["reset_s"] + one["n_pulses"] * one["pulse_s"]),
        "verify_reads": n_writes * one["n_pulses"] * platform.tile_mvm_s,
        "weight_memory": n_bytes / platform.dram_stream_bandwidth_bytes_per_s,
    }
    duration_s = sum(time_s.values())
    energy = {
        "pulses": estimate.n_devices * (one["reset_j"] + one["n_pulses"] * one["pulse_j"]),
        "verify_reads": one["n_pulses"] * verify_j,
        "core_wait": duration_s * platform.clock_hz * platform.wait_energy_j_per_cycle,
        "llc_leakage": duration_s * platform.llc_leakage_w,
        "dram": math.ceil(n_bytes / platform.cache_line_bytes) * platform.dram_energy_j_per_access,
    }
    return replace(estimate, time_s=time_s, energy=energy)


def _count_writes(
    partitions: Mapping[str, TilePartition], platform: PlatformSpec, tile: TileSpec | None, write: str
) -> tuple[int, float]:
    """Return how often devices are pulsed, all pulses of a device as one, and the energy of a read after each [J]."""
    planes, n_writes, verify_j = _n_planes(tile or _default_tile()), 0, 0.0
    for part in partitions.values():
        point, n_products = tile_point(platform, part.tile_rows, part.tile_cols, tile)
        at_a_row = len(part.col_sizes) if write == "row" else sum(part.col_sizes)
        n_own = planes * sum(part.row_sizes) * at_a_row * part.groups
        n_writes += n_own
        verify_j += n_own * n_products * sum(mvm_energy(platform, point).values())
    return n_writes, verify_j


@cache
def _default_tile() -> TileSpec:
    return TileSpec()


def _of_one_device(technology: str, platform: PlatformSpec) -> dict[str, float] | str:
    """Return what one device takes, or why this is not known."""
    name = _SAME_DEVICE.get(technology, technology)
    keys = {quantity: f"{name}.{quantity}" for quantity in PROGRAMMING_UNITS}
    missing = [key for key in keys.values() if key not in platform.programming]
    if missing:
        tables = ", ".join(f"[programming.{key}]" for key in missing)
        return f"no number for {technology} at hand; a platform file may give {tables}"
    return {quantity: platform.programming[key] for quantity, key in keys.items()}


def _n_planes(tile: TileSpec) -> int:
    """Return the devices that hold one weight."""
    converter = tile.device.converter
    if isinstance(converter, SingleConverter):
        return 1
    if isinstance(converter, (PairConverter, CustomPairConverter)):
        return 2 * len(converter.significance)
    raise ConfigError(f"device.converter: got {type(converter).__name__}, expected one whose devices can be counted")
