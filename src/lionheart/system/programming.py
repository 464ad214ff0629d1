"""Time and energy needed to program a network's weights into tiles.

The module also computes the number of inferences after which a mapping has saved as much time or energy as
the programming takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal, final

from lionheart.devices import CustomPairConverter, PairConverter, SingleConverter, TileSpec
from lionheart.errors import ConfigError
from lionheart.partition import TilePartition
from lionheart.runs.costs import AgeCost, ProgrammingRecord, ReferenceReadRecord
from lionheart.system.platform import PROGRAMMING_UNITS, PlatformSpec
from lionheart.system.read_policy import TilePlan, count_weights, occupy
from lionheart.system.tile_energy import mvm_energy, tile_point

_SAME_DEVICE = {"pcm_custom_drift": "pcm"}
WRITES = ("row", "device")


@final
@dataclass(frozen=True)
class ProgrammingEstimate:
    """Time and energy of programming all tiles of a chip once, by component.

    Args:
        technology: Name of the device technology.
        n_devices: Number of devices that are programmed.
        write: Devices that are written at the same time: ``row`` = the devices of a row, ``device`` = a single device.
        time_s: Time of each component, such as pulses and verifying reads [s]; empty if the cost is unknown.
        energy: Energy of each component [J]; empty if the cost is unknown.
        saved_s: Time of one inference of the all-digital network minus the time of one inference with the mapping [s].
        saved_j: Energy of one inference of the all-digital network minus the energy of one inference with the mapping [J].
        reason_unknown: Reason why the cost is unknown; empty if the cost is known.
        reprogram_after: Age of the programmed weights at which the tiles are reprogrammed [s]; None = never.
        reference_read: Cost of one reference read of all tiles; None = drift is not compensated.
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
    reference_read: ReferenceReadRecord | None = None

    @property
    def duration_s(self) -> float:
        """Time of programming the chip once [s]; 0 if the cost is unknown."""
        return sum(self.time_s.values())

    @property
    def energy_j(self) -> float:
        """Energy of programming the chip once [J]; 0 if the cost is unknown."""
        return sum(self.energy.values())

    @property
    def break_even_time(self) -> int | None:
        """Number of inferences after which the mapping has saved as much time as the programming takes.

        None if the mapping saves no time in an inference, or if the programming cost is unknown.
        """
        return self._divide(self.duration_s, self.saved_s)

    @property
    def break_even_energy(self) -> int | None:
        """Number of inferences after which the mapping has saved as much energy as the programming takes.

        None if the mapping saves no energy in an inference, or if the programming cost is unknown.
        """
        return self._divide(self.energy_j, self.saved_j)

    def _divide(self, spent: float, saved: float) -> int | None:
        return math.ceil(spent / saved) if saved > 0 and not self.reason_unknown else None

    def at_age(self, reprogram_after: float) -> AgeCost:
        """Return the mean power [W] and the fraction of time needed to reprogram the chip at regular intervals.

        The returned record also contains the inference rate [1/s] above which the mapping saves more energy than the
        programming needs.

        Args:
            reprogram_after: Time from the start of one programming to the start of the next [s].

        Raises:
            ConfigError: `reprogram_after` is not a positive, finite number, or the programming cost is unknown.
        """
        if self.reason_unknown:
            raise ConfigError(
                f"programming: {self.reason_unknown}",
                hint="give the missing programming cost in a platform file, and use that platform",
            )
        if not 0 < reprogram_after < math.inf:
            raise ConfigError(
                f"reprogram_after: got {reprogram_after} s, expected more than 0 and less than infinity",
                hint="give the time between two programmings in seconds, for example 86400 for one day",
            )
        power_w = self.energy_j / reprogram_after
        rate = power_w / self.saved_j if self.saved_j > 0 else None
        return AgeCost(
            reprogram_after=reprogram_after,
            power_w=power_w,
            time_share=self.duration_s / reprogram_after,
            inferences_per_s=rate,
        )

    def summary(self) -> ProgrammingRecord:
        """Return the estimate as a record for result files. The total time and energy are None if the cost is unknown."""
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
            reference_read=self.reference_read,
        )


