"""Ranking: a random order drawn from the run's seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.search import Problem


@register_ranking("random")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Draw one number for each name from the run's seed; the order of two candidates is independent of the others."""
    return {each.node.fqn: context.streams.derive_seed("ranking", each.node.fqn) for each in candidates}
