"""A baseline, usual in the literature: everything analog but the first and the last projection."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy
from lionheart.search.strategies.all_analog import map_at_once


@register_strategy("first-last-digital")
def search(loop: SearchLoop) -> None:
    """Turn everything that fits analog but the first and last projection, retrain once, and keep it whatever it costs."""
    names = list(loop.start.placements)
    chosen = [each for each in loop.candidates if each.node.fqn not in (names[0], names[-1])]
    map_at_once(loop, chosen, "all but first and last")
