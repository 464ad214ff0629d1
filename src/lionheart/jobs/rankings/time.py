"""Ranking ``time``: projections (weight matrices) that save the most time on tiles are tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking, savings
from lionheart.search import Problem


@register_ranking("time")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return the time saved per inference [s] if only this candidate runs on tiles.

    Candidates are projections (weight matrices) that may become analog. The candidate that saves the most time is tried
    first. The time is estimated for the first platform in the settings.
    """
    return savings(context, candidates, "time")
