"""What a run says, read once: its records, and the few values that several sections of the page need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

from lionheart.candidates import GraphRecord
from lionheart.errors import ArtifactError
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import Placement
from lionheart.metrics import Metric, drop_pp, is_within
from lionheart.report.text import describe_duration, format_pp
from lionheart.runs import Accuracy, Results, RunDescription
from lionheart.runs.costs import PipelineRecord


@final
@dataclass(frozen=True)
class ReportData:
    """The records of one run.

    Args:
        run: Task, settings, versions, command.
        graph: Projections, other operations, candidates.
        results: Mapping, accuracies, decisions, time and energy.
        pipelines: The mapping on several cores, for each platform on which it was simulated.

    Raises:
        ArtifactError: The graph and the results are of different networks.
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
                    f"{where}: got {len(names)} projections, expected the {len(fqns)} of the graph; "
                    f"they differ in {wrong[0]!r}",
                    hint="graph and results must be of the same run",
                )

    @cached_property
    def settings(self) -> MapSettings:
        """The run's settings."""
        return MapSettings.from_json(self.run.settings)

    @property
    def placements(self) -> dict[str, Placement]:
        """Placement of each projection."""
        return self.results.mapping.placements

    @property
    def n_projections(self) -> int:
        """Projections of the network."""
        return len(self.graph.nodes)

    @property
    def n_analog(self) -> int:
        """Projections on tiles."""
        return len(self.results.mapping.analog)

    @property
    def metric(self) -> Metric:
        """What the task's scores mean."""
        return self.results.metric

    @property
    def bound_pp(self) -> float:
        """The largest drop allowed [pp]."""
        return self.results.max_drop_pp

    @property
    def bound(self) -> str:
        """The largest drop allowed, with its unit."""
        return f"{self.bound_pp:g} {self.metric.drop_unit}"

    @property
    def age(self) -> str:
        """The time the mapping was decided for, in words."""
        return describe_duration(self.results.t_inference)

    def name_samples(self, split: str, *, brief: bool = False) -> str:
        """Return on what of a split the final figures are, in words."""
        number = self.results.final_samples
        if brief and number is not None:
            return f"{split}, first {number:,}"
        return f"the {split} set" if number is None else f"the first {number:,} {split} samples"

    def write_drop(self, drop: float) -> str:
        """Return a drop with its unit, with as many digits as it takes to tell it from the bound."""
        return format_pp(drop, self.bound_pp, self.metric)

    @property
    def tries_groups(self) -> bool:
        """Whether the search tried several projections in one step."""
        return any(decision.fqn not in self.placements for decision in self.results.decisions)

    @property
    def untried(self) -> list[str]:
        """Projections that may go analog but were never tried."""
        if self.tries_groups:
            return []
        tried = {decision.fqn for decision in self.results.decisions} | set(self.results.notes)
        return [each.fqn for each in self.graph.candidates if each.mappable and each.fqn not in tried]

    @property
    def test_point(self) -> Accuracy | None:
        """The test accuracy at the time the mapping was decided for, if it was measured."""
        for point in self.results.test_over_time:
            if math.isclose(point.t_inference, self.results.t_inference, rel_tol=1e-6):
                return point
        return None

    def test_drop_of(self, mean: float) -> float | None:
        """Return by how much a mean over chips on test samples is below the digital network [pp]; None = that is unknown."""
        baseline = self.results.baseline.test_accuracy
        return None if baseline is None else round(drop_pp(baseline, mean), 9)  # free of rounding dust

    @property
    def test_drop_pp(self) -> float | None:
        """Drop of `test_point` below the digital network [pp]."""
        return None if self.test_point is None else self.test_drop_of(self.test_point.mean)

    def exceeds(self, drop: float | None) -> bool:
        """Return whether a drop is known and larger than the bound."""
        return drop is not None and not is_within(drop, self.bound_pp)

    @property
    def exceeds_bound(self) -> bool:
        """Whether the test accuracy dropped by more than the bound."""
        return self.exceeds(self.test_drop_pp)
