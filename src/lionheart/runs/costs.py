"""Records of cost estimates: time and energy on a platform, of programming, and on several cores.

Fields that results of older versions may lack are None or have a neutral default.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

from pydantic import Field

from lionheart.mapping import Placement
from lionheart.record import Record


class WorkKind(StrEnum):
    """Type of work of a core in one step of a schedule."""

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
    """An interval in which one core does one piece of work.

    Args:
        core: Index of the core, from 0.
        inference: Index of the inference, from 0.
        layer: Name of the projection that the work belongs to; the name of the stage for a handover.
        kind: Type of work.
        start_s: Start time [s].
        end_s: End time [s].
    """

    core: int
    inference: int
    layer: str
    kind: WorkKind
    start_s: float
    end_s: float


class CostTotals(Record):
    """Time and energy of one inference.

    Args:
        latency_s: Latency of one inference [s].
        energy_j: Energy of one inference [J].
    """

    latency_s: float
    energy_j: float


class CostRecord(CostTotals):
    """Time and energy of one inference, with their components.

    Args:
        time_breakdown_s: Time of each component [s].
        energy_breakdown_j: Energy of each component [J].
    """

    time_breakdown_s: dict[str, float] | None = None
    energy_breakdown_j: dict[str, float] | None = None


@final
class LayerCostRecord(CostRecord):
    """Cost of one projection as mapped and on the digital core.

    Args:
        fqn: Name of the projection.
        placement: Placement of its matrix-vector products.
        n_tiles: Number of tiles that hold its weight; 0 if digital.
        digital_latency_s: Time on the digital core [s].
        digital_energy_j: Energy on the digital core [J].
    """

    fqn: str
    placement: Placement
    n_tiles: int
    digital_latency_s: float
    digital_energy_j: float


@final
class OpCostRecord(Record):
    """Cost of all operations with one name other than projections; the same for every mapping.

    Args:
        name: Name of the operation.
        latency_s: Time of one inference [s].
        energy_j: Energy of one inference [J].
        reason_free: Reason why the operation costs nothing; empty if it has a cost.
    """

    name: str
    latency_s: float
    energy_j: float
    reason_free: str | None = None


@final
class AgeCost(Record):
    """Cost of reprogramming a chip at regular intervals.

    Args:
        reprogram_after: Time between the starts of two programmings [s].
        power_w: Programming energy divided by this time [W].
        time_share: Share of the time spent on programming; 1 or more: no time is left for inference.
        inferences_per_s: Inference rate above which the mapping saves energy [1/s]; None = it never does.
    """

    reprogram_after: float
    power_w: float
    time_share: float
    inferences_per_s: float | None


@final
class ProgrammingRecord(Record):
    """Time and energy of programming one chip.

    Args:
        technology: Name of the device technology.
        n_devices: Number of devices that are programmed.
        write: ``row``: all devices of a row at a time; ``device``: one device at a time.
        time_s: Programming time [s]; None = unknown.
        energy_j: Programming energy [J]; None = unknown.
        time_breakdown_s: Time of each component [s]; empty if unknown.
        energy_breakdown_j: Energy of each component [J]; empty if unknown.
        break_even_time: Number of inferences that save the programming time; None = never, or unknown.
        break_even_energy: Number of inferences that save the programming energy; None = never, or unknown.
        reprogramming: Cost of reprogramming at the tile's interval; None = the chip is programmed once.
        reason_unknown: Reason why the cost is unknown; empty if it is known.
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


@final
class CoreRecord(Record):
    """One stage of a pipeline.

    Args:
        layers: Names of its projections.
        utilisation: Share of the time in which its core is busy, 0 to 1.
    """

    layers: tuple[str, ...]
    utilisation: float


@final
class ScheduleRecord(Record):
    """Schedule of the cores for a series of inferences.

    Args:
        latency_s: Time until the first result [s].
        interval_s: Mean time from one result to the next [s].
        throughput_per_s: Results per second [1/s].
        total_s: Time at which the last inference ends [s].
        energy_per_inference_j: Energy of one inference [J].
        energy_breakdown_j: Energy of each component in one inference [J].
        cores: Stages of the pipeline.
        events: Pieces of work in the order of their start times.
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
    """A mapping on several cores, or with few tiles, compared with the all-digital network on the same number of cores.

    Args:
        platform: Name of the platform.
        n_cores: Number of available cores.
        n_inferences: Number of consecutive inferences.
        max_tiles: Number of available tiles; None = as many as needed.
        n_tiles: Number of tiles in use.
        n_tiles_wanted: Number of tiles without sharing between layers.
        n_tiles_packed: Number of tiles with sharing between layers.
        without_tiles: Layers that do not fit on the tiles.
        reprogrammed: Layers that are reprogrammed for every inference.
        sharing: Layers on each tile that more than one layer uses.
        latency_gain: All-digital latency over that of the mapped network [-].
        throughput_gain: Throughput of the mapped network over the all-digital one [-].
        energy_gain: All-digital energy over that of the mapped network [-].
        all_digital: Schedule of the all-digital network.
        mapped: Schedule of the mapped network.
        notes: Remarks on the interpretation of the numbers.
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
    """Time and energy of one inference on a platform, mapped and all-digital.

    Args:
        platform: Name of the platform.
        clock_hz: Clock frequency of the core [Hz].
        counted: Costs that the numbers include.
        not_counted: Costs that the numbers leave out.
        assumptions: Assumptions behind the numbers.
        all_digital: Total of the all-digital network.
        mapped: Total of the mapped network.
        speedup: All-digital latency over that of the mapped network [-].
        energy_gain: All-digital energy over that of the mapped network [-].
        n_tiles: Number of tiles of the mapped network.
        tiles_missing: Number of tiles that the mapping needs beyond those of the platform.
        programming: Cost of programming the tiles.
        layers: Cost of each projection, in the network's order.
        other_ops: Cost of all other operations, one row for each name.
        pipeline: Comparison on several cores; None = not simulated.
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
