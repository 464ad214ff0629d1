"""Most time saved first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.jobs.context import Context
from lionheart.jobs.ranking import register_ranking, savings
from lionheart.search import Problem


@register_ranking("time")
def rank(context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, float]:
    """Prefer what alone on tiles saves the most time on the first platform; what would cost time comes last."""
    return savings(context, candidates, "time")
