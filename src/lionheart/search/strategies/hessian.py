"""One retraining, and an order by the Hessian instead of measured sensitivities."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.prefix_search import take_prefix, train_with
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import PrefixSets


@register_strategy("hessian", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Order the candidates by the Hessian, and find how many may be analog: first as they are, then with one retraining.

    1. Estimate from the Hessian how much the loss rises when each candidate alone is analog, and order the candidates by that
       rise for each MAC that it buys, or whatever the objective counts.
    2. Find how many of them may be analog without any retraining.
    3. Retrain once with all of them analog. Find by bisection how many of them may be analog with these weights; keep weights
       and mapping if that is more than before.

    HILAL finds the robust layers by clustering instead, knows no bound, and retrains after each layer. With a retraining for
    each layer the nearest to it is ``lionheart`` with the ranking ``hessian``.

    Source:
        HILAL (DATE 2026), code github anissbslh/HILAL.
    """
    if not loop.candidates or not loop.can_go_on():
        return
    sets = PrefixSets(loop, loop.expected_loss_increase())
    take_prefix(loop, sets)
    left = sets.left()
    if left and loop.can_go_on():
        train_with(loop, sets, left)
