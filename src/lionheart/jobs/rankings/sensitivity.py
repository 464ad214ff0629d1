"""Ranking: smallest measured loss increase per saving first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("sensitivity")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Rank by the measured loss increase per MAC or per unit of the objective; a decrease of the loss counts as 0."""
    rises = problem.loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