def estimate_programming(
    partitions: Mapping[str, TilePartition],
    platform: PlatformSpec,
    tile: TileSpec | TilePlan | None = None,
    *,
    write: Literal["row", "device"] = "row",
    saved_s: float = 0.0,
    saved_j: float = 0.0,
) -> ProgrammingEstimate:
    """Return the time and energy of programming all devices on the tiles in `partitions` once.

    Each device receives one reset pulse and then further pulses, whose number is a constant of the platform. A read after each
    further pulse verifies the conductance. A read costs as much as a product of the whole tile, although only one row is
    switched on.

    With ``write="row"``, the devices of a row that belong to the same plane are pulsed and read together. A plane contains, for
    example, the positive devices of all pairs. With ``write="device"``, one device is pulsed and read after another. Tiles are
    programmed one after another. The core reads the weights from DRAM once, and waits during the programming. Each copy of a
    weight and each of its device pairs is programmed.

    Args:
        partitions: Tiles of each analog projection (weight matrix), by name.
        platform: Platform that gives the times and energies of pulses, reads and memory accesses.
        tile: Device, converters and read policy of the tiles; None = PCM devices, with the platform's converters.
        write: Devices that are written at the same time: ``row`` = the devices of a row, ``device`` = a single device.
        saved_s: Time that the mapping saves in each inference, for the break-even number of inferences [s].
        saved_j: Energy that the mapping saves in each inference, for the break-even number of inferences [J].

    Raises:
        ConfigError: `write` is neither ``row`` nor ``device``, or the number of devices per weight is unknown for the tile's
            device.

    Assumes:
        All devices receive the same number of pulses, including the devices of a pair that stay at the smallest conductance.
        Devices that hold no weight are not programmed. A read takes the same time and energy as a product.
    """
    if write not in WRITES:
        raise ConfigError(
            f"write: got {write!r}, expected {' or '.join(map(repr, WRITES))}",
            hint="use 'row' to write the devices of a row at the same time, or 'device' to write one device after another",
        )
    plan = TilePlan.of(tile)
    spec = plan.common or _default_tile()
    n_weights = sum(map(count_weights, partitions.values()))
    one = _of_one_device(spec.device.technology, platform)
    estimate = ProgrammingEstimate(
        spec.device.technology,
        sum(_n_planes(plan.find(fqn)) * count_weights(occupy(p, plan.find(fqn))) for fqn, p in partitions.items()),
        write,
        saved_s=saved_s,
        saved_j=saved_j,
        reason_unknown=one if isinstance(one, str) else "",
        reprogram_after=spec.reprogram_after,
        reference_read=estimate_reference_read(partitions, platform, plan),
    )
    if isinstance(one, str):
        return estimate
    n_writes, verify_j = _count_writes(partitions, platform, plan, write)
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


