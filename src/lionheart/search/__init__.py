"""Search strategies, which select the projections (weight matrices) that run on analog tiles.

A search receives ranked candidates (projections that may become analog), a bound on the accuracy drop, an `Objective` and a
`Problem`. The `Objective` computes the cost of a mapping and the number of tiles that the mapping needs. The `Problem` applies
a mapping to the network, retrains and evaluates the network, and then keeps or reverts the mapping. The search returns a
`SearchResult` with the final mapping and all decisions. This package is independent of training, evaluation, platforms and
device physics.
"""

from lionheart.runs import Decision, SearchOutcome
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import Objective, count_digital
from lionheart.search.problem import Problem, SearchResult, Trial
from lionheart.search.registry import STRATEGIES, Strategy, check_candidates, register_strategy
from lionheart.search.sensitivity_order import order_by_sensitivity
from lionheart.search.shrink import CheapestRelief, Relief, Shrink, share_out
from lionheart.search.spec import ParetoSpec, SearchSpec, Seconds

__all__ = [
    "STRATEGIES",
    "CheapestRelief",
    "Decision",
    "Objective",
    "ParetoSpec",
    "Problem",
    "Relief",
    "SearchLoop",
    "SearchOutcome",
    "SearchResult",
    "SearchSpec",
    "Seconds",
    "Shrink",
    "Strategy",
    "Trial",
    "check_candidates",
    "count_digital",
    "order_by_sensitivity",
    "register_strategy",
    "share_out",
]
