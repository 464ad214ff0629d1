"""What a strategy is handed, and what it hands back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, final

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.objective import Objective


class SearchOutcome(StrEnum):
    """How a search ended."""

    MAPPED = "mapped"
    INFEASIBLE = "infeasible"
    BUDGET = "budget"


@final
@dataclass(frozen=True)
class Trial:
    """What came of trying a mapping.

    Args:
        accuracy: Mean over chips at ``t_inference``, with its interval, as plain data.
        drop_pp: Estimated drop against the digital network [pp].
        limit_pp: What is held against the bound: the drop, or what it does not exceed with the promised probability [pp].
        train: The retraining's trace as plain data.
        elapsed_s: Wall time of the trial [s].
    """

    accuracy: Mapping[str, Any]
    drop_pp: float
    limit_pp: float
    train: Mapping[str, Any]
    elapsed_s: float


@final
@dataclass(frozen=True)
class Decision:
    """One step of a search.

    Args:
        index: Its number.
        fqn: The candidate tried, or a label of what was.
        macs: Work that it was about.
        accepted: Whether a mapping was kept.
        accuracy: Mean over chips of the mapping kept, or tried last.
        drop_pp: Against the digital network [pp].
        limit_pp: What was held against the bound [pp]; None in runs of older versions: the drop.
        train: The retraining's trace.
        elapsed_s: Wall time [s].
        analog: Analog projections of the mapping kept; None if none was kept.
        n_remeasured: Other mappings measured in the same step.
        note: What the step leaves digital for its tiles or its cost, and why; empty if nothing.
    """

    index: int
    fqn: str
    macs: int
    accepted: bool
    accuracy: Mapping[str, Any]
    drop_pp: float
    train: Mapping[str, Any]
    elapsed_s: float
    analog: Sequence[str] | None = None
    n_remeasured: int = 0
    limit_pp: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data; without a note where there is none."""
        data = asdict(self)
        return data if self.note else {key: value for key, value in data.items() if key != "note"}


class Problem(Protocol):
    """The network under search, seen through seven verbs."""

    def try_mapping(
        self, mapping: LayerMapping, index: int, fqn: str, *, retrain: bool = True, hasty: bool = False
    ) -> Trial:
        """Apply a mapping, retrain if asked to, and evaluate; `fqn` is the candidate tried, or a label.

        A hasty trial may stop measuring as soon as the drop is clearly beyond the bound.
        """

    def remeasure(self, mapping: LayerMapping, index: int, number: int, *, hasty: bool = False) -> Trial:
        """Evaluate another mapping with the weights of the trial `index`, which is not settled yet."""

    def loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """Return how much the loss of the digital network rises when each projection alone is analog, not retrained."""

    def expected_loss_increase(self, fqns: Sequence[str]) -> Mapping[str, float]:
        """Return the same as expected from the Hessian and the error of weights on chips, never negative."""

    def settle(self, decision: Decision, mapping: LayerMapping) -> None:
        """Keep the trial's weights if it was accepted, else restore weights and optimiser; `mapping` holds from now on."""

    def is_out_of_budget(self) -> bool:
        """Return whether the search must end."""

    def past_decisions(self) -> Sequence[Decision]:
        """Return decisions made before a resume, in order."""


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


class Strategy(Protocol):
    """A function that searches."""

    def __call__(
        self,
        problem: Problem,
        candidates: Sequence[Candidate],
        start: LayerMapping,
        *,
        max_drop_pp: float,
        objective: Objective | None = None,
    ) -> SearchResult:
        """Search from `start` over `candidates`, best first, for the best mapping whose drop is within `max_drop_pp`.

        The best is what `objective` makes smallest, and every mapping tried fits its tiles; None = the most analog MACs.
        """
