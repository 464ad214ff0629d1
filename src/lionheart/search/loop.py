"""The loop of one search: try a mapping, compare its drop with the bound, commit it or roll it back.

Decisions made before a resume are replayed from the journal.
"""

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
    """State of a search: the candidates, the bound on the drop, the decisions so far, and the current mapping.

    Args:
        problem: Network under search.
        candidates: Projections that may become analog, in the order of the run's ranking.
        start: Mapping before the first decision.
        max_drop_pp: Bound on the accuracy drop [pp].
        objective: Cost to minimise and the limit of tiles; None = digital MACs without a limit of tiles.
        early_stop: Whether an evaluation ends as soon as the drop is clearly beyond the bound.
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
        """Return whether the strategy may make another decision: one recorded before a resume, or one within the budget."""
        if len(self.decisions) >= self._problem.n_decided and self._problem.is_out_of_budget():
            self.ended_early = True
        return not self.ended_early

    @property
    def last_drop_ucb_pp(self) -> float:
        """Drop that the last decision compared with the bound [pp]."""
        return self.decisions[-1].drop_ucb_pp

    def loss_increase(self) -> Mapping[str, float]:
        """Return the measured loss increase with each candidate alone analog, without retraining, by name."""
        return self._problem.loss_increase([each.node.fqn for each in self.candidates])

    def expected_loss_increase(self) -> Mapping[str, float]:
        """Return the loss increase with each candidate alone analog, as estimated from the Hessian, by name."""
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
        """Try a mapping; commit the mapping and its weights if the drop is within the bound, else roll both back.

        Args:
            mapping: Mapping to try.
            label: Short description of the decision, e.g. the name of the candidate.
            macs: MACs that the decision moves to tiles.
            retrain: Whether the network is retrained before the evaluation; False = the weights stay as they are.
            smaller: Alternatives in increasing order of size, evaluated with the weights of this trial if `mapping` is beyond
                the bound. The largest one within the bound is found by bisection, which assumes that the drop grows with size.
            always: Whether the mapping is committed whatever its drop.
            note: Candidates that this decision leaves digital, with the reasons.

        Returns:
            Whether a mapping was committed. The committed mapping is `self.mapping`.

        Raises:
            ConfigError: A mapping needs more tiles than `Objective.max_tiles`.
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
        """Return the current mapping, all decisions, the outcome, and the reasons for which candidates stayed digital."""
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
                    f"search: the strategy tried a mapping of {n_tiles} tiles, expected at most {most} (search.max_tiles)",
                    hint="the strategy must check a mapping with `loop.objective.fits` before `loop.attempt`",
                )

    def _largest_within(
        self, smaller: Sequence[LayerMapping], index: int, first: Trial
    ) -> tuple[LayerMapping | None, Trial, list[float]]:
        """Return the largest mapping of `smaller` within the bound, its trial, and the duration of each evaluation [s]."""
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
