"""`Problem`, the interface through which a search changes and evaluates a network, and the results of trials and searches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from lionheart.devices import ReadPolicy
from lionheart.mapping import LayerMapping
from lionheart.runs import Accuracy, Decision, SearchOutcome, TrainTrace


@final
@dataclass(frozen=True)
class Trial:
    """Result of applying a mapping to the network and evaluating the network on simulated chips.

    Args:
        accuracy: Mean accuracy over chips, with its confidence interval, at the time with the largest drop.
        drop_pp: Estimated accuracy drop from the digital network, in percentage points [pp].
        drop_ucb_pp: Drop to compare with the bound [pp]: the estimate, or its upper confidence bound.
        train: Record of the retraining; empty if the network was not retrained.
        elapsed_s: Wall time of the trial [s].
    """

    accuracy: Accuracy
    drop_pp: float
    drop_ucb_pp: float
    train: TrainTrace
    elapsed_s: float


class Problem(Protocol):
    """Interface through which a search changes, retrains and evaluates the network."""

    @property
    def n_decided(self) -> int:
        """Number of decisions that were recorded before the run was resumed; 0 in a new run."""

    def decide_once(self, index: int, decide: Callable[[], Decision]) -> Decision:
        """Return the decision with number `index`: the recorded decision after a resume, else the result of `decide`.

        A decision made by `decide` is recorded.
        """

    def try_mapping(self, mapping: LayerMapping, index: int, label: str, *, retrain: bool, early_stop: bool) -> Trial:
        """Apply a mapping to the network, and evaluate the network on simulated chips.

        Args:
            mapping: Mapping to apply.
            index: Number of the decision, counted from 0.
            label: Short description of the decision.
            retrain: Whether to retrain the network before the evaluation.
            early_stop: Whether the evaluation may end once the drop exceeds the bound with 95 % confidence.
        """

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, early_stop: bool) -> Trial:
        """Evaluate another mapping with the weights of trial `index`, before this trial is accepted or undone.

        Args:
            mapping: Mapping to apply.
            index: Number of the trial, equal to the number of its decision.
            number: Number of this evaluation within the trial, counted from 0.
            early_stop: Whether the evaluation may end once the drop exceeds the bound with 95 % confidence.
        """

    def commit(self, decision: Decision, mapping: LayerMapping) -> None:
        """Accept the last trial: keep the weights, and make `mapping` the current mapping. The decision is `decision`."""

    def rollback(self, decision: Decision, mapping: LayerMapping) -> None:
        """Undo the last trial: restore the earlier weights and optimiser state, and apply the earlier mapping.

        Args:
            decision: Decision that rejects the trial.
            mapping: Current mapping, i.e. the mapping that was applied before the trial.
        """

    def loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """For each named projection, return the measured loss increase with only this projection analog and no retraining."""

    def level_increases(self, fqns: Sequence[str], levels: Sequence[ReadPolicy]) -> Sequence[Mapping[str, float]]:
        """For each read policy and projection, return the loss increase with only this projection analog, not retrained."""

    def expected_loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """For each named projection, return the loss increase with only this projection analog, estimated from the Hessian.

        The estimate is computed from the Hessian of the loss and the weight errors on simulated chips. It is never negative.
        """

    def is_out_of_budget(self) -> bool:
        """Return whether the run has spent its budget, i.e. the limit on retraining epochs or on minutes in the settings."""


@final
@dataclass(frozen=True)
class SearchResult:
    """The final mapping of a search and the decisions that led to it.

    Args:
        mapping: Final mapping.
        decisions: All decisions, in the order in which they were made.
        outcome: ``mapped``, ``infeasible`` (no projection could become analog) or ``budget`` (the search ended early).
        notes: Reasons why projections stay digital, by the name of the projection. Only projections that do not fit on the
            remaining tiles or that would not lower the cost are included.
    """

    mapping: LayerMapping
    decisions: tuple[Decision, ...]
    outcome: SearchOutcome
    notes: Mapping[str, str] = field(default_factory=dict)
