"""Ranking: smallest expected loss increase per saving first, from the Hessian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("hessian")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Rank by the loss increase estimated from the Hessian, per MAC or per unit of the objective; the smallest comes first.

    HILAL divides by the number of weights and clusters the projections. Here the bound limits the loss increase and the search
    maximises MACs on tiles, so candidates are ordered by loss increase per MAC.
    """
    rises = problem.expected_loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
