"""Search that orders projections by the loss increase estimated from the Hessian, and retrains at most once."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.prefix_search import take_prefix, train_with
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import PrefixSets


@register_strategy("hessian", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Order candidates by estimated loss increase, and find how many can be analog, without and then with one retraining.

    1. For each candidate (projection that may become analog), estimate from the Hessian the loss increase with only this
       candidate analog. Order the candidates by the loss increase per saved cost (by default per MAC moved to tiles).
    2. Find how many of the first candidates can be analog without retraining.
    3. Retrain once with all candidates analog, and find by bisection how many can be analog with the retrained weights. Keep
       these weights only if the new mapping costs less than the mapping of step 2.

    HILAL differs: it finds robust layers by clustering, has no accuracy bound, and retrains after each layer. The closest
    equivalent is the strategy ``lionheart`` with the ranking ``hessian``, which also retrains after each layer.

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
