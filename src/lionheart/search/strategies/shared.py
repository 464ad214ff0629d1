"""Few retrainings instead of one for each candidate, and none where none is needed."""

from __future__ import annotations

import math

from lionheart.search.loop import SearchLoop
from lionheart.search.prefix_search import refine, take_prefix, train_together
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import PrefixSets

_MAX_ROUNDS = 3


@register_strategy("shared", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Find the best mapping of the candidates within the bound with few retrainings.

    1. Measure how much the loss rises when each candidate alone is analog, without retraining, and order the candidates by that
       rise for each MAC that it buys, or joule or second that it saves, whatever the objective counts.
    2. Find how many of them may be analog without any retraining; drops measured so far say where to measure next. Where
       they do not all fit on the tiles, those that gain most for each tile are taken.
    3. Refine: with the weights at hand, add a candidate, or exchange one for another that gains more, where the sum of rises
       does not already say that it is too much.
    4. Retrain with all that are left analog too. Measure, and if that is too much, find by bisection how many of them may be
       analog with these weights; keep weights and mapping if that is more than before. Else retrain with half of them, and so
       on. Then go on at 3 as long as the mapping grows.
    """
    search_in_rounds(loop, _MAX_ROUNDS)


def search_in_rounds(loop: SearchLoop, max_rounds: int) -> None:
    """Search as ``shared`` does, with so many rounds of retraining at most."""
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
