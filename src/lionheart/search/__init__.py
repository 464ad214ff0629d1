"""Search: strategies that decide which candidates go analog.

Comes in: ranked candidates, a bound, and a `Problem` that can try a mapping and keep or undo the trial. Goes out: a
`SearchResult` with the mapping and every decision. Must not know: how a trial trains or evaluates, platforms, physics.
"""

from lionheart.search.exhaustive import search_exhaustively
from lionheart.search.greedy import search_greedily
from lionheart.search.problem import Decision, Problem, SearchOutcome, SearchResult, Trial
from lionheart.search.registry import STRATEGIES, check_candidates, find_strategy
from lionheart.search.shared import search_by_hessian, search_with_shared_training, search_without_training
from lionheart.search.spec import SearchSpec

__all__ = [
    "STRATEGIES",
    "Decision",
    "Problem",
    "SearchOutcome",
    "SearchResult",
    "SearchSpec",
    "Trial",
    "check_candidates",
    "find_strategy",
    "search_by_hessian",
    "search_exhaustively",
    "search_greedily",
    "search_with_shared_training",
    "search_without_training",
]
