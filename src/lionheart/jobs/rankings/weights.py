"""Ranking ``weights``: candidates with the most weights come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.search import Problem


@register_ranking("weights")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, tuple[int, int]]:
    """Rank candidates by their number of weights, the most first; ties keep their order in the network."""
    position = {fqn: number for number, fqn in enumerate(context.graph.fqns)}
    return {each.node.fqn: (each.node.weights, -position[each.node.fqn]) for each in candidates}
