"""Baseline strategy from the literature: all projections analog except the first and the last."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy
from lionheart.search.strategies.all_analog import map_at_once


@register_strategy("first-last-digital")
def search(loop: SearchLoop) -> None:
    """Map all candidates except the network's first and last projection to tiles, and retrain once.

    Candidates are projections that may become analog. The mapping is accepted whatever its accuracy drop. If the candidates do
    not all fit on the tiles, those with the largest gain (saved cost) per tile are mapped.
    """
    names = list(loop.start.placements)
    chosen = [each for each in loop.candidates if each.node.fqn not in (names[0], names[-1])]
    map_at_once(loop, chosen, "all but first and last")
