"""A search that orders candidates by the Hessian instead of measured sensitivities and retrains once."""

from __future__ import annotations

from lionheart.search.loop import SearchLoop
from lionheart.search.prefix_search import take_prefix, train_with
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import PrefixSets


@register_strategy("hessian", early_stop=True)
def search(loop: SearchLoop) -> None:
    """Order the candidates by the Hessian and find how many can be analog, first without and then with one retraining.

    1. Estimate from the Hessian the loss increase with each candidate alone analog. Order the candidates by the loss increase
       per MAC moved to tiles, or per unit of the objective.
    2. Find how many candidates can be analog without retraining.
    3. Retrain once with all candidates analog. Find by bisection how many can be analog with these weights. Accept weights and
       mapping if that is more than before.

    HILAL instead finds the robust layers by clustering, has no accuracy bound, and retrains after each layer. The closest
    equivalent with one retraining per layer is ``lionheart`` with the ranking ``hessian``.

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
