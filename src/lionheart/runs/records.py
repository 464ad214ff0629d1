"""What a run writes: one class for each record, the same in search, journal, results, report and ``--json``.

The JSON schema of results is made from these classes: ``lionheart schema results``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, computed_field

from lionheart.mapping import LayerMapping
from lionheart.metrics import Metric, drop_pp
from lionheart.record import Record
from lionheart.runs.costs import SystemRecord
from lionheart.runs.tables import describe_programming, tabulate_accuracy, tabulate_systems
from lionheart.tables import Block, Printable, Table
from lionheart.units import format_duration

RESULTS_VERSION = 2


class SearchOutcome(StrEnum):
    """How a search ended."""

    MAPPED = "mapped"
    INFEASIBLE = "infeasible"
    BUDGET = "budget"


class Accuracy(Record):
    """The mean score over chips at one time. For an accuracy, scores are 0 to 1."""

    t_inference: float = Field(description="time since programming ended [s]")
    mean: float = Field(description="mean over chips")
    low: float = Field(description="lower end of the confidence interval of the mean")
    high: float = Field(description="upper end of the confidence interval of the mean")
    std: float = Field(description="sample standard deviation from chip to chip")
    n_chips: int = Field(description="separately programmed chips")
    scores: tuple[float, ...] = Field(description="mean score of each chip")
    n_samples: int | None = Field(None, description="samples; None where it was not noted")
    samples: Any = Field(
        None, exclude=True, repr=False, description="mean score over chips of each sample, not written"
    )

    def __eq__(self, other: object) -> bool:
        """Return whether another record says the same; `samples` do not count, as they are not written."""
        return isinstance(other, Accuracy) and type(self) is type(other) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((type(self), self.t_inference, self.scores))


class Drop(Record):
    """A drop against the digital network."""

    drop_pp: float = Field(description="estimate: of the mean over chips, or of a share of chips [pp]")
    drop_ucb_pp: float = Field(
        description="upper confidence bound: what the drop does not exceed with probability `confidence`; the estimate "
        "itself where that is None [pp]"
    )
    chip_error_pp: float = Field(description="standard error of the mean from chip to chip [pp]")
    sample_error_pp: float = Field(description="standard error of the mean from sample to sample [pp]")
    confidence: float | None = Field(description="one-sided; None = none was asked for")
    chip_yield: float | None = Field(description="share of chips that must keep the drop; None = their mean must")


class TrainTrace(Record):
    """What a training did."""

    losses: tuple[float, ...] = Field((), description="mean training loss of each epoch")
    n_steps: int = Field(0, description="optimiser steps")
    elapsed_s: float = Field(0.0, description="wall time [s]")
    outcome: str = Field("none", description="why it ended: flat, cap, budget; none = there was no training")


class Decision(Record):
    """One step of a search."""

    index: int = Field(description="number of the step, from 0")
    fqn: str = Field(description="projection that was tried, or a label of what was")
    macs: int = Field(description="MACs of what was tried")
    accepted: bool = Field(description="whether a mapping was kept")
    accuracy: Accuracy = Field(description="of the mapping kept, or tried last")
    drop_pp: float = Field(description="drop against the digital network [pp]")
    drop_ucb_pp: float = Field(description="what was held against the bound [pp]")
    train: TrainTrace = Field(description="the retraining")
    elapsed_s: float = Field(description="wall time [s]")
    analog: tuple[str, ...] | None = Field(None, description="analog projections of the mapping kept; None if none was")
    n_remeasured: int = Field(0, description="other mappings measured in the same step")
    note: str = Field("", description="what the step leaves digital for its tiles or its cost, and why")


class HoldoutTest(Record):
    """A mapping measured on chips and samples that decided nothing."""

    analog: tuple[str, ...] = Field(description="analog projections of the mapping")
    accuracy: Accuracy = Field(description="on the held-out samples")
    drop: Drop = Field(description="against the digital network on the same samples")
    accepted: bool = Field(description="whether the mapping keeps the bound")


class CompensationTrial(Record):
    """Layers measured with a cheaper digital correction."""

    setting: str = Field(description="setting of the tile")
    value: str = Field(description="value tried")
    layers: tuple[str, ...] = Field(description="layers that had it")
    accepted: bool = Field(description="whether the bound was kept")
    drop_pp: float = Field(description="drop [pp]")
    drop_ucb_pp: float = Field(description="what was held against the bound [pp]")


class AgeTrial(Record):
    """A mapping measured at one age."""

    age_s: float = Field(description="time since programming ended [s]")
    drop_pp: float = Field(description="drop [pp]")
    drop_ucb_pp: float = Field(description="what was held against the bound [pp]")
    within: bool = Field(description="whether the bound was kept")


class RefreshInterval(Record):
    """Up to which age chips keep the bound, so that they are programmed again by then."""

    holds_until_s: float | None = Field(description="largest age within the bound [s]; None = not even the first one")
    longest_s: float = Field(description="largest age that could be tried [s]")
    measured: tuple[AgeTrial, ...] = Field((), description="ages that were measured, ascending")


class DigitalBaseline(Record):
    """Scores of the digital network on the samples of a search and of its final figures."""

    decision: float = Field(description="on the samples that decide")
    validation: float = Field(description="on the validation samples of the final figures")


class Baseline(Record):
    """Scores of the digital network in the final figures."""

    validation_accuracy: float = Field(description="on the validation samples of the final figures")
    test_accuracy: float | None = Field(None, description="on the test samples of the final figures")


class Results(Printable, Record):
    """Everything that a mapping run found: ``results.json``."""

    schema_version: Literal[2] = Field(2, description="of this record")
    outcome: SearchOutcome = Field(description="how the search ended")
    metric: Metric = Field(description="what the scores mean")
    max_drop_pp: float = Field(description="bound on the drop [pp]")
    t_inference: float = Field(description="time since programming at which the bound must hold [s]")
    confidence: float = Field(description="of the intervals")
    mapping: LayerMapping = Field(description="where each projection runs")
    analog_mac_share: float = Field(description="share of the MACs on tiles, 0 to 1")
    analog_weight_share: float = Field(description="share of the weights on tiles, 0 to 1")
    objective: str = Field("macs", description="what the search made small")
    n_tiles: int = Field(description="crossbars of the mapping")
    max_tiles: int | None = Field(None, description="limit of crossbars; None = none")
    notes: dict[str, str] = Field({}, description="projection -> why its tiles or its cost keep it digital")
    final_samples: int | None = Field(None, description="samples of the final figures; None = all")
    baseline: Baseline = Field(description="the digital network")
    validation: Accuracy = Field(description="on fresh chips at the worst of the times of the bound")
    validation_over_time: tuple[Accuracy, ...] = Field((), description="on fresh chips at all times of the bound")
    decisions: tuple[Decision, ...] = Field(description="steps of the search")
    test_over_time: tuple[Accuracy, ...] = Field((), description="on fresh chips at the report times")
    retrained_test_accuracy: float | None = Field(None, description="of the retrained network, run digitally")
    n_steps: int = Field(0, description="optimiser steps of all retrainings")
    system: tuple[SystemRecord, ...] = Field((), description="time and energy on each platform")
    tiles: dict[str, dict[str, str]] = Field({}, description="layer -> settings of its tile that differ from the run's")
    refresh: RefreshInterval | None = Field(None, description="how long the bound is kept, where it was asked for")
    holdout_tests: tuple[HoldoutTest, ...] = Field((), description="mappings tested on samples that decided nothing")
    elapsed_s: float | None = Field(None, description="wall time of search and post-processing [s]")
    final_figures_s: float | None = Field(None, description="wall time of the whole run since its start or resume [s]")

    @computed_field(description="drop on validation, on fresh chips [pp]")  # type: ignore[prop-decorator]
    @property
    def validation_drop_pp(self) -> float:
        """Drop on validation, on fresh chips, free of rounding dust [pp]."""
        return round(drop_pp(self.baseline.validation_accuracy, self.validation.mean), 9)

    def to_blocks(self) -> list[Block]:
        """Return the outcome, the projections, the accuracy over time and the cost."""
        metric, found = self.metric, self.validation
        n_analog, n_all = len(self.mapping.analog), len(self.mapping.placements)
        test = self.baseline.test_accuracy
        lines = [
            f"{self.outcome}: {n_analog} of {n_all} projections, {100 * self.analog_mac_share:.1f} % of the MACs, "
            f"analog on {self.n_tiles} tiles",
            f"bound: drop of at most {self.max_drop_pp:g} {metric.drop_unit} at {format_duration(self.t_inference)}",
            f"validation: {metric.format_value(found.mean)} {metric.format_interval(found.low, found.high)}, "
            f"drop {metric.format_drop(self.validation_drop_pp)}",
        ]
        lines += [] if test is None else [f"digital network, test: {metric.format_value(test)}"]
        costs = [line for row in self.system for line in describe_programming(row.platform, None, row.tiles_missing)]
        return [
            *lines,
            self._tabulate_projections(),
            tabulate_accuracy(self.test_over_time, self.confidence, metric),
            tabulate_systems(self.system),
            *costs[:2],
        ]

    def _tabulate_projections(self) -> Table:
        metric, tried = self.metric, {decision.fqn: decision for decision in self.decisions}
        rows: list[tuple[str, ...]] = [
            (
                fqn,
                str(placement),
                metric.format_value(tried[fqn].accuracy.mean) if fqn in tried else "",
                metric.format_drop(tried[fqn].drop_pp, sign=True) if fqn in tried else "",
                self.notes.get(fqn, ""),
            )
            for fqn, placement in self.mapping.placements.items()
        ]
        sizes = tuple(float(tried[fqn].macs) if fqn in tried else 0.0 for fqn in self.mapping.placements)
        columns: tuple[str, ...] = ("projection", "runs", metric.name, "drop", "note")
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        return Table(columns, tuple(rows), right=(metric.name, "drop"), sizes=sizes)


class Evaluation(Printable, Record):
    """A finished run's mapping over fresh chips and times: ``evaluation.json``."""

    split: str = Field(description="test or validation; data: those that the caller gave")
    metric: Metric = Field(description="what the scores mean")
    n_samples: int | None = Field(description="first samples of the split; None = all")
    n_chips: int = Field(description="fresh chips; 0: the network has no analog layers")
    seed: int = Field(description="root of the chips' random numbers")
    backend: str = Field(description="what computed the analog layers")
    confidence: float = Field(description="of the intervals")
    accuracy_over_time: tuple[Accuracy, ...] = Field(description="at each time")

    def to_blocks(self) -> list[Block]:
        """Return what was evaluated, and the accuracy at each time."""
        points, metric = self.accuracy_over_time, self.metric
        n_samples = points[0].n_samples if points and points[0].n_samples is not None else self.n_samples
        samples = "all samples" if n_samples is None else f"{n_samples} samples"
        if self.n_chips == 0:
            return [f"{metric.name}: {metric.format_value(points[0].mean)} on {samples} (digital: no analog layers)"]
        lines = [f"{metric.name} of {self.n_chips} chips, seed {self.seed}, on {samples} of {self.split}"]
        lines += [metric.explain_drop()] if metric.rises_with_drop else []
        return [*lines, tabulate_accuracy(points, self.confidence, metric)]


class Environment(Record):
    """What may change a run's numbers."""

    lionheart: str = Field(description="version")
    python: str = Field(description="version")
    torch: str = Field(description="version")
    cpu: str = Field(description="processor")
    cpu_capability: str = Field("", description="instruction set that PyTorch uses")
    threads: int = Field(description="threads of PyTorch")
    device: str = Field("cpu", description="type of the device that computes")
    gpu: str | None = Field(None, description="name of the first GPU")
    system: str = Field(description="operating system and machine")


class RunDescription(Record):
    """How a run was started: ``run.json``."""

    schema_version: Literal[1, 2] = Field(2, description="of the run folder; 1 can be read, not resumed")
    lionheart_version: str = Field("", description="version that started the run")
    created: str = Field("", description="UTC")
    job: str = Field("map", description="command that started it")
    task: str = Field(description="name of the task")
    seed: int = Field(description="root of all random streams")
    command: str = Field("", description="command line that repeats it")
    settings: dict[str, Any] = Field(description="of the run")
    environment: Environment | None = Field(None, description="versions and hardware")
    study: str | None = Field(None, description="of a front: name of Optuna's study")
    storage: str | None = Field(None, description="of a front: where the study is kept, without a password")
