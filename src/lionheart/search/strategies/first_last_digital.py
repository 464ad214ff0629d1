"""Baseline from the literature: every projection analog except the first and the last."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy
from lionheart.search.strategies.all_analog import map_at_once


@register_strategy("first-last-digital")
def search(loop: SearchLoop) -> None:
    """Turn all candidates but the first and last projection analog, retrain once, accept the mapping whatever its drop."""
    names = list(loop.start.placements)
    chosen = [each for each in loop.candidates if each.node.fqn not in (names[0], names[-1])]
    map_at_once(loop, chosen, "all but first and last")
