"""The decisions of one search: try a mapping, decide by the bound, keep or undo. Decisions of before a resume are replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from lionheart.candidates import Candidate
from lionheart.errors import ConfigError
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import is_within
from lionheart.runs import Decision, SearchOutcome
from lionheart.search.objective import Objective
from lionheart.search.problem import Problem, SearchResult, Trial


@final
class SearchLoop:
    """What a strategy works with: candidates, the bound, and the mapping that holds after each decision.

    Args:
        problem: The network under search.
        candidates: What may go analog, in the order of the run's ranking.
        start: The mapping before any decision.
        max_drop_pp: Bound on the drop [pp].
        objective: What is made small, and the tiles; None = digital MACs, any number of tiles.
        early_stop: Stop measuring a mapping as soon as it is clearly beyond the bound.
    """

    def __init__(
        self,
        problem: Problem,
        candidates: Sequence[Candidate],
        start: LayerMapping,
        *,
        max_drop_pp: float,
        objective: Objective | None = None,
        early_stop: bool = False,
    ) -> None:
        self._problem, self.candidates, self.start, self.mapping = problem, candidates, start, start
        self.max_drop_pp, self.early_stop = max_drop_pp, early_stop
        self.objective = objective or Objective.of_macs(candidates)
        self.decisions: list[Decision] = []
        self.ended_early = False

    def can_go_on(self) -> bool:
        """Return whether another decision is to be made: it was made before, or the budget is not spent."""
        if len(self.decisions) >= self._problem.n_decided and self._problem.is_out_of_budget():
            self.ended_early = True
        return not self.ended_early

    @property
    def last_drop_ucb_pp(self) -> float:
        """What the last decision held against the bound [pp]."""
        return self.decisions[-1].drop_ucb_pp

    def loss_increase(self) -> Mapping[str, float]:
        """Return how much the loss rises when each candidate alone is analog, measured, not retrained."""
        return self._problem.loss_increase([each.node.fqn for each in self.candidates])

    def expected_loss_increase(self) -> Mapping[str, float]:
        """Return how much the loss should rise by the Hessian when each candidate alone is analog."""
        return self._problem.expected_loss_increase([each.node.fqn for each in self.candidates])

    def attempt(
        self,
        mapping: LayerMapping,
        label: str,
        *,
        macs: int,
        retrain: bool = True,
        smaller: Sequence[LayerMapping] = (),
        always: bool = False,
        note: str = "",
    ) -> bool:
        """Try a mapping; keep it and its weights if the drop is within the bound, else undo both.

        Args:
            mapping: To be tried.
            label: What is tried, in a word.
            macs: Work that the step is about.
            retrain: Retrain before measuring; else weights stay as they are.
            smaller: Mappings from small to large that may be kept instead, with the weights of this step. The largest within
                the bound is found by bisection, as if every larger one dropped more.
            always: Keep it whatever the drop.
            note: What the step leaves digital, and why.

        Returns:
            Whether a mapping was kept; it is `self.mapping` then.

        Raises:
            ConfigError: A mapping needs more tiles than there are.
        """
        self._check_tiles(mapping, *smaller)
        index = len(self.decisions)

        def decide() -> Decision:
            first = last = self._problem.try_mapping(mapping, index, label, retrain=retrain, early_stop=self.early_stop)
            kept = mapping if always or self._is_within(first) else None
            times: list[float] = []
            if kept is None and smaller:
                kept, last, times = self._largest_within(smaller, index, first)
            decision = Decision(
                index=index,
                fqn=label,
                macs=macs,
                accepted=kept is not None,
                accuracy=last.accuracy,
                drop_pp=last.drop_pp,
                drop_ucb_pp=last.drop_ucb_pp,
                train=first.train,
                elapsed_s=first.elapsed_s + sum(times),
                analog=None if kept is None else kept.analog,
                n_remeasured=len(times),
                note=note,
            )
            if kept is None:
                self._problem.rollback(decision, self.mapping)
            else:
                self._problem.commit(decision, kept)
            return decision

        decision = self._problem.decide_once(index, decide)
        if decision.accepted:
            self.mapping = mapping if decision.analog is None else _with_analog(mapping, decision.analog)
        self.decisions.append(decision)
        return decision.accepted

    def result(self) -> SearchResult:
        """Return what was found."""
        outcome = SearchOutcome.MAPPED if self.mapping.analog else SearchOutcome.INFEASIBLE
        return SearchResult(
            self.mapping,
            tuple(self.decisions),
            SearchOutcome.BUDGET if self.ended_early else outcome,
            self.objective.explain(self.mapping, [each.node.fqn for each in self.candidates]),
        )

    def _check_tiles(self, *mappings: LayerMapping) -> None:
        for mapping in mappings:
            if not self.objective.fits(mapping.analog):
                n_tiles, most = self.objective.count_tiles(mapping.analog), self.objective.max_tiles
                raise ConfigError(
                    f"search: a mapping of {n_tiles} tiles was to be tried, expected at most {most}",
                    hint="the strategy must ask its objective what fits",
                )

    def _largest_within(
        self, smaller: Sequence[LayerMapping], index: int, first: Trial
    ) -> tuple[LayerMapping | None, Trial, list[float]]:
        """Return the largest of `smaller` within the bound, its trial, and how long each measurement took [s]."""
        kept, last = None, first
        times: list[float] = []
        low, high = 0, len(smaller) - 1
        while low <= high:
            middle = (low + high + 1) // 2
            trial = self._problem.remeasure(smaller[middle], index, len(times), early_stop=self.early_stop)
            times.append(trial.elapsed_s)
            if self._is_within(trial):
                kept, last, low = smaller[middle], trial, middle + 1
            else:
                high = middle - 1
        return kept, last, times

    def _is_within(self, trial: Trial) -> bool:
        return is_within(trial.drop_ucb_pp, self.max_drop_pp)


def _with_analog(mapping: LayerMapping, analog: Sequence[str]) -> LayerMapping:
    chosen = set(analog)
    return LayerMapping({fqn: Placement.ANALOG if fqn in chosen else Placement.DIGITAL for fqn in mapping.placements})
