"""Baseline: every projection digital."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy


@register_strategy("all-digital")
def search(loop: SearchLoop) -> None:
    """Leave every projection digital; no decision is made."""
