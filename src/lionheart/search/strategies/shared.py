"""A search with a few retrainings shared by several candidates, and none if none is needed."""

from __future__ import annotations

import math

from lionheart.search.loop import SearchLoop
from lionheart.search.prefix_search import refine, take_prefix, train_together
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import PrefixSets

_MAX_ROUNDS = 3


@register_strategy("shared", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Find a mapping of low cost within the bound with few retrainings.

    1. Measure the loss increase with each candidate alone analog, without retraining. Order the candidates by the loss
       increase per MAC moved to tiles, or per joule or second saved, depending on the objective.
    2. Find how many candidates can be analog without retraining; the drops measured so far determine the next prefix. If
       the candidates do not all fit on the tiles, those with the largest gain per tile are taken.
    3. Refine without retraining: add a candidate, or exchange one for another with a larger gain, unless the sum of loss
       increases already exceeds a sum that was beyond the bound.
    4. Retrain with all remaining candidates analog too. If the drop is beyond the bound, find by bisection how many of them
       can be analog with these weights, and accept weights and mapping if that is more than before. Otherwise retrain with
       half of them, and so on. Continue at step 3 as long as the mapping grows.
    """
    search_in_rounds(loop, _MAX_ROUNDS)


def search_in_rounds(loop: SearchLoop, max_rounds: int) -> None:
    """Search as ``shared`` does, with at most `max_rounds` rounds of retraining."""
    if not loop.candidates or not loop.can_go_on():
        return
    sets = PrefixSets(loop, loop.loss_increase())
    too_much = take_prefix(loop, sets)
    refine(loop, sets, too_much)
    for _ in range(max_rounds):
        cost = loop.objective.cost(loop.mapping)
        if not sets.left() or not loop.can_go_on():
            break
        train_together(loop, sets)
        if loop.objective.cost(loop.mapping) == cost:
            break
        refine(loop, sets, math.inf)
