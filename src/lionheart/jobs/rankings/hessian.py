"""Ranking ``hessian``: candidates with the smallest loss increase per saving, estimated from the Hessian, come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("hessian")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Rank candidates by the loss increase estimated from the Hessian per cost saved; the smallest ratio is first.

    With the default objective, the cost saved is the number of MACs moved to tiles. HILAL divides by the number of weights
    instead and clusters the projections.
    """
    rises = problem.expected_loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
