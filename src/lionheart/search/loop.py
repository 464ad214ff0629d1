"""`SearchLoop`, which tries the mappings that a strategy proposes, and keeps or reverts each mapping.

In a resumed run, decisions that the journal already contains are read from the journal instead of being measured again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from lionheart.candidates import Candidate
from lionheart.devices import ReadPolicy
from lionheart.errors import ConfigError
from lionheart.mapping import LayerMapping, Placement
from lionheart.metrics import is_within
from lionheart.runs import Decision, SearchOutcome
from lionheart.search.objective import Objective
from lionheart.search.problem import Problem, SearchResult, Trial
from lionheart.search.shrink import Shrink


@final
class SearchLoop:
    """State of a search: the candidates, the bound on the accuracy drop, the decisions so far, and the current mapping.

    Args:
        problem: Interface through which the network is changed and evaluated.
        candidates: Projections (weight matrices) that may become analog, in the order in which they are to be tried.
        start: Mapping before the first decision.
        max_drop_pp: Bound on the accuracy drop, in percentage points [pp].
        objective: Cost to minimise and limit on the number of tiles; None = minimise the digital MACs, without a limit.
        early_stop: Whether to end an evaluation once the drop exceeds the bound with 95 % confidence.
        levels: Read policies that an analog projection may have, from the cheapest to the most expensive.
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
        levels: Sequence[ReadPolicy] = (ReadPolicy(),),
    ) -> None:
        self.levels = tuple(levels)
        self._problem, self.candidates, self.start, self.mapping = problem, candidates, start, start
        self.max_drop_pp, self.early_stop = max_drop_pp, early_stop
        self.objective = objective or Objective.of_macs(candidates)
        self.shrink: Shrink | None = None  # how the strategy makes its mappings smaller; None = layers become digital
        self.decisions: list[Decision] = []
        self.ended_early = False

    def can_go_on(self) -> bool:
        """Return whether another decision may be made, i.e. the journal contains the next decision or the budget is not spent.

        After this method has returned False for the first time, all later calls return False too, and the outcome of the search
        is ``budget``.
        """
        if len(self.decisions) >= self._problem.n_decided and self._problem.is_out_of_budget():
            self.ended_early = True
        return not self.ended_early

    @property
    def last_drop_ucb_pp(self) -> float:
        """Accuracy drop [pp] that was compared with the bound in the last decision.

        The value is the upper confidence bound of the drop, or the estimated drop if the settings contain no confidence level.
        """
        return self.decisions[-1].drop_ucb_pp

    def loss_increase(self) -> Mapping[str, float]:
        """For each candidate, return the measured loss increase with only this candidate analog and without retraining.

        The keys of the result are the names of the candidates, i.e. of the projections that may become analog.
        """
        return self._problem.loss_increase([each.node.fqn for each in self.candidates])

    def level_increases(self) -> Sequence[Mapping[str, float]]:
        """For each read policy in `levels` and each candidate, return the loss increase with only this candidate analog.

        The network is not retrained. The keys are the names of the candidates.
        """
        return self._problem.level_increases([each.node.fqn for each in self.candidates], self.levels)

    def expected_loss_increase(self) -> Mapping[str, float]:
        """For each candidate, return the loss increase with only this candidate analog, estimated from the Hessian.

        The keys of the result are the names of the candidates, i.e. of the projections that may become analog.
        """
        return self._problem.expected_loss_increase([each.node.fqn for each in self.candidates])

    def cost_of(self, mapping: LayerMapping) -> tuple[float, float]:
        """Return the objective of a mapping and, to compare mappings of equal objective, the cost of its read policies.

        The second number is 0 if there is only one policy to choose from.
        """
        known = [each for each in self.candidates if mapping.is_analog(each.node.fqn)] if len(self.levels) > 1 else []
        policies = sum(self.objective.level_cost(each, mapping.policy_of(each.node.fqn)) for each in known)
        return self.objective.cost(mapping), policies

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
        """Try a mapping. If the accuracy drop is within the bound, keep the mapping and its weights, else revert both.

        Args:
            mapping: Mapping to try.
            label: Short description of the decision, e.g. the name of the projection that becomes analog.
            macs: Number of MACs that the decision moves from digital cores to tiles.
            retrain: Whether to retrain the network before the evaluation.
            smaller: Alternative mappings, tried only if `mapping` is beyond the bound. The last mapping of this sequence that
                is within the bound is found by bisection and committed. The drop is assumed to increase along the sequence. All
                alternatives are evaluated with the weights of this trial.
            always: Whether to commit `mapping` even if the drop is beyond the bound.
            note: Text stored with the decision, e.g. the projections that stay digital and the reasons.

        Returns:
            Whether a mapping was committed. If so, `self.mapping` is the committed mapping.

        Raises:
            ConfigError: `mapping` or a mapping in `smaller` needs more tiles than `Objective.max_tiles`.
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
                policies={} if kept is None else kept.policies,
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
            self.mapping = (
                mapping if decision.analog is None else _with_analog(mapping, decision.analog, decision.policies)
            )
        self.decisions.append(decision)
        return decision.accepted

    def result(self) -> SearchResult:
        """Return the result of the search: the current mapping, all decisions, the outcome, and notes.

        The notes contain the reasons why projections that may become analog stayed digital.
        """
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
                    f"search.max_tiles: the strategy tried a mapping that needs {n_tiles} tiles, "
                    f"expected at most {most}",
                    hint="in the strategy, call `loop.attempt(mapping, ...)` only if `loop.objective.fits(mapping.analog)`",
                )

    def _largest_within(
        self, smaller: Sequence[LayerMapping], index: int, first: Trial
    ) -> tuple[LayerMapping | None, Trial, list[float]]:
        """Find by bisection the last mapping of `smaller` with an accuracy drop within the bound.

        Args:
            smaller: Mappings to evaluate. The drop is assumed to increase along the sequence.
            index: Number of the decision, counted from 0.
            first: Trial of the mapping with more analog projections, whose drop is beyond the bound.

        Returns:
            The mapping that was found, the trial that evaluated this mapping, and the wall time of each evaluation [s]. If no
            evaluated mapping is within the bound, the first two elements are None and `first`.
        """
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


def _with_analog(mapping: LayerMapping, analog: Sequence[str], policies: Mapping[str, ReadPolicy]) -> LayerMapping:
    chosen = set(analog)
    placements = {fqn: Placement.ANALOG if fqn in chosen else Placement.DIGITAL for fqn in mapping.placements}
    return LayerMapping(placements, policies=dict(policies))
