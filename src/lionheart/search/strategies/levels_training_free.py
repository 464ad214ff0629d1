"""The strategy ``levels-training-free``: the same search as in the strategy ``levels``, but without retraining."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy
from lionheart.search.strategies.levels import find_largest_sum, prepare_plans


@register_strategy("levels-training-free", early_stop=True, retrains=False, chooses_levels=True)
def search(loop: SearchLoop) -> None:
    """Run the search of the strategy ``levels`` without its retraining; the network keeps its weights."""
    plans = prepare_plans(loop)
    if plans is not None:
        find_largest_sum(loop, plans)
