"""Ranking ``energy``: projections (weight matrices) that save the most energy on tiles are tried first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking, savings
from lionheart.search import Problem


@register_ranking("energy")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """For each candidate, return the energy saved per inference [J] if only this candidate runs on tiles.

    Candidates are projections (weight matrices) that may become analog. The candidate that saves the most energy is tried
    first. The energy is estimated for the first platform in the settings.
    """
    return savings(context, candidates, "energy")
