"""Records of cost estimates: time and energy of inference on one core, of inference on several cores, and of programming chips.

Older versions of lionheart did not write all fields. The missing fields get a default value when a file of such a version is
read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

from pydantic import Field

from lionheart.mapping import Placement
from lionheart.record import Record


class WorkKind(StrEnum):
    """Type of the work in one time interval of a simulated schedule, such as a digital layer or the programming of tiles."""

    NETWORK_IO = "network io"
    DIGITAL = "digital"
    SUPPORT = "tile support"
    PROGRAM = "program"
    TILE = "tile"
    OTHER = "other ops"
    HANDOVER = "handover"


@final
@dataclass(frozen=True)
class ScheduleEvent:
    """A time interval of a simulated schedule, in which one core does one step of the work for one inference.

    Args:
        core: Index of the core, counted from 0.
        inference: Index of the inference, counted from 0.
        layer: Name of the projection (weight matrix) for which the work is done. If `kind` is ``handover``, name of the
            pipeline stage whose result is handed to the next core.
        kind: Type of the work.
        start_s: Start of the interval, measured from the start of the first inference [s].
        end_s: End of the interval, measured from the start of the first inference [s].
    """

    core: int
    inference: int
    layer: str
    kind: WorkKind
    start_s: float
    end_s: float


class CostTotals(Record):
    """Total time and energy of one inference.

    Args:
        latency_s: Total time of one inference [s].
        energy_j: Total energy of one inference [J].
    """

    latency_s: float
    energy_j: float


class CostRecord(CostTotals):
    """Time and energy of one inference, in total and by component, such as memory accesses or tiles.

    Args:
        time_breakdown_s: Part of `latency_s` for each component, by its name [s]; None = not recorded.
        energy_breakdown_j: Part of `energy_j` for each component, by its name [J]; None = not recorded.
    """

    time_breakdown_s: dict[str, float] | None = None
    energy_breakdown_j: dict[str, float] | None = None


@final
class PolicyCostRecord(Record):
    """Read policy of an analog projection (weight matrix), and what it costs in one inference.

    Args:
        policy: Settings of the policy that are not default, in few words, for example ``4 reads, 9 row copies``.
        latency_s: Additional time against the same projection with the default policy [s].
        energy_j: Additional energy against the same projection with the default policy [J].
        reads_j: Energy of all reads of the projection's tiles, which is part of its energy [J].
    """

    policy: str
    latency_s: float
    energy_j: float
    reads_j: float


@final
class LayerCostRecord(CostRecord):
    """Time and energy of one projection (weight matrix) in one inference.

    The inherited fields hold the cost with the placement of the projection in the mapping. For comparison, `digital_latency_s`
    and `digital_energy_j` hold the cost if the projection is digital.

    Args:
        fqn: Fully qualified name of the projection.
        placement: ``analog`` if tiles compute the matrix-vector products of the projection, ``digital`` if the core does.
        n_tiles: Number of tiles that store the weight matrix of the projection; 0 if the projection is digital.
        digital_latency_s: Time for the projection if the core computes it [s].
        digital_energy_j: Energy for the projection if the core computes it [J].
        policy: Read policy of the projection; None = digital, or one read without copies and with a static input range.
    """

    fqn: str
    placement: Placement
    n_tiles: int
    digital_latency_s: float
    digital_energy_j: float
    policy: PolicyCostRecord | None = Field(default=None, exclude_if=lambda value: value is None)


@final
class OpCostRecord(Record):
    """Time and energy of all operations of one type that use no weight matrix, such as all activation functions.

    Time and energy of these operations do not depend on the mapping.

    Args:
        name: Name of the operation.
        latency_s: Total time for these operations in one inference [s].
        energy_j: Total energy for these operations in one inference [J].
        reason_free: Reason why the operations have no cost in the cost model; empty if they have a cost; None = not recorded.
    """

    name: str
    latency_s: float
    energy_j: float
    reason_free: str | None = None


@final
class AgeCost(Record):
    """Cost of reprogramming a chip at regular intervals, which is necessary because the stored weights drift.

    Args:
        reprogram_after: Time from the start of one programming to the start of the next [s].
        power_w: Mean power of reprogramming: energy of one programming divided by `reprogram_after` [W].
        time_share: Fraction of the time spent on programming: duration of one programming divided by `reprogram_after`. If the
            value is 1 or more, no time remains for inference.
        inferences_per_s: Inference rate above which the tiles save more energy in inference than reprogramming consumes [1/s];
            None = the tiles save no energy.
    """

    reprogram_after: float
    power_w: float
    time_share: float
    inferences_per_s: float | None


@final
class ReferenceReadRecord(Record):
    """Time and energy of one reference read of all tiles of a chip, from which the factors that compensate drift are computed.

    Args:
        n_mvms: Number of matrix-vector products on tiles.
        time_s: Time of the read [s].
        energy_j: Energy of the read [J].
    """

    n_mvms: int
    time_s: float
    energy_j: float


@final
class ProgrammingRecord(Record):
    """Time and energy to program the weights of a mapping to the tiles of one chip.

    Args:
        technology: Name of the memory device technology, such as ``pcm``.
        n_devices: Number of memory devices that are programmed on the chip.
        write: ``row`` if all devices of a row are programmed at the same time, ``device`` if one device at a time.
        time_s: Programming time [s]; None = unknown.
        energy_j: Programming energy [J]; None = unknown.
        time_breakdown_s: Part of `time_s` for each component, by its name [s]; empty if unknown.
        energy_breakdown_j: Part of `energy_j` for each component, by its name [J]; empty if unknown.
        break_even_time: Number of inferences after which the time saved by the tiles equals the programming time; None = the
            tiles save no time, or the programming time is unknown.
        break_even_energy: Number of inferences after which the energy saved by the tiles equals the programming energy; None =
            the tiles save no energy, or the programming energy is unknown.
        reprogramming: Cost of reprogramming at the interval that the tile settings specify; None = the chip is programmed once.
        reason_unknown: Reason why programming time and energy are unknown; empty if both are known.
        reference_read: Cost of one reference read of all tiles, which is not part of the programming cost; None = drift is not
            compensated.
    """

    technology: str
    n_devices: int
    write: str
    time_s: float | None
    energy_j: float | None
    time_breakdown_s: dict[str, float]
    energy_breakdown_j: dict[str, float]
    break_even_time: int | None
    break_even_energy: int | None
    reprogramming: AgeCost | None = None
    reason_unknown: str = ""
    reference_read: ReferenceReadRecord | None = Field(default=None, exclude_if=lambda value: value is None)


@final
class CoreRecord(Record):
    """One stage of a pipeline: consecutive layers that run on the same core.

    Args:
        layers: Names of the projections (weight matrices) in the stage.
        utilisation: Fraction of the total time of the schedule in which the core works, excluding waits and handovers, 0 to 1.
    """

    layers: tuple[str, ...]
    utilisation: float


@final
class ScheduleRecord(Record):
    """Simulated schedule of consecutive inferences on a pipeline of cores.

    Args:
        latency_s: Time from the start to the result of the first inference [s].
        interval_s: Mean time from one result to the next [s]; for a single inference, equal to `latency_s`.
        throughput_per_s: Mean number of results per second [1/s]; None = not recorded.
        total_s: Time from the start to the result of the last inference [s]; None = not recorded.
        energy_per_inference_j: Mean energy of one inference [J].
        energy_breakdown_j: Part of `energy_per_inference_j` for each component, by its name [J]; None = not recorded.
        cores: Stages of the pipeline, one for each core in use.
        events: Time intervals of the work of all cores.
    """

    latency_s: float
    interval_s: float
    energy_per_inference_j: float
    cores: tuple[CoreRecord, ...]
    events: tuple[ScheduleEvent, ...]
    throughput_per_s: float | None = None
    total_s: float | None = None
    energy_breakdown_j: dict[str, float] | None = None


@final
class PipelineRecord(Record):
    """Comparison of a mapped network with the all-digital network on the same number of cores, from simulated schedules.

    The cores form a pipeline: each core computes some consecutive layers. The number of tiles may be limited.

    Args:
        platform: Name of the hardware platform.
        n_cores: Number of cores that each of the two networks may use.
        n_inferences: Number of consecutive inferences in the simulation.
        max_tiles: Number of available tiles; None = unlimited.
        n_tiles: Number of tiles that the mapped network uses in the simulation.
        n_tiles_wanted: Number of tiles that the mapping needs if every layer has its own tiles.
        n_tiles_packed: Number of tiles that the mapping needs if layers share tiles.
        without_tiles: Names of layers that are analog in the mapping but digital in the simulation, because they do not fit on
            the available tiles.
        reprogrammed: Names of layers whose tiles are reprogrammed for every inference.
        sharing: Names of the layers on each shared tile. The outer tuple has one element for each tile that more than one layer
            uses.
        latency_gain: Latency of the all-digital network divided by the latency of the mapped network [-].
        throughput_gain: Throughput of the mapped network divided by the throughput of the all-digital network [-].
        energy_gain: Energy of the all-digital network divided by the energy of the mapped network [-].
        all_digital: Schedule of the all-digital network.
        mapped: Schedule of the mapped network.
        notes: Assumptions of the simulation, one sentence each.
    """

    platform: str
    n_cores: int
    n_inferences: int
    max_tiles: int | None = None
    n_tiles: int
    n_tiles_wanted: int
    n_tiles_packed: int
    without_tiles: tuple[str, ...]
    reprogrammed: tuple[str, ...]
    sharing: tuple[tuple[str, ...], ...]
    latency_gain: float
    throughput_gain: float
    energy_gain: float
    all_digital: ScheduleRecord
    mapped: ScheduleRecord
    notes: tuple[str, ...]


@final
class SystemRecord(Record):
    """Estimated time and energy of one inference on a platform, for the mapped network and for the all-digital network.

    Args:
        platform: Name of the hardware platform.
        clock_hz: Clock frequency of the core [Hz].
        counted: Descriptions of the costs that the estimate includes.
        not_counted: Descriptions of the costs that the estimate does not include.
        assumptions: Assumptions of the estimate, one sentence each.
        all_digital: Time and energy of the all-digital network.
        mapped: Time and energy of the mapped network.
        speedup: Latency of the all-digital network divided by the latency of the mapped network [-].
        energy_gain: Energy of the all-digital network divided by the energy of the mapped network [-].
        n_tiles: Number of tiles that the mapping needs.
        tiles_missing: Number of tiles that the mapping needs in excess of the tiles that the platform has.
        programming: Time and energy to program the tiles once; None = not recorded.
        layers: Cost of each projection (weight matrix), in the order of the network.
        other_ops: Cost of the operations without a weight matrix, one element for each type of operation; None = not recorded.
        pipeline: Comparison of both networks on a pipeline of cores; None = not simulated.
    """

    platform: str
    clock_hz: float | None = None
    counted: tuple[str, ...] | None = None
    not_counted: tuple[str, ...] | None = None
    assumptions: tuple[str, ...] | None = None
    all_digital: CostRecord
    mapped: CostRecord
    speedup: float
    energy_gain: float
    n_tiles: int
    tiles_missing: int = 0
    programming: ProgrammingRecord | None = None
    layers: tuple[LayerCostRecord, ...]
    other_ops: tuple[OpCostRecord, ...] | None = None
    pipeline: PipelineRecord | None = Field(default=None, exclude_if=lambda value: value is None)
