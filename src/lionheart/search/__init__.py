"""Search: strategies that decide which candidates go analog.

Comes in: ranked candidates, a bound, an `Objective` that prices mappings and counts tiles, and a `Problem` that can try a
mapping and keep or undo the trial. Goes out: a `SearchResult` with the mapping and every decision. `lionheart.search.pareto`
finds a front of accuracy against cost instead, of mappings that a callable measures; it is imported only where it is used,
because it needs Optuna. Must not know: how a trial trains or evaluates, platforms, physics.
"""

from lionheart.search.exhaustive import search_exhaustively
from lionheart.search.front import MeasuredMapping, best_within, nested_prefixes, non_dominated
from lionheart.search.greedy import search_greedily
from lionheart.search.ladder import order_by_sensitivity
from lionheart.search.objective import Objective, count_digital
from lionheart.search.problem import Decision, Problem, SearchOutcome, SearchResult, Trial
from lionheart.search.registry import STRATEGIES, check_candidates, find_strategy
from lionheart.search.shared import search_by_hessian, search_with_shared_training, search_without_training
from lionheart.search.spec import ParetoSpec, SearchSpec

__all__ = [
    "STRATEGIES",
    "Decision",
    "MeasuredMapping",
    "Objective",
    "ParetoSpec",
    "Problem",
    "SearchOutcome",
    "SearchResult",
    "SearchSpec",
    "Trial",
    "best_within",
    "check_candidates",
    "count_digital",
    "find_strategy",
    "nested_prefixes",
    "non_dominated",
    "order_by_sensitivity",
    "search_by_hessian",
    "search_exhaustively",
    "search_greedily",
    "search_with_shared_training",
    "search_without_training",
]
