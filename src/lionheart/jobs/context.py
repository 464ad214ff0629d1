"""`Context`, the state that the functions of one job share: task, settings, network graph, candidates and journal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.candidates import Candidate
from lionheart.graph import LayerGraph
from lionheart.jobs.backend import Backend, find_backend
from lionheart.jobs.settings import MapSettings
from lionheart.partition import TilePartition
from lionheart.progress import Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Journal
from lionheart.tasks import Task


@final
@dataclass(frozen=True)
class Context:
    """The task, the settings and the candidates of one job.

    Args:
        task: Model, data and metric. The job never changes the task's model.
        settings: Settings of the job.
        graph: Layer graph of the task's network.
        candidates: All projections (weight matrices) of the network, including projections that must stay digital.
        journal: Journal that stores each result of the job, so that an interrupted job can be resumed.
        progress: Receiver of progress bars and messages.
    """

    task: Task
    settings: MapSettings
    graph: LayerGraph
    candidates: tuple[Candidate, ...]
    journal: Journal
    progress: Progress

    @cached_property
    def streams(self) -> RandomStreams:
        """Random streams for all random numbers of the job, derived from the seed in the settings."""
        return RandomStreams(self.settings.seed)

    @cached_property
    def backend(self) -> Backend:
        """Simulator of the analog layers, as named in the settings."""
        return find_backend(self.settings.backend)

    @cached_property
    def mappable(self) -> tuple[Candidate, ...]:
        """Candidates that are allowed to run on analog tiles."""
        return tuple(each for each in self.candidates if each.is_mappable)

    @cached_property
    def partitions(self) -> dict[str, TilePartition]:
        """Partition of each projection into tiles, by name, including projections that must stay digital."""
        return {each.node.fqn: each.partition for each in self.candidates}
