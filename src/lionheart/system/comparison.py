"""Comparison of the mapped network and the all-digital network on the same number of cores.

The number of tiles for the mapped network may be limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import TilePartition
from lionheart.runs.costs import CoreRecord, PipelineRecord, ScheduleRecord
from lionheart.system.allocation import TileFit, fit_tiles, pack_tiles
from lionheart.system.cores import list_layers, plan_stages
from lionheart.system.estimate import estimate_system
from lionheart.system.platform import PlatformSpec
from lionheart.system.read_policy import TilePlan, occupy
from lionheart.system.schedule import Schedule, simulate_pipeline

QUEUE_SLOTS = 1  # results that may wait between two cores
NOTES = (
    "Each core runs layers that follow one another, chosen so that the slowest core is as fast as it can be; cores that do "
    "not help are off.",
    "A core hands over once for each inference, and one more result may wait before the next core. Data that a later core "
    "needs, such as those of a shortcut, wait in the shared cache at no charge.",
    "Layers in one crossbar take turns, in an order that is fixed before the run.",
    "Of the weights that other cores read meanwhile through the shared cache, the largest of each core count.",
)


@final
@dataclass(frozen=True)
class CoresRequest:
    """Settings for the simulation of a network on several cores.

    Args:
        n_cores: Number of available cores.
        n_inferences: Number of consecutive inferences.
        max_tiles: Number of available tiles; None = the number of tiles of the platform.
        reprogram: Whether layers that do not fit on the tiles are reprogrammed for every inference, at the platform's
            programming cost. Otherwise these layers stay digital.
    """

    n_cores: int
    n_inferences: int = 10
    max_tiles: int | None = None
    reprogram: bool = False


@final
@dataclass(frozen=True)
class CoresComparison:
    """Schedules of the mapped network and of the all-digital network on the same number of cores.

    Args:
        platform: Name of the platform.
        n_cores: Number of available cores.
        max_tiles: Number of available tiles; None = as many as needed, because the platform has no limit.
        fit: Crossbars of each layer, and layers that do not fit on the tiles.
        n_tiles_packed: Number of tiles that all analog layers together need if all of them may share tiles.
        mapped: Schedule of the mapped network.
        all_digital: Schedule of the all-digital network.
    """

    platform: str
    n_cores: int
    max_tiles: int | None
    fit: TileFit
    n_tiles_packed: int
    mapped: Schedule
    all_digital: Schedule

    def summary(self) -> PipelineRecord:
        """Return the comparison as a record for result files."""
        digital, mapped = self.all_digital, self.mapped
        return PipelineRecord(
            platform=self.platform,
            n_cores=self.n_cores,
            n_inferences=mapped.n_inferences,
            max_tiles=self.max_tiles,
            n_tiles=self.fit.n_crossbars,
            n_tiles_wanted=self.fit.n_tiles,
            n_tiles_packed=self.n_tiles_packed,
            without_tiles=self.fit.digital,
            reprogrammed=self.fit.reprogrammed,
            sharing=_list_sharing(self.fit),
            latency_gain=digital.latency_s / mapped.latency_s,
            throughput_gain=digital.interval_s / mapped.interval_s,
            energy_gain=digital.energy_j / mapped.energy_j,
            all_digital=_summarise_schedule(digital),
            mapped=_summarise_schedule(mapped),
            notes=NOTES,
        )


def _list_sharing(fit: TileFit) -> tuple[tuple[str, ...], ...]:
    """Return the names of the layers on each crossbar that several layers share, in ascending order of the crossbars."""
    users: dict[int, list[str]] = {}
    for fqn, crossbars in fit.crossbars.items():
        for crossbar in crossbars:
            users.setdefault(crossbar, []).append(fqn)
    return tuple(tuple(users[crossbar]) for crossbar in sorted(users) if len(users[crossbar]) > 1)


def _summarise_schedule(schedule: Schedule) -> ScheduleRecord:
    n = schedule.n_inferences
    return ScheduleRecord(
        latency_s=schedule.latency_s,
        interval_s=schedule.interval_s,
        throughput_per_s=1 / schedule.interval_s,
        total_s=schedule.total_s,
        energy_per_inference_j=schedule.energy_j / n,
        energy_breakdown_j={name: joules / n for name, joules in schedule.energy.items()},
        cores=tuple(
            CoreRecord(layers=tuple(list_layers(stage)), utilisation=share)
            for stage, share in zip(schedule.stages, schedule.utilisation, strict=True)
        ),
        events=schedule.events,
    )


def compare_on_cores(
    graph: LayerGraph,
    mapping: LayerMapping,
    platform: PlatformSpec,
    partitions: Mapping[str, TilePartition],
    cores: CoresRequest,
    *,
    tile: TileSpec | TilePlan | None = None,
) -> CoresComparison:
    """Simulate the mapped network and the all-digital network on the same number of cores.

    All cores use the same tiles. If there are too few tiles, layers are placed on tiles in descending order of the time that
    the placement saves. Layers that do not fit stay digital, or are reprogrammed for every inference at the platform's
    programming cost.

    Args:
        graph: Layer graph of the network.
        mapping: Placement of each projection (weight matrix) in the mapped network.
        platform: Cores, memory and tiles.
        partitions: Tiles of each analog projection, by name.
        cores: Numbers of cores, inferences and tiles.
        tile: Device, converters and read policies of the tiles; None = PCM devices, with the platform's converters. Layers
            that share a tile share it with all copies of their weights.

    Raises:
        ConfigError: A number in `cores` is out of range, the mapping belongs to another network, `partitions`
            has no entry for an analog projection, or an operation or the programming has no known cost.
        TilingError: A partition does not match the shape of its projection.
    """
    plan = TilePlan.of(tile).follow(mapping, platform)
    estimate = estimate_system(graph, mapping, platform, partitions, tile=plan)
    max_tiles = platform.n_tiles if cores.max_tiles is None else cores.max_tiles
    rows = zip(estimate.layers, estimate.digital_layers, strict=True)
    saved = {row.fqn: digital.latency_s - row.latency_s for row, digital in rows if row.placement is Placement.ANALOG}
    tiles = {fqn: occupy(partitions[fqn], plan.find(fqn)) for fqn in mapping.analog}
    limit = sum(each.n_tiles for each in tiles.values()) if max_tiles is None else max_tiles
    order = sorted(saved, key=lambda fqn: -saved[fqn])
    fit = fit_tiles(tiles, limit, order, reprogram=cores.reprogram)
    fitted = LayerMapping.from_analog(graph, fit.crossbars)
    stages = plan_stages(graph, fitted, platform, cores.n_cores, partitions, fit=fit, tile=plan)
    together = [list_layers(stage) for stage in stages]
    fit = fit_tiles(tiles, limit, order, reprogram=cores.reprogram, together=together)
    schedules = [
        simulate_pipeline(stages, platform, cores.n_inferences, queue_slots=QUEUE_SLOTS)
        for stages in (
            plan_stages(graph, fitted, platform, cores.n_cores, partitions, fit=fit, tile=plan),
            plan_stages(graph, LayerMapping.all_digital(graph), platform, cores.n_cores),
        )
    ]
    return CoresComparison(platform.name, cores.n_cores, max_tiles, fit, pack_tiles(tiles).n_crossbars, *schedules)
