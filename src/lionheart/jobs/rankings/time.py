"""Ranking: largest saving of time first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking, savings
from lionheart.search import Problem


@register_ranking("time")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Rank by the time [s] that each candidate alone on tiles saves on the first platform; negative savings come last."""
    return savings(context, candidates, "time")
