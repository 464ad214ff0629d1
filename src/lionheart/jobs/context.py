"""What the parts of one job share. Only jobs see it; everything below is handed what it needs."""

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
    """One job on one task.

    Args:
        task: Model, data, metric. Its model is never changed.
        settings: Of the job.
        graph: Of the task's network.
        candidates: All projections; some may have to stay digital.
        journal: What was computed already.
        progress: Where work shows itself.
    """

    task: Task
    settings: MapSettings
    graph: LayerGraph
    candidates: tuple[Candidate, ...]
    journal: Journal
    progress: Progress

    @cached_property
    def streams(self) -> RandomStreams:
        """Source of all random numbers of the job."""
        return RandomStreams(self.settings.seed)

    @cached_property
    def backend(self) -> Backend:
        """What computes analog layers."""
        return find_backend(self.settings.backend)

    @cached_property
    def mappable(self) -> tuple[Candidate, ...]:
        """Candidates that may go analog."""
        return tuple(each for each in self.candidates if each.is_mappable)

    @cached_property
    def partitions(self) -> dict[str, TilePartition]:
        """Tiles of each projection, those that must stay digital included."""
        return {each.node.fqn: each.partition for each in self.candidates}
