"""One step of a search: try a mapping, decide by the bound, keep or undo. Steps made before a resume are not made again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from lionheart.candidates import Candidate
from lionheart.errors import ConfigError
from lionheart.mapping import LayerMapping, Placement
from lionheart.search.objective import Objective
from lionheart.search.problem import Decision, Problem, SearchOutcome, SearchResult, Trial

_ROUNDING_PP = 1e-9  # a drop of exactly the bound is within it, whatever the last bit says


@final
class Steps:
    """The decisions of one search, in order, and the mapping that holds after them.

    Args:
        problem: The network under search.
        candidates: What may go analog.
        start: The mapping before any decision.
        max_drop_pp: Bound on the drop [pp].
        objective: What is made small, and the tiles; None = digital MACs, any number of tiles.
        hasty: Stop measuring a mapping as soon as it is clearly beyond the bound.
    """

    def __init__(
        self,
        problem: Problem,
        candidates: Sequence[Candidate],
        start: LayerMapping,
        *,
        max_drop_pp: float,
        objective: Objective | None = None,
        hasty: bool = False,
    ) -> None:
        self.problem, self.candidates, self.start, self.mapping = problem, candidates, start, start
        self.max_drop_pp, self.hasty = max_drop_pp, hasty
        self.objective = objective or Objective.of_macs(candidates)
        self.decisions: list[Decision] = []
        self.ended_early = False
        self._past = list(problem.past_decisions())

    def can_go_on(self) -> bool:
        """Return whether another step is to be made: it was made before, or the budget is not spent."""
        if len(self.decisions) >= len(self._past) and self.problem.is_out_of_budget():
            self.ended_early = True
        return not self.ended_early

    @property
    def last_limit_pp(self) -> float:
        """What the last step held against the bound [pp]."""
        last = self.decisions[-1]
        return last.drop_pp if last.limit_pp is None else last.limit_pp

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
        if index < len(self._past):
            decision = self._past[index]
        else:
            first = last = self.problem.try_mapping(mapping, index, label, retrain=retrain, hasty=self.hasty)
            elapsed_s, n_remeasured = first.elapsed_s, 0
            kept = mapping if always or self._is_within(first) else None
            if kept is None and smaller:
                kept, last, again = self._largest_within(smaller, index, first)
                elapsed_s, n_remeasured = elapsed_s + sum(again), len(again)
            decision = Decision(
                index=index,
                fqn=label,
                macs=macs,
                accepted=kept is not None,
                accuracy=last.accuracy,
                drop_pp=last.drop_pp,
                limit_pp=last.limit_pp,
                train=first.train,
                elapsed_s=elapsed_s,
                analog=None if kept is None else kept.analog,
                n_remeasured=n_remeasured,
                note=note,
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
            trial = self.problem.remeasure(smaller[middle], index, len(times), hasty=self.hasty)
            times.append(trial.elapsed_s)
            if self._is_within(trial):
                kept, last, low = smaller[middle], trial, middle + 1
            else:
                high = middle - 1
        return kept, last, times

    def _is_within(self, trial: Trial) -> bool:
        return trial.limit_pp <= self.max_drop_pp + _ROUNDING_PP


def _with_analog(mapping: LayerMapping, analog: Sequence[str]) -> LayerMapping:
    chosen = set(analog)
    return LayerMapping({fqn: Placement.ANALOG if fqn in chosen else Placement.DIGITAL for fqn in mapping.placements})
