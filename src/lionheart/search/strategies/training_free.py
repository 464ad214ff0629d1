"""The strategy ``training-free``: the same search as in the strategy ``shared``, but without retraining."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy
from lionheart.search.strategies.shared import search_in_rounds


@register_strategy("training-free", early_stop=True, retrains=False)
def search(loop: SearchLoop) -> None:
    """Run the search of the strategy ``shared`` without its retraining steps; the network keeps its weights."""
    search_in_rounds(loop, 0)
