"""What a run says, read once: the checked data, and the few numbers that several parts of the page need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from lionheart.errors import ArtifactError
from lionheart.metrics import Measure
from lionheart.report.schema import GRAPH, RESULTS, RUN, conform
from lionheart.report.text import describe_duration


@final
@dataclass(frozen=True)
class RunFacts:
    """The data of one run, checked.

    Args:
        run: Settings, versions, command.
        graph: Projections, other operations, candidates.
        results: Mapping, accuracies, decisions, system.
    """

    run: Mapping[str, Any]
    graph: Mapping[str, Any]
    results: Mapping[str, Any]

    @property
    def placements(self) -> Mapping[str, str]:
        """Placement of each projection."""
        return dict(self.results["mapping"]["placements"])

    @property
    def n_projections(self) -> int:
        """Projections of the network."""
        return len(self.graph["projections"])

    @property
    def n_analog(self) -> int:
        """Projections on tiles."""
        return sum(place == "analog" for place in self.placements.values())

    @property
    def measure(self) -> Measure:
        """What the task's scores mean."""
        return Measure.from_json(self.results["measure"], "results")

    @property
    def bound_pp(self) -> float:
        """The largest drop allowed [pp]."""
        return float(self.results["max_drop_pp"])

    @property
    def bound(self) -> str:
        """The largest drop allowed, with its unit."""
        return f"{self.bound_pp:g} {self.measure.drop_unit}"

    @property
    def promise(self) -> float | None:
        """Probability with which the bound was to hold on other chips and samples; None = none was asked for."""
        value = (self.run["search_spec"] or {}).get("promise")
        return None if value is None else float(value)

    @property
    def age(self) -> str:
        """The time the mapping was decided for, in words."""
        return describe_duration(self.results["t_inference"])

    def name_samples(self, split: str, *, brief: bool = False) -> str:
        """Return on what of a split the final figures are, in words."""
        number = self.results["final_samples"]
        if brief and number is not None:
            return f"{split}, first {number:,}"
        return f"the {split} set" if number is None else f"the first {number:,} {split} samples"

    @property
    def tries_groups(self) -> bool:
        """Whether the search tried several projections in one step."""
        names = {candidate["fqn"] for candidate in self.graph["candidates"]}
        return any(decision["fqn"] not in names for decision in self.results["decisions"])

    @property
    def untried(self) -> list[str]:
        """Projections that may go analog but were never tried."""
        if self.tries_groups:
            return []
        tried = {decision["fqn"] for decision in self.results["decisions"]} | set(self.results["notes"] or {})
        return [c["fqn"] for c in self.graph["candidates"] if c["mappable"] and c["fqn"] not in tried]

    @property
    def test_point(self) -> Mapping[str, Any] | None:
        """The test accuracy at the time the mapping was decided for, if it was measured."""
        for point in self.results["test_over_time"] or []:
            if math.isclose(point["t_inference"], self.results["t_inference"], rel_tol=1e-6):
                return dict(point)
        return None

    @property
    def test_drop_pp(self) -> float | None:
        """Drop of `test_point` below the digital network [pp]."""
        point, baseline = self.test_point, self.results["baseline"]["test_accuracy"]
        return None if point is None or baseline is None else drop_pp(baseline, point["mean"])

    @property
    def exceeds_bound(self) -> bool:
        """Whether the test accuracy dropped by more than the bound."""
        return self.test_drop_pp is not None and self.test_drop_pp > self.bound_pp


def drop_pp(baseline: float, accuracy: float) -> float:
    """Return by how much `accuracy` is under `baseline`, in percentage points, free of rounding dust."""
    return round(100 * (baseline - accuracy), 9)


def read_facts(run_json: Any, graph_json: Any, results_json: Any) -> RunFacts:
    """Check the data of a run.

    Raises:
        ArtifactError: Keys are missing or of the wrong type, or the mapping is of another network.
    """
    facts = RunFacts(
        conform(run_json, RUN, "run"), conform(graph_json, GRAPH, "graph"), conform(results_json, RESULTS, "results")
    )
    fqns = [node["fqn"] for node in facts.graph["projections"]]
    for where, names in (
        ("results.mapping.placements", list(facts.placements)),
        ("graph.candidates", [candidate["fqn"] for candidate in facts.graph["candidates"]]),
    ):
        wrong = sorted(set(fqns) ^ set(names))
        if wrong:
            raise ArtifactError(
                f"{where}: got {len(names)} projections, expected the {len(fqns)} of the graph; they differ in {wrong[0]!r}",
                hint="graph and results must be of the same run",
            )
    return facts
