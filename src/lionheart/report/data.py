"""The records of a run, and the values derived from the records that several sections of the page need."""

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
        run: Description of the run: task, settings, versions, command.
        graph: Layer graph of the network: projections, other operations, candidates.
        results: Results of the search: mapping, accuracies, decisions, time and energy.
        pipelines: Schedules of the mapping on several cores, one for each simulated platform.

    Raises:
        ArtifactError: The graph and the results belong to different networks.
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
                    f"{where}: got {len(names)} projections, expected the {len(fqns)} projections of the graph; "
                    f"first difference: {wrong[0]!r}",
                    hint="read graph.json and results.json from the same run directory",
                )

    @cached_property
    def settings(self) -> MapSettings:
        """Settings of the run."""
        return MapSettings.from_json(self.run.settings)

    @property
    def placements(self) -> dict[str, Placement]:
        """Placement of each projection."""
        return self.results.mapping.placements

    @property
    def n_projections(self) -> int:
        """Number of projections in the network."""
        return len(self.graph.nodes)

    @property
    def n_analog(self) -> int:
        """Number of projections on analog tiles."""
        return len(self.results.mapping.analog)

    @property
    def metric(self) -> Metric:
        """Metric of the task's scores."""
        return self.results.metric

    @property
    def bound_pp(self) -> float:
        """Largest allowed drop [pp]."""
        return self.results.max_drop_pp

    @property
    def bound(self) -> str:
        """Largest allowed drop as text, with its unit."""
        return f"{self.bound_pp:g} {self.metric.drop_unit}"

    @property
    def age(self) -> str:
        """Time since programming for which the mapping was decided, in words."""
        return describe_duration(self.results.t_inference)

    def name_samples(self, split: str, *, brief: bool = False) -> str:
        """Return the samples of a split on which the final figures were measured, in words."""
        number = self.results.final_samples
        if brief and number is not None:
            return f"{split}, first {number:,}"
        return f"the {split} set" if number is None else f"the first {number:,} {split} samples"

    def write_drop(self, drop: float) -> str:
        """Return a drop with its unit, with enough digits to distinguish the drop from the bound."""
        return format_pp(drop, self.bound_pp, self.metric)

    @property
    def tries_groups(self) -> bool:
        """Whether the search tried several projections in one step."""
        return any(decision.fqn not in self.placements for decision in self.results.decisions)

    @property
    def untried(self) -> list[str]:
        """Projections that may run analog but that the search never tried."""
        if self.tries_groups:
            return []
        tried = {decision.fqn for decision in self.results.decisions} | set(self.results.notes)
        return [each.fqn for each in self.graph.candidates if each.mappable and each.fqn not in tried]

    @property
    def test_point(self) -> Accuracy | None:
        """Test accuracy at the time for which the mapping was decided; None if the test set was not evaluated then."""
        for point in self.results.test_over_time:
            if math.isclose(point.t_inference, self.results.t_inference, rel_tol=1e-6):
                return point
        return None

    def test_drop_of(self, mean: float) -> float | None:
        """Return the test drop of a mean over chips below the digital network [pp]; None without a digital test accuracy."""
        baseline = self.results.baseline.test_accuracy
        return None if baseline is None else round(drop_pp(baseline, mean), 9)  # remove floating-point residue

    @property
    def test_drop_pp(self) -> float | None:
        """Test drop of `test_point` below the digital network [pp]; None if unknown."""
        return None if self.test_point is None else self.test_drop_of(self.test_point.mean)

    def exceeds(self, drop: float | None) -> bool:
        """Return whether a drop is known and larger than the bound."""
        return drop is not None and not is_within(drop, self.bound_pp)

    @property
    def exceeds_bound(self) -> bool:
        """Whether the test accuracy dropped by more than the bound."""
        return self.exceeds(self.test_drop_pp)
