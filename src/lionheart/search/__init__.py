"""Search strategies that select which candidate projections run on analog tiles.

Inputs: ranked candidates, a bound on the accuracy drop, an `Objective` that computes the cost and the tiles of a mapping, and
a `Problem` that can apply a mapping and commit it or roll it back. Output: a `SearchResult` with the mapping and every
decision. This package must not know how a mapping is trained or evaluated, and it knows neither platforms nor device physics.
"""

from lionheart.runs import Decision, SearchOutcome
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import Objective, count_digital
from lionheart.search.problem import Problem, SearchResult, Trial
from lionheart.search.registry import STRATEGIES, Strategy, check_candidates, register_strategy
from lionheart.search.sensitivity_order import order_by_sensitivity
from lionheart.search.spec import ParetoSpec, SearchSpec, Seconds

__all__ = [
    "STRATEGIES",
    "Decision",
    "Objective",
    "ParetoSpec",
    "Problem",
    "SearchLoop",
    "SearchOutcome",
    "SearchResult",
    "SearchSpec",
    "Seconds",
    "Strategy",
    "Trial",
    "check_candidates",
    "count_digital",
    "order_by_sensitivity",
    "register_strategy",
]
