"""Baseline strategy: all projections digital."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy


@register_strategy("all-digital", retrains=False)
def search(loop: SearchLoop) -> None:
    """Leave all projections digital; make no decision."""
