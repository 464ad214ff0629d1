"""Ranking ``hessian``: projections with the smallest estimated loss increase per saved cost are tried first.

The loss increase is estimated from the Hessian of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("hessian")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return the negated ratio of the loss increase estimated from the Hessian to the saved cost.

    Candidates are projections (weight matrices) that may become analog. The candidate with the smallest ratio is tried first.
    With the default objective, the saved cost is the number of MACs moved to tiles. The published method HILAL divides the loss
    increase by the number of weights instead, and clusters the projections.
    """
    rises = problem.expected_loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
