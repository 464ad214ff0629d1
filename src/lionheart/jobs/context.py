"""`Context`, the objects that the functions of one job share: task, settings, network graph, projections and journal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.candidates import Candidate, record_graph
from lionheart.data import BatchSource
from lionheart.errors import ArtifactError
from lionheart.graph import LayerGraph
from lionheart.jobs.backend import Backend, find_backend
from lionheart.jobs.bound import recall_max_drop
from lionheart.jobs.rescaling import rescale_task
from lionheart.jobs.settings import MapSettings
from lionheart.partition import TilePartition
from lionheart.progress import Progress
from lionheart.rng import RandomStreams
from lionheart.runs import ChannelRescaling, Journal, RunDirectory
from lionheart.tasks import Task


@final
@dataclass(frozen=True)
class Context:
    """Objects that the functions of one job share.

    Args:
        task: Model, data and metric. The job never changes the task's model.
        settings: Settings of the job.
        graph: Graph of the layers, traced from the task's network.
        candidates: All projections (weight matrices) of the network, including projections that must stay digital.
        journal: Journal in which each result of the job is stored, so that an interrupted job can be resumed.
        progress: Receiver of progress bars and messages.
        rescaling: Channels of the task's network that were rescaled for the job; None = not asked for.
    """

    task: Task
    settings: MapSettings
    graph: LayerGraph
    candidates: tuple[Candidate, ...]
    journal: Journal
    progress: Progress
    rescaling: ChannelRescaling | None = None

    @cached_property
    def streams(self) -> RandomStreams:
        """Source of all random numbers of the job, derived from the seed in the settings."""
        return RandomStreams(self.settings.seed)

    @cached_property
    def max_drop(self) -> float:
        """Largest drop of the metric that the job allows, in the unit of the metric's drop (pp for an accuracy)."""
        return recall_max_drop(self.task, self.settings, self.journal)

    @cached_property
    def backend(self) -> Backend:
        """Simulator of the analog layers, found by the name in the settings."""
        return find_backend(self.settings.backend)

    @cached_property
    def mappable(self) -> tuple[Candidate, ...]:
        """Projections (weight matrices) that may run on analog tiles, i.e. all except those that must stay digital."""
        return tuple(each for each in self.candidates if each.is_mappable)

    @cached_property
    def partitions(self) -> dict[str, TilePartition]:
        """Division of each projection (weight matrix) into parts that fit on one tile each, by the name of the projection.

        Projections that must stay digital are included.
        """
        return {each.node.fqn: each.partition for each in self.candidates}

    def count_macs(self, batches: BatchSource, n_passes: int) -> float:
        """Return the number of MACs of forward passes, at least; batches of unknown size count as one sample.

        Args:
            batches: Source of the batches of the passes.
            n_passes: Number of passes.
        """
        return float(self.graph.macs) * n_passes * (getattr(batches, "batch_size", None) or 1)


def open_context(
    task: Task,
    settings: MapSettings,
    graph: LayerGraph,
    candidates: tuple[Candidate, ...],
    run: RunDirectory,
    progress: Progress,
) -> Context:
    """Return a new context for a job. The job's journal is a file in the run directory `run`.

    With the setting ``search.channel_rescaling``, the context has a copy of the task whose network is rescaled. If the run
    directory contains no ``graph.json`` yet, the graph and the projections are written to this file.

    Raises:
        ArtifactError: The run was started with another network than the network that `graph` describes.
    """
    if not run.has("graph.json"):
        run.write("graph.json", record_graph(graph, candidates))
    require_network(run, graph)
    rescaled, rescaling = rescale_task(task, settings, run.journal, progress)
    return Context(rescaled, settings, graph, candidates, run.journal, progress, rescaling)


def require_network(run: RunDirectory, graph: LayerGraph) -> None:
    """Check that a run was started with the network that `graph` describes.

    Raises:
        ArtifactError: The projections listed in ``graph.json`` of the run directory differ from the projections in `graph`.
    """
    if run.has("graph.json") and run.read("graph.json", LayerGraph).nodes != graph.nodes:
        raise ArtifactError(
            f"{run.path}: the run belongs to another network: graph.json differs from the graph of the task's network",
            hint="use the task with which the run was started",
        )
