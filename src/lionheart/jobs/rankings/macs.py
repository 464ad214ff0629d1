"""Ranking ``macs``: projections (weight matrices) with the most multiply-accumulates are tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking
from lionheart.search import Problem


@register_ranking("macs")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return its number of MACs (multiply-accumulates) of one inference.

    Candidates are projections (weight matrices) that may become analog. The candidate with the most MACs is tried first.
    Candidates with equal MACs are tried in the order in which the network contains them.
    """
    return {each.node.fqn: each.node.macs for each in candidates}
