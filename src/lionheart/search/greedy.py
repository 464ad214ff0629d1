"""The LionHeart paper's search: one candidate after another, each tried once, retrained, kept or undone."""

from __future__ import annotations

from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping, Placement
from lionheart.search.problem import Decision, Problem, SearchOutcome, SearchResult
from lionheart.search.registry import register_strategy

_ROUNDING_PP = 1e-9  # a drop of exactly the bound is within it, whatever the last bit says


@register_strategy("lionheart")
def search_greedily(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, baseline: float, max_drop_pp: float
) -> SearchResult:
    """Turn candidates analog in the given order as long as the drop stays within the bound.

    Every trial keeps the layers accepted before it, and its drop is counted against the digital network, not against the last
    trial. A rejected candidate stays digital for good.

    Source:
        Lammie et al., IEEE TETC 2025, arXiv:2401.09420v3, Algorithm 1.
    """
    mapping = start
    decisions: list[Decision] = []
    past = list(problem.past_decisions())
    ended_early = False
    for index, candidate in enumerate(candidates):
        fqn = candidate.node.fqn
        if index < len(past):
            decision = past[index]
        elif problem.is_out_of_budget():
            ended_early = True
            break
        else:
            trial = problem.try_mapping(mapping.with_placement(fqn, Placement.ANALOG), index, fqn)
            drop_pp = 100 * (baseline - float(trial.accuracy["mean"]))
            accepted = drop_pp <= max_drop_pp + _ROUNDING_PP
            decision = Decision(
                index, fqn, candidate.node.macs, accepted, trial.accuracy, drop_pp, trial.train, trial.elapsed_s
            )
        if decision.accepted:
            mapping = mapping.with_placement(fqn, Placement.ANALOG)
        if index >= len(past):
            problem.settle(decision, mapping)
        decisions.append(decision)
    outcome = SearchOutcome.MAPPED if mapping.analog else SearchOutcome.INFEASIBLE
    return SearchResult(mapping, tuple(decisions), SearchOutcome.BUDGET if ended_early else outcome)
