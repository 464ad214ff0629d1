"""Records of the values that a run computes: accuracies, decisions of the search, hold-out tests, and the results of the run.

The journal, the result files and the output of ``--json`` contain these records. The command ``lionheart schema
results`` generates the JSON schema of ``results.json`` from these classes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, computed_field, model_validator

from lionheart.devices import ReadPolicy
from lionheart.mapping import LayerMapping
from lionheart.metrics import Metric
from lionheart.record import Record
from lionheart.runs.costs import SystemRecord
from lionheart.runs.guarantee import Guarantee
from lionheart.runs.rescaling import ChannelRescaling
from lionheart.runs.summary import Caution, Summary, summarise
from lionheart.runs.tables import tabulate_accuracy, tabulate_systems
from lionheart.tables import Block, Printable, Table

RESULTS_VERSION = 2


class SearchOutcome(StrEnum):
    """How a search ended: with a mapping within the bound on the drop, without such a mapping, or because of its budget."""

    MAPPED = "mapped"
    INFEASIBLE = "infeasible"
    BUDGET = "budget"


class Accuracy(Record):
    """Mean score of a network over several simulated chips at one time after programming, with a confidence interval.

    A score is a fraction from 0 to 1, a negative cross-entropy in nats if the metric is perplexity, or a value in the unit of a
    plain metric.
    """

    t_inference: float = Field(description="time since programming ended [s]")
    mean: float = Field(description="mean score over chips")
    low: float = Field(description="lower end of the confidence interval of the mean")
    high: float = Field(description="upper end of the confidence interval of the mean")
    std: float = Field(description="sample standard deviation over chips")
    n_chips: int = Field(description="number of independently programmed chips")
    scores: tuple[float, ...] = Field(min_length=1, description="mean score of each chip")
    n_samples: int | None = Field(None, description="number of samples; None = not recorded")
    samples: Any = Field(
        None, exclude=True, repr=False, description="mean score over chips of each sample, not written to files"
    )

    def __eq__(self, other: object) -> bool:
        """Return whether `other` has equal fields. The field `samples` is not compared, because it is not written to files."""
        return isinstance(other, Accuracy) and type(self) is type(other) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((type(self), self.t_inference, self.scores))


class Drop(Record):
    """Loss of quality of a mapped network against the digital network, with an upper confidence bound.

    Here and in all records, pp stands for the unit of the metric's drop, `Metric.drop_unit`: percentage points for a share, the
    unit of the metric for a plain metric.
    """

    drop_pp: float = Field(
        description="estimated drop: mean over chips, or the drop that `chip_yield` of the chips do not exceed [pp]"
    )
    drop_ucb_pp: float = Field(
        description="upper confidence bound: the drop does not exceed this value with probability `confidence`; equal to "
        "`drop_pp` if `confidence` is None [pp]"
    )
    chip_error_pp: float = Field(description="standard error of the mean over chips [pp]")
    sample_error_pp: float | None = Field(
        description="standard error of the mean over samples [pp]; None for a metric that is computed over the whole set"
    )
    confidence: float | None = Field(
        description="one-sided confidence level of the upper bound, 0 to 1; None = no upper bound was computed"
    )
    chip_yield: float | None = Field(
        description="fraction of chips whose drop does not exceed the estimate, 0 to 1; None = estimate of the mean over chips"
    )


class TrainEvaluation(Record):
    """Evaluation of the network during a retraining, on the same simulated chips and samples each time."""

    epoch: int = Field(description="number of finished epochs; 0 = before the retraining")
    drop_pp: float = Field(description="drop against the digital network [pp]")


class TrainTrace(Record):
    """Losses and duration of a training of the network, and the reason why the training ended."""

    losses: tuple[float, ...] = Field((), description="mean training loss of each epoch")
    n_steps: int = Field(0, description="number of optimiser steps")
    elapsed_s: float = Field(0.0, description="wall time [s]")
    outcome: str = Field(
        "none",
        description="reason why the training ended: flat (loss no longer decreases), cap (largest number of epochs), "
        "budget (limit of the search); none = no training",
    )
    planned_steps: int | None = Field(
        None,
        description="number of steps of the schedule, from the duration of the first steps; None = no budget of minutes",
    )
    evaluations: tuple[TrainEvaluation, ...] = Field((), description="evaluations during the training")
    kept_epoch: int | None = Field(
        None,
        description="number of epochs after which the weights that are kept were evaluated as the best; 0 = the weights before "
        "the retraining; None = the last weights, without evaluations",
    )


class Decision(Record):
    """One decision of a search, in which one or more mappings were evaluated and one was accepted, or all were rejected."""

    index: int = Field(description="number of the decision, counted from 0")
    fqn: str = Field(
        description="name of the projection that was tried, or a description of the mapping that was tried"
    )
    macs: int = Field(description="MACs of the projections that were tried")
    accepted: bool = Field(description="whether the decision accepted a mapping")
    accuracy: Accuracy = Field(
        description="accuracy of the accepted mapping; if none was accepted, of the mapping evaluated last"
    )
    drop_pp: float = Field(description="drop against the digital network [pp]")
    drop_ucb_pp: float = Field(
        description="value that was compared with the bound on the drop: upper confidence bound or estimate [pp]"
    )
    train: TrainTrace = Field(description="record of the retraining")
    elapsed_s: float = Field(description="wall time [s]")
    analog: tuple[str, ...] | None = Field(
        None, description="analog projections of the accepted mapping; None = no mapping was accepted"
    )
    policies: dict[str, ReadPolicy] = Field(
        default_factory=dict,
        description="read policies of the accepted mapping, by projection; others have the policy of the run's tile",
    )
    n_remeasured: int = Field(0, description="number of further mappings evaluated in the same decision")
    note: str = Field(
        "", description="projections that stay digital because of the tile limit or the cost, each with the reason"
    )


class HoldoutTest(Record):
    """Evaluation of a mapping on held-out simulated chips and samples, which no decision of the search has used."""

    analog: tuple[str, ...] = Field(description="analog projections of the mapping")
    accuracy: Accuracy = Field(description="accuracy on the held-out samples")
    drop: Drop = Field(description="drop against the digital network on the same samples")
    accepted: bool = Field(description="whether the drop is within the bound")
    n_looks: int = Field(1, description="looks at the results with which the test ended; each look has more chips")


class CompensationTrial(Record):
    """Evaluation of the mapped network with a less costly digital correction of the tile outputs in some layers."""

    setting: str = Field(description="name of the tile setting")
    value: str = Field(description="value that was tried")
    layers: tuple[str, ...] = Field(description="names of the layers for which this value was set")
    accepted: bool = Field(description="whether the drop is within the bound")
    drop_pp: float = Field(description="drop against the digital network [pp]")
    drop_ucb_pp: float = Field(description="drop that was compared with the bound [pp]")


class AgeTrial(Record):
    """Accuracy drop of a mapping at one age of the chips (time since programming)."""

    age_s: float = Field(description="time since programming ended [s]")
    drop_pp: float = Field(description="drop against the digital network [pp]")
    drop_ucb_pp: float = Field(description="drop that was compared with the bound [pp]")
    within: bool = Field(description="whether the drop is within the bound")


class RefreshInterval(Record):
    """Longest time since programming at which the accuracy drop is within its bound. Then the chips must be reprogrammed."""

    holds_until_s: float | None = Field(
        description="largest age at which the drop is within the bound [s]; None = at no age that was tried"
    )
    longest_s: float = Field(description="upper limit of the ages that are tried [s]")
    measured: tuple[AgeTrial, ...] = Field((), description="evaluated ages in increasing order")


class DigitalBaseline(Record):
    """Scores of the digital network: on the validation samples for decisions, and on those for the final results."""

    decision: float = Field(description="score on the validation samples used for decisions")
    validation: float = Field(description="score on the validation samples of the final results")


class Baseline(Record):
    """Scores of the digital network, for comparison with the final scores of the mapped network."""

    validation_accuracy: float = Field(description="score on the validation samples of the final results")
    test_accuracy: float | None = Field(None, description="score on the test samples of the final results")


class Results(Printable, Record):
    """Results of a run of ``lionheart map``, which are stored in ``results.json``."""

    schema_version: Literal[2] = Field(2, description="version of this record")
    outcome: SearchOutcome = Field(description="how the search ended")
    metric: Metric = Field(description="metric of the scores")
    max_drop_pp: float = Field(description="bound on the drop, in the unit of the metric's drop (pp for a share)")
    max_drop: float | str | None = Field(
        None,
        description="bound as it was given, if it is relative to the digital value ('2 % rel') or of a plain metric; left out "
        "otherwise",
        exclude_if=lambda value: value is None,
    )
    t_inference: float = Field(description="time since programming at which the bound must hold [s]")
    confidence: float = Field(description="coverage probability of the confidence intervals")
    mapping: LayerMapping = Field(description="placement of each projection")
    analog_mac_share: float = Field(description="fraction of the MACs that tiles compute, 0 to 1")
    analog_weight_share: float = Field(description="fraction of the weights that tiles store, 0 to 1")
    objective: str = Field("macs", description="cost that the search minimised")
    n_tiles: int = Field(description="number of tiles of the mapping")
    max_tiles: int | None = Field(None, description="limit of the number of tiles; None = no limit")
    notes: dict[str, str] = Field(
        {}, description="reason why a projection stays digital (tiles or cost), by projection"
    )
    final_samples: int | None = Field(None, description="number of samples of the final results; None = all")
    baseline: Baseline = Field(description="scores of the digital network")
    validation: Accuracy = Field(
        description="validation accuracy over newly programmed simulated chips, at the worst of the times of the bound"
    )
    validation_over_time: tuple[Accuracy, ...] = Field(
        (),
        description="validation accuracy over newly programmed simulated chips, at all times at which the bound must hold",
    )
    decisions: tuple[Decision, ...] = Field(description="decisions of the search in order")
    test_over_time: tuple[Accuracy, ...] = Field(
        (), description="test accuracy over newly programmed simulated chips, at the report times"
    )
    retrained_test_accuracy: float | None = Field(
        None, description="test accuracy of the retrained network without analog layers"
    )
    n_steps: int = Field(0, description="number of optimiser steps of all retrainings")
    system: tuple[SystemRecord, ...] = Field((), description="time and energy on each platform")
    tiles: dict[str, dict[str, str]] = Field({}, description="tile settings that differ from the run's tile, by layer")
    refresh: RefreshInterval | None = Field(None, description="age up to which the bound holds; None = not requested")
    holdout_tests: tuple[HoldoutTest, ...] = Field((), description="tests on samples that no decision used")
    guarantee: Guarantee | None = Field(
        None,
        description="whether a sequential hold-out test confirmed the bound; None = not asked for",
        exclude_if=lambda value: value is None,
    )
    rescaling: ChannelRescaling | None = Field(
        None,
        description="channels that were rescaled before the search; None = not asked for",
        exclude_if=lambda value: value is None,
    )
    elapsed_s: float | None = Field(None, description="wall time of the search and the steps that follow it [s]")
    final_figures_s: float | None = Field(None, description="wall time of the whole run since its start or resume [s]")

    untried: tuple[str, ...] | None = Field(
        None, description="projections that may run analog but that the search never tried; None = not recorded"
    )
    cautions: tuple[Caution, ...] = Field(
        (), description="cautions that the run found; the summary adds those that follow from the other fields"
    )

    @model_validator(mode="after")
    def _check_summary(self) -> Self:
        _ = self.summary  # numbers too large to be compared raise an error when the file is read
        return self

    @computed_field(description="drop of the mean validation score over newly programmed simulated chips [pp]")  # type: ignore[prop-decorator]
    @property
    def validation_drop_pp(self) -> float:
        """Drop from the digital score to the mean score over newly programmed chips [pp]; pp are rounded to 9 decimals."""
        return self.metric.report_drop(self.baseline.validation_accuracy, self.validation.mean)

    @property
    def bound(self) -> str:
        """Bound on the drop as text with its unit, for example ``"1 pp"``, or ``"0.02 mm (2 % of the digital MAE)"``."""
        return self.metric.format_bound(self.max_drop_pp, self.max_drop)

    @computed_field(description="the most important results, as numbers and in words")  # type: ignore[prop-decorator]
    @property
    def summary(self) -> Summary:
        """Drop against the bound, cost against the digital network, and cautions, as numbers and in words."""
        return summarise(self)

    def to_blocks(self) -> list[Block]:
        """Return strings and tables for `print`: the words of the summary, placements, accuracy over time, and cost."""
        summary = self.summary
        codes = list(dict.fromkeys(each.code for each in summary.cautions))
        return [
            f"{self.outcome}: {summary.headline}",
            *([f"cautions, see summary.cautions: {', '.join(codes)}"] if codes else []),
            self._tabulate_projections(),
            tabulate_accuracy(self.test_over_time, self.confidence, self.metric),
            tabulate_systems(self.system),
            summary.conclusion,
        ]

    def _tabulate_projections(self) -> Table:
        metric, tried = self.metric, {decision.fqn: decision for decision in self.decisions}
        rows: list[tuple[str, ...]] = [
            (
                fqn,
                self.mapping.describe(fqn),
                metric.format_value(tried[fqn].accuracy.mean) if fqn in tried else "",
                metric.format_drop(tried[fqn].drop_pp, sign=True) if fqn in tried else "",
                self.notes.get(fqn, ""),
            )
            for fqn in self.mapping.placements
        ]
        sizes = tuple(float(tried[fqn].macs) if fqn in tried else 0.0 for fqn in self.mapping.placements)
        columns: tuple[str, ...] = ("projection", "runs", metric.name, "drop", "note")
        if not any(row[-1] for row in rows):
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        return Table(columns, tuple(rows), right=(metric.name, "drop"), sizes=sizes)


class Evaluation(Printable, Record):
    """Scores of a network on newly programmed simulated chips at several times after programming.

    The command ``lionheart evaluate`` stores these scores in ``evaluation.json``.
    """

    split: str = Field(description="test or validation; data = the data of the caller")
    metric: Metric = Field(description="metric of the scores")
    n_samples: int | None = Field(description="number of samples, from the start of the split; None = all")
    n_chips: int = Field(description="number of simulated chips; 0 = the network has no analog layers")
    seed: int = Field(description="root of the chips' random streams")
    backend: str = Field(description="backend that computed the analog layers")
    confidence: float = Field(description="coverage probability of the confidence intervals")
    accuracy_over_time: tuple[Accuracy, ...] = Field(description="accuracy at each time")

    def to_blocks(self) -> list[Block]:
        """Return lines of text and a table for `print`: metric, number of chips and samples, and the score at each time.

        For a network without analog layers, return only one line with the score.
        """
        points, metric = self.accuracy_over_time, self.metric
        n_samples = points[0].n_samples if points and points[0].n_samples is not None else self.n_samples
        samples = "all samples" if n_samples is None else f"{n_samples} samples"
        if self.n_chips == 0:
            return [f"{metric.name}: {metric.format_value(points[0].mean)} on {samples} (digital: no analog layers)"]
        lines = [f"{metric.name} of {self.n_chips} chips, seed {self.seed}, on {samples} of {self.split}"]
        lines += [metric.explain_drop()] if metric.rises_with_drop else []
        return [*lines, tabulate_accuracy(points, self.confidence, metric)]


class Environment(Record):
    """Software versions and hardware of the process that computed a run. Both can affect the results."""

    lionheart: str = Field(description="version of lionheart")
    python: str = Field(description="version of Python")
    torch: str = Field(description="version of PyTorch")
    cpu: str = Field(description="name of the processor")
    cpu_capability: str = Field("", description="instruction set that PyTorch uses")
    threads: int = Field(description="number of threads of PyTorch")
    device: str = Field("cpu", description="type of the device that computes")
    gpu: str | None = Field(None, description="name of the first GPU")
    system: str = Field(description="operating system and machine")


class RunDescription(Record):
    """Settings, seed, versions and environment of a run, which are written to ``run.json`` when the run starts."""

    schema_version: Literal[1, 2] = Field(
        2, description="version of the run directory; a run of version 1 can be read but not resumed"
    )
    lionheart_version: str = Field("", description="version of lionheart that started the run")
    created: str = Field("", description="time of the start, UTC")
    job: str = Field("map", description="command that started the run")
    task: str = Field(description="name of the task")
    seed: int = Field(description="root of all random streams")
    command: str = Field("", description="command line that repeats the run")
    settings: dict[str, Any] = Field(description="settings of the run")
    environment: Environment | None = Field(None, description="versions and hardware")
    study: str | None = Field(None, description="name of the Optuna study of a Pareto front")
    storage: str | None = Field(None, description="storage of the Optuna study of a Pareto front, without a password")
