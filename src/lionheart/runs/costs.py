"""What is written of an estimate: time and energy on a platform, of programming, and on several cores.

Parts that results of older versions may lack are None, or have the value that says nothing happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final

from pydantic import Field

from lionheart.mapping import Placement
from lionheart.record import Record


class WorkKind(StrEnum):
    """What a core does in a step."""

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
    """A stretch of work of one core.

    Args:
        core: Which core, from 0.
        inference: Which inference, from 0.
        layer: The projection that it belongs to; the stage's name for a handover.
        kind: What it is.
        start_s: When it begins [s].
        end_s: When it ends [s].
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
        latency_s: Time [s].
        energy_j: Energy [J].
    """

    latency_s: float
    energy_j: float


class CostRecord(CostTotals):
    """Time and energy of one inference, with their components.

    Args:
        time_breakdown_s: Component -> seconds.
        energy_breakdown_j: Component -> joules.
    """

    time_breakdown_s: dict[str, float] | None = None
    energy_breakdown_j: dict[str, float] | None = None


@final
class LayerCostRecord(CostRecord):
    """Cost of one projection as mapped, and on the core.

    Args:
        fqn: The projection.
        placement: Where its products run.
        n_tiles: Tiles that hold its weight; 0 when digital.
        digital_latency_s: Time on the core [s].
        digital_energy_j: Energy on the core [J].
    """

    fqn: str
    placement: Placement
    n_tiles: int
    digital_latency_s: float
    digital_energy_j: float


@final
class OpCostRecord(Record):
    """Cost of all other operations of one name, the same in every mapping.

    Args:
        name: The operation.
        latency_s: Time [s].
        energy_j: Energy [J].
        reason_free: Why it costs nothing; empty when it has a price.
    """

    name: str
    latency_s: float
    energy_j: float
    reason_free: str | None = None


@final
class AgeCost(Record):
    """Cost of programming a chip at regular intervals.

    Args:
        reprogram_after: Seconds between the starts of two programmings.
        power_w: Energy of programming, spread over this time.
        time_share: Share of the time that is spent on programming; 1 and more: it never computes.
        inferences_per_s: Inferences a second from which on the mapping saves energy; None: it never does.
    """

    reprogram_after: float
    power_w: float
    time_share: float
    inferences_per_s: float | None


@final
class ProgrammingRecord(Record):
    """Time and energy of programming one chip.

    Args:
        technology: Of the devices.
        n_devices: Devices that are programmed.
        write: ``row``: all devices of a row at a time; ``device``: one at a time.
        time_s: Seconds; None when unknown.
        energy_j: Joules; None when unknown.
        time_breakdown_s: Component -> seconds; empty when unknown.
        energy_breakdown_j: Component -> joules; empty when unknown.
        break_even_time: Inferences after which the time of programming is saved; None: never, or unknown.
        break_even_energy: Inferences after which the energy of programming is saved; None: never, or unknown.
        reprogramming: Cost of programming again at the tile's age; None = it is programmed once.
        reason_unknown: Why there are no numbers; empty when there are.
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
        layers: Its projections.
        utilisation: Share of the time in which its core works, 0 to 1.
    """

    layers: tuple[str, ...]
    utilisation: float


@final
class ScheduleRecord(Record):
    """What the cores did, and when.

    Args:
        latency_s: Seconds until the first result.
        interval_s: Seconds from one result to the next on average.
        throughput_per_s: Results a second.
        total_s: When the last inference was through [s].
        energy_per_inference_j: Energy of one inference [J].
        energy_breakdown_j: Component -> joules of one inference.
        cores: The stages.
        events: By start.
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
    """A mapping on several cores, or with few tiles, against the all-digital network on as many cores.

    Args:
        platform: Name of the platform.
        n_cores: Cores there are.
        n_inferences: Inferences that pass one after another.
        max_tiles: Crossbars there are; None = as many as needed.
        n_tiles: Crossbars in use.
        n_tiles_wanted: Crossbars that all layers would need without sharing.
        n_tiles_packed: Crossbars that would do if layers shared them.
        without_tiles: Layers for which there is no room.
        reprogrammed: Layers that are programmed again for every inference.
        sharing: Layers of each crossbar that more than one layer uses.
        latency_gain: All-digital latency over that of the mapped network [-].
        throughput_gain: Throughput of the mapped network over the all-digital one [-].
        energy_gain: All-digital energy over that of the mapped network [-].
        all_digital: The all-digital network.
        mapped: The mapped one.
        notes: Sentences to read with the numbers.
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
        clock_hz: Clock of the core [Hz].
        counted: What the numbers contain.
        not_counted: What they leave out.
        assumptions: Sentences to read with the numbers.
        all_digital: Total of the all-digital network.
        mapped: Total of the mapped network.
        speedup: All-digital latency over that of the mapped network [-].
        energy_gain: All-digital energy over that of the mapped network [-].
        n_tiles: Tiles of the mapped network.
        tiles_missing: Tiles that the mapping needs and the platform does not have.
        programming: Cost of programming the tiles.
        layers: Projections in the network's order.
        other_ops: Everything else, a row for each name.
        pipeline: The same on several cores; None = not simulated.
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
