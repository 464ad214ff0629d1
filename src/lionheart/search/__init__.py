"""Search: strategies that decide which candidates go analog.

Takes ranked candidates, a bound, an `Objective` that prices mappings and counts tiles, and a `Problem` that can try a mapping
and keep or undo the trial. Returns a `SearchResult` with the mapping and every decision. Must not know: how a trial trains or
evaluates, platforms, physics.
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