def estimate_reference_read(
    partitions: Mapping[str, TilePartition], platform: PlatformSpec, tile: TileSpec | TilePlan | None = None
) -> ReferenceReadRecord | None:
    """Return the cost of one reference read of all tiles in `partitions`, or None if drift is not compensated.

    Each time at which a chip is read needs one reference read of this cost. The setting ``reference_inputs="rows"`` needs one
    more directly after programming; ``signs`` does not, because its reference is the exact weights.

    Args:
        partitions: Tiles of each analog projection (weight matrix), by name.
        platform: Platform that gives the time and energy of a product.
        tile: Converters and drift compensation of the tiles; None = PCM devices, with the platform's converters.

    Assumes:
        A product takes the time and energy of the whole tile, even if a single row has an input. The tiles are read one after
        another, and the core waits. The number of products of a tile is its used rows for ``rows``, and ``reference_reads`` for
        ``signs``. For ``auto`` it is the larger of both, because the choice depends on the weights. The digital sums over the
        outputs and the memory for the reference are not included. A reference read reads each product once, with any number of
        reads in an inference.
    """
    plan = TilePlan.of(tile)
    specs = {fqn: plan.find(fqn) or _default_tile() for fqn in partitions} or {"": plan.common or _default_tile()}
    if all(spec.drift_compensation == "none" for spec in specs.values()):
        return None
    n_mvms, mvms_j = 0, 0.0
    for fqn, part in partitions.items():
        if specs[fqn].drift_compensation == "none":
            continue
        point, n_products = tile_point(platform, part.tile_rows, part.tile_cols, plan.find(fqn))
        by_row = [_count_reads(rows, specs[fqn]) for rows in part.row_sizes]
        n_own = sum(by_row) * len(part.col_sizes) * part.groups
        n_mvms += n_own
        mvms_j += n_own * n_products * sum(mvm_energy(platform, point).values())
    time_s = n_mvms * platform.tile_mvm_s
    waiting_w = platform.clock_hz * platform.wait_energy_j_per_cycle + platform.llc_leakage_w
    return ReferenceReadRecord(n_mvms=n_mvms, time_s=time_s, energy_j=mvms_j + time_s * waiting_w)


def _count_reads(n_rows: int, tile: TileSpec) -> int:
    """Return the number of products in the reference read of a tile with `n_rows` used rows."""
    return {"rows": n_rows, "signs": tile.reference_reads, "auto": max(n_rows, tile.reference_reads)}[
        tile.reference_inputs
    ]


def _count_writes(
    partitions: Mapping[str, TilePartition], platform: PlatformSpec, plan: TilePlan, write: str
) -> tuple[int, float]:
    """Return the number of writes, and the total energy of the verifying reads if each write is followed by one read [J].

    A write comprises all pulses of the devices that are written together.
    """
    n_writes, verify_j = 0, 0.0
    for fqn, partition in partitions.items():
        tile = plan.find(fqn)
        part = occupy(partition, tile)
        point, n_products = tile_point(platform, part.tile_rows, part.tile_cols, tile)
        at_a_row = len(part.col_sizes) if write == "row" else sum(part.col_sizes)
        n_own = _n_planes(tile) * sum(part.row_sizes) * at_a_row * part.groups
        n_writes += n_own
        verify_j += n_own * n_products * sum(mvm_energy(platform, point).values())
    return n_writes, verify_j


@cache
def _default_tile() -> TileSpec:
    return TileSpec()


def _of_one_device(technology: str, platform: PlatformSpec) -> dict[str, float] | str:
    """Return times, energies and pulse number (`PROGRAMMING_UNITS`) for one device, or the reason why these are unknown."""
    name = _SAME_DEVICE.get(technology, technology)
    keys = {quantity: f"{name}.{quantity}" for quantity in PROGRAMMING_UNITS}
    missing = [key for key in keys.values() if key not in platform.programming]
    if missing:
        tables = ", ".join(f"[programming.{key}]" for key in missing)
        return f"no number for {technology} at hand; a platform file may give {tables}"
    return {quantity: platform.programming[key] for quantity, key in keys.items()}


def _n_planes(tile: TileSpec | None) -> int:
    """Return the number of devices that represent one copy of a weight on `tile`, such as 2 for one pair of devices."""
    spec = tile or _default_tile()
    converter = spec.device.converter
    if isinstance(converter, SingleConverter):
        return spec.device_pairs
    if isinstance(converter, (PairConverter, CustomPairConverter)):
        return 2 * len(converter.significance) * spec.device_pairs
    raise ConfigError(
        f"device.converter: got {type(converter).__name__}, expected SingleConverter, PairConverter or CustomPairConverter, "
        "because the number of devices per weight must be known",
        hint="estimate the programming cost with a device that uses one of these converters",
    )
