"""Search with few retrainings: the network is retrained with several additional analog projections at once."""

from __future__ import annotations

import math

from lionheart.search.loop import SearchLoop
from lionheart.search.prefix_search import refine, take_prefix, train_together
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import PrefixSets

_MAX_ROUNDS = 3


@register_strategy("shared", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Find a mapping of low cost within the bound on the accuracy drop, with few retrainings.

    1. For each candidate (projection that may become analog), measure the loss increase with only this candidate analog,
       without retraining. Order the candidates by the loss increase per saved cost: per MAC or weight moved to tiles, or per
       joule or second saved.
    2. Find how many of the first candidates can be analog without retraining. If the first candidates do not all fit on the
       tiles, those with the largest gain (saved cost) per tile are selected.
    3. Refine the mapping without retraining: add a candidate, or exchange a candidate for one with a larger gain. A set of
       candidates is not tried if its sum of loss increases reaches the sum of a set that was found beyond the bound.
    4. Retrain with all candidates analog. If the drop is beyond the bound, find by bisection how many of the added candidates
       can be analog with the retrained weights. If none can, add only half of them and retrain, and so on.
    5. Repeat steps 3 and 4 as long as the cost decreases, with at most three rounds of retraining.
    """
    search_in_rounds(loop, _MAX_ROUNDS)


def search_in_rounds(loop: SearchLoop, max_rounds: int) -> None:
    """Run the strategy ``shared`` with at most `max_rounds` rounds of retraining; 0 = without retraining."""
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
