"""Ranking ``sensitivity``: projections with the smallest measured loss increase per saved cost are tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("sensitivity")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return the negated ratio of the measured loss increase to the saved cost.

    Candidates are projections (weight matrices) that may become analog. The candidate with the smallest ratio is tried first. A
    decrease of the loss counts as 0. With the default objective, the saved cost is the number of MACs moved to tiles.
    """
    rises = problem.loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
