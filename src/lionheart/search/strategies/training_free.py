"""The strategy ``training-free``, i.e. ``shared`` without retraining."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy
from lionheart.search.strategies.shared import search_in_rounds


@register_strategy("training-free", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Run the strategy ``shared`` without retraining; the network keeps its weights."""
    search_in_rounds(loop, 0)
