"""Least expected loss for what is saved first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import least_loss_per_gain, register_ranking
from lionheart.search import Problem


@register_ranking("hessian")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Prefer what by the Hessian is expected to raise the loss least for each MAC, or what the objective counts.

    HILAL divides by the number of weights, and clusters. Here MACs are what is wanted and the bound is what they cost, so a
    candidate is worth its MACs for each unit of loss.
    """
    rises = problem.expected_loss_increase([each.node.fqn for each in candidates])
    return least_loss_per_gain(context, candidates, rises)
