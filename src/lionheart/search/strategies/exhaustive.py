"""The ceiling of what a search without retraining can find, for small networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.loop import Steps
from lionheart.search.objective import Objective
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import check_candidates, register_strategy
from lionheart.search.strategies.baselines import with_analog

_MAX_CANDIDATES = 12  # 4,095 mappings


@register_strategy("exhaustive", max_candidates=_MAX_CANDIDATES)
def search_exhaustively(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Walk all mappings from the best (by default the most analog MACs) to the worst and keep the first within the bound.

    Nothing is retrained. Of equally good mappings, that with fewer analog projections comes first. Those that need more tiles
    than there are, and those that hold what costs more on tiles than on the core, are left out. Every mapping is measured on
    chips of its own, so among many slightly beyond the bound a lucky one may pass; the final figures come from other chips.

    Raises:
        ConfigError: There are more than 12 candidates.
    """
    check_candidates("exhaustive", candidates)
    steps = Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective, hasty=True)
    for chosen in _subsets(steps):
        if not steps.can_go_on():
            break
        label = f"{len(chosen)} of {len(candidates)}, not retrained"
        if steps.attempt(with_analog(start, chosen), label, macs=_macs(chosen), retrain=False):
            break
    return steps.result()


def _subsets(steps: Steps) -> list[tuple[Candidate, ...]]:
    """Return all sets of candidates that may be tried but the empty one, the best first."""
    objective, after = steps.objective, steps.objective.price(steps.start)
    sizes = range(1, len(steps.candidates) + 1)
    costs = []
    for chosen in (each for size in sizes for each in itertools.combinations(steps.candidates, size)):
        fqns = [each.node.fqn for each in chosen]
        if objective.fits(fqns):
            costs.append((after(*fqns), chosen))
    costs.sort(key=lambda pair: pair[0])
    return [chosen for _, chosen in costs if _is_lean(steps, chosen)]


def _is_lean(steps: Steps, chosen: Sequence[Candidate]) -> bool:
    mapping = with_analog(steps.start, chosen)
    return steps.objective.lean(mapping) is mapping


def _macs(chosen: Sequence[Candidate]) -> int:
    return sum(each.node.macs for each in chosen)
