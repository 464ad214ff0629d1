"""One step of a search: try a mapping, decide by the bound, keep or undo. Steps made before a resume are not made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from lionheart.mapping import LayerMapping, Placement
from lionheart.search.problem import Decision, Problem, SearchOutcome, SearchResult

_ROUNDING_PP = 1e-9  # a drop of exactly the bound is within it, whatever the last bit says


@final
class Steps:
    """The decisions of one search, in order, and the mapping that holds after them.

    Args:
        problem: The network under search.
        start: The mapping before any decision.
        baseline: Digital accuracy, 0 to 1.
        max_drop_pp: Bound on the drop against it [pp].
    """

    def __init__(self, problem: Problem, start: LayerMapping, *, baseline: float, max_drop_pp: float) -> None:
        self.problem, self.start, self.mapping = problem, start, start
        self.baseline, self.max_drop_pp = baseline, max_drop_pp
        self.decisions: list[Decision] = []
        self.ended_early = False
        self._past = list(problem.past_decisions())

    def can_go_on(self) -> bool:
        """Return whether another step is to be made: it was made before, or the budget is not spent."""
        if len(self.decisions) >= len(self._past) and self.problem.is_out_of_budget():
            self.ended_early = True
        return not self.ended_early

    def attempt(
        self,
        mapping: LayerMapping,
        label: str,
        *,
        macs: int,
        retrain: bool = True,
        smaller: Sequence[LayerMapping] = (),
        always: bool = False,
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

        Returns:
            Whether a mapping was kept; it is `self.mapping` then.
        """
        index = len(self.decisions)
        if index < len(self._past):
            decision = self._past[index]
        else:
            trial = self.problem.try_mapping(mapping, index, label, retrain=retrain)
            accuracy, elapsed_s, n_remeasured = trial.accuracy, trial.elapsed_s, 0
            kept = mapping if always or self._is_within(accuracy) else None
            if kept is None and smaller:
                kept, accuracy, again = self._largest_within(smaller, index, accuracy)
                elapsed_s, n_remeasured = elapsed_s + sum(again), len(again)
            decision = Decision(
                index=index,
                fqn=label,
                macs=macs,
                accepted=kept is not None,
                accuracy=accuracy,
                drop_pp=self._drop_pp(accuracy),
                train=trial.train,
                elapsed_s=elapsed_s,
                analog=None if kept is None else kept.analog,
                n_remeasured=n_remeasured,
            )
        if decision.accepted:
            self.mapping = mapping if decision.analog is None else _with_analog(mapping, decision.analog)
        if index >= len(self._past):
            self.problem.settle(decision, self.mapping)
        self.decisions.append(decision)
        return decision.accepted

    def result(self) -> SearchResult:
        """Return what was found."""
        outcome = SearchOutcome.MAPPED if self.mapping.analog else SearchOutcome.INFEASIBLE
        return SearchResult(self.mapping, tuple(self.decisions), SearchOutcome.BUDGET if self.ended_early else outcome)

    def _largest_within(
        self, smaller: Sequence[LayerMapping], index: int, accuracy: Mapping[str, Any]
    ) -> tuple[LayerMapping | None, Mapping[str, Any], list[float]]:
        """Return the largest of `smaller` within the bound, its accuracy, and how long each measurement took [s]."""
        kept: LayerMapping | None = None
        times: list[float] = []
        low, high = 0, len(smaller) - 1
        while low <= high:
            middle = (low + high + 1) // 2
            trial = self.problem.remeasure(smaller[middle], index, len(times))
            times.append(trial.elapsed_s)
            if self._is_within(trial.accuracy):
                kept, accuracy, low = smaller[middle], trial.accuracy, middle + 1
            else:
                high = middle - 1
        return kept, accuracy, times

    def _is_within(self, accuracy: Mapping[str, Any]) -> bool:
        return self._drop_pp(accuracy) <= self.max_drop_pp + _ROUNDING_PP

    def _drop_pp(self, accuracy: Mapping[str, Any]) -> float:
        return 100 * (self.baseline - float(accuracy["mean"]))


def _with_analog(mapping: LayerMapping, analog: Sequence[str]) -> LayerMapping:
    chosen = set(analog)
    return LayerMapping({fqn: Placement.ANALOG if fqn in chosen else Placement.DIGITAL for fqn in mapping.placements})
