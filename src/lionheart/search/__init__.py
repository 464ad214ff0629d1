"""Search: strategies that decide which candidates go analog.

Takes ranked candidates, a bound, an `Objective` that prices mappings and counts tiles, and a `Problem` that can try a mapping
and keep or undo the trial. Returns a `SearchResult` with the mapping and every decision. Must not know: how a trial trains or
evaluates, platforms, physics.
"""

from lionheart.search.objective import Objective, count_digital
from lionheart.search.problem import Decision, Problem, SearchOutcome, SearchResult, Trial
from lionheart.search.registry import STRATEGIES, check_candidates, find_strategy
from lionheart.search.sensitivity_order import order_by_sensitivity
from lionheart.search.spec import ParetoSpec, SearchSpec
from lionheart.search.strategies.exhaustive import search_exhaustively
from lionheart.search.strategies.greedy import search_greedily
from lionheart.search.strategies.shared import search_by_hessian, search_with_shared_training, search_without_training

__all__ = [
    "STRATEGIES",
    "Decision",
    "Objective",
    "ParetoSpec",
    "Problem",
    "SearchOutcome",
    "SearchResult",
    "SearchSpec",
    "Trial",
    "check_candidates",
    "count_digital",
    "find_strategy",
    "order_by_sensitivity",
    "search_by_hessian",
    "search_exhaustively",
    "search_greedily",
    "search_with_shared_training",
    "search_without_training",
]
