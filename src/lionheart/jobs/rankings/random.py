"""Ranking ``random``: projections (weight matrices) are tried in a random order, determined by the seed of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.search import Problem


@register_ranking("random")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return a random number that depends only on the seed of the run and the candidate's name.

    Candidates are projections (weight matrices) that may become analog. The candidate with the largest number is tried first.
    """
    return {each.node.fqn: context.streams.derive_seed("ranking", each.node.fqn) for each in candidates}
