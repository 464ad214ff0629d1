"""Ranking ``weights``: projections (weight matrices) with the most weights are tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.search import Problem


@register_ranking("weights")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, tuple[int, int]]:
    """For each candidate, return its number of weights and its negated position in the network.

    Candidates are projections (weight matrices) that may become analog. The candidate with the most weights is tried first.
    Candidates with equally many weights are tried in network order.
    """
    position = {fqn: number for number, fqn in enumerate(context.graph.fqns)}
    return {each.node.fqn: (each.node.weights, -position[each.node.fqn]) for each in candidates}
