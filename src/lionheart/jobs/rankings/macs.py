"""Ranking: most MACs first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.search import Problem


@register_ranking("macs")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Rank by MACs, the most first; ties keep the network's order."""
    return {each.node.fqn: each.node.macs for each in candidates}
