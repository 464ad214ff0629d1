"""The records of a run that the report page shows, and values that several sections of the page derive from the records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.candidates import GraphRecord
from lionheart.errors import ArtifactError
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import Placement
from lionheart.metrics import Metric, is_within
from lionheart.runs import Results, RunDescription
from lionheart.runs.costs import PipelineRecord
from lionheart.runs.summary import Summary
from lionheart.runs.text import describe_duration, format_pp


@final
@dataclass(frozen=True)
class ReportData:
    """The records of one run that the report page shows.

    Args:
        run: Description of the run: task, settings, versions, command.
        graph: Layer graph of the network: projections (weight matrices), other operations, and candidates (the number of tiles
            of each projection).
        results: Results of the search: mapping, accuracies, decisions, time and energy.
        pipelines: Schedules of the mapped network on several cores, one for each simulated platform.

    Raises:
        ArtifactError: The projections in `results`, or the candidates in `graph`, are not the projections of the layer graph.
    """

    run: RunDescription
    graph: GraphRecord
    results: Results
    pipelines: tuple[PipelineRecord, ...] = ()

    def __post_init__(self) -> None:
        fqns = self.graph.fqns
        for where, names in (
            ("results.mapping.placements", list(self.placements)),
            ("graph.candidates", [candidate.fqn for candidate in self.graph.candidates]),
        ):
            wrong = sorted(set(fqns) ^ set(names))
            if wrong:
                raise ArtifactError(
                    f"{where}: got {len(names)} projections, expected the {len(fqns)} projections of the layer graph; "
                    f"first difference: {wrong[0]!r}",
                    hint="graph.json and results.json must be the unchanged files of one run; restore both files from a backup",
                )

    @cached_property
    def settings(self) -> MapSettings:
        """Settings of the run."""
        return MapSettings.from_json(self.run.settings)

    @property
    def placements(self) -> dict[str, Placement]:
        """Placement of each projection (weight matrix), analog or digital, by the name of the projection."""
        return self.results.mapping.placements

    @property
    def n_projections(self) -> int:
        """Number of projections (weight matrices) in the network."""
        return len(self.graph.nodes)

    @property
    def n_analog(self) -> int:
        """Number of projections (weight matrices) that run on analog tiles."""
        return len(self.results.mapping.analog)

    @property
    def metric(self) -> Metric:
        """Metric in which the run measured the network, for example accuracy."""
        return self.results.metric

    @property
    def bound_pp(self) -> float:
        """Largest accuracy drop against the digital network that the run allows, in the drop unit of the metric (e.g. pp)."""
        return self.results.max_drop_pp

    @property
    def bound(self) -> str:
        """Largest accuracy drop that the run allows, as text with a unit, for example ``"1 pp"``."""
        return self.results.bound

    @property
    def age(self) -> str:
        """Time after programming the tiles at which the mapping must meet the bound, in words, for example ``"1 day"``."""
        return describe_duration(self.results.t_inference)

    def write_drop(self, drop: float) -> str:
        """Return an accuracy drop [pp] as text with its unit.

        The text has one to four decimal places, as few as are needed to distinguish the drop from the largest allowed drop.
        """
        return format_pp(drop, self.bound_pp, self.metric)

    @property
    def tries_groups(self) -> bool:
        """Whether a step of the search tried to place several projections (weight matrices) on tiles together."""
        return any(decision.fqn not in self.placements for decision in self.results.decisions)

    @property
    def untried(self) -> list[str]:
        """Names of the projections (weight matrices) that may run analog but that the search never tried to place on tiles.

        The list is empty if a step of the search tried several projections together.
        """
        return list(self.results.untried or ())

    @cached_property
    def summary(self) -> Summary:
        """Summary of the run, which the terminal and ``results.json`` show too."""
        return self.results.summary

    def test_drop_of(self, mean: float) -> float | None:
        """Return how far a test accuracy is below the test accuracy of the digital network [pp].

        Return None if the test accuracy of the digital network was not measured.

        Args:
            mean: Mean test accuracy over simulated chips, 0 to 1.
        """
        baseline = self.results.baseline.test_accuracy
        return None if baseline is None else self.metric.report_drop(baseline, mean)

    def exceeds(self, drop: float | None) -> bool:
        """Return whether an accuracy drop [pp] is larger than the run allows; False if the drop is None (unknown)."""
        return drop is not None and not is_within(drop, self.bound_pp)
