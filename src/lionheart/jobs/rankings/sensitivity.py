"""Least measured loss for what is saved first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("sensitivity")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Prefer what raises the measured loss least for each MAC, or what the objective counts; what lowers it is no rise."""
    rises = problem.loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
