"""What a search asks of the network under search, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, final

from lionheart.mapping import LayerMapping
from lionheart.runs import Accuracy, Decision, SearchOutcome, TrainTrace


@final
@dataclass(frozen=True)
class Trial:
    """What came of trying a mapping.

    Args:
        accuracy: Mean over chips at ``t_inference``, with its interval.
        drop_pp: Estimated drop against the digital network [pp].
        drop_ucb_pp: What is held against the bound: the drop, or its upper confidence bound [pp].
        train: The retraining.
        elapsed_s: Wall time of the trial [s].
    """

    accuracy: Accuracy
    drop_pp: float
    drop_ucb_pp: float
    train: TrainTrace
    elapsed_s: float


class Problem(Protocol):
    """The network under search."""

    @property
    def n_decided(self) -> int:
        """Number of decisions made before a resume."""

    def decide_once(self, index: int, decide: Callable[[], Decision]) -> Decision:
        """Return the decision `index` that was made before a resume; else make it, and write it down."""

    def try_mapping(self, mapping: LayerMapping, index: int, label: str, *, retrain: bool, early_stop: bool) -> Trial:
        """Apply a mapping, retrain if asked to, and evaluate.

        With `early_stop` the measurement may end as soon as the drop is clearly beyond the bound.
        """

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, early_stop: bool) -> Trial:
        """Evaluate another mapping with the weights of the trial `index`, which is neither committed nor rolled back yet."""

    def commit(self, decision: Decision, mapping: LayerMapping) -> None:
        """Keep the trial's weights; `mapping` holds from now on."""

    def rollback(self, decision: Decision, mapping: LayerMapping) -> None:
        """Restore weights and optimiser as before the trial; `mapping` still holds."""

    def loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """Return how much the loss of the digital network rises when each projection alone is analog, not retrained."""

    def expected_loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """Return the same as expected from the Hessian and the error of weights on chips, never negative."""

    def is_out_of_budget(self) -> bool:
        """Return whether the search must end."""


@final
@dataclass(frozen=True)
class SearchResult:
    """A mapping and how it was found.

    Args:
        mapping: What was found.
        decisions: Every step.
        outcome: How it ended.
        notes: Candidates that stay digital because they do not fit on the tiles left or would cost more there, and the reason.
    """

    mapping: LayerMapping
    decisions: tuple[Decision, ...]
    outcome: SearchOutcome
    notes: Mapping[str, str] = field(default_factory=dict)
