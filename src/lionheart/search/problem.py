"""The interface between a search and the network under search, and the records that a search returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from lionheart.mapping import LayerMapping
from lionheart.runs import Accuracy, Decision, SearchOutcome, TrainTrace


@final
@dataclass(frozen=True)
class Trial:
    """Result of trying a mapping.

    Args:
        accuracy: Mean accuracy over chips at ``t_inference``, with its confidence interval.
        drop_pp: Estimated drop against the digital network [pp].
        drop_ucb_pp: Drop that is compared with the bound: the estimate or its upper confidence bound [pp].
        train: Trace of the retraining.
        elapsed_s: Wall time of the trial [s].
    """

    accuracy: Accuracy
    drop_pp: float
    drop_ucb_pp: float
    train: TrainTrace
    elapsed_s: float


class Problem(Protocol):
    """Operations that a search needs from the network under search."""

    @property
    def n_decided(self) -> int:
        """Number of decisions recorded before a resume."""

    def decide_once(self, index: int, decide: Callable[[], Decision]) -> Decision:
        """Return decision `index` if it was recorded before a resume; else call `decide` and record its result."""

    def try_mapping(self, mapping: LayerMapping, index: int, label: str, *, retrain: bool, early_stop: bool) -> Trial:
        """Apply a mapping, retrain if `retrain` is true, and evaluate.

        With `early_stop` the evaluation may end as soon as the drop is clearly beyond the bound.
        """

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, early_stop: bool) -> Trial:
        """Evaluate another mapping with the weights of trial `index`, before that trial is committed or rolled back."""

    def commit(self, decision: Decision, mapping: LayerMapping) -> None:
        """Keep the weights of the trial; `mapping` becomes the current mapping."""

    def rollback(self, decision: Decision, mapping: LayerMapping) -> None:
        """Restore the weights and the optimiser state from before the trial; `mapping` remains the current mapping."""

    def loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """Return the measured loss increase of the digital network with each projection alone analog, without retraining."""

    def expected_loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """Return the loss increase estimated from the Hessian and the weight errors of chips; never negative."""

    def is_out_of_budget(self) -> bool:
        """Return whether the budget of epochs or minutes is spent."""


@final
@dataclass(frozen=True)
class SearchResult:
    """A mapping and the decisions that led to it.

    Args:
        mapping: Mapping that the search found.
        decisions: All decisions in order.
        outcome: How the search ended.
        notes: Candidates that stay digital because they do not fit on the tiles left or would raise the cost, with the reason.
    """

    mapping: LayerMapping
    decisions: tuple[Decision, ...]
    outcome: SearchOutcome
    notes: Mapping[str, str] = field(default_factory=dict)
