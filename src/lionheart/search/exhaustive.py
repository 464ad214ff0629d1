"""The ceiling of what a search without retraining can find, for small networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.baselines import with_analog
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import check_candidates, register_strategy
from lionheart.search.steps import Steps

_MAX_CANDIDATES = 12  # 4,095 mappings


@register_strategy("exhaustive", max_candidates=_MAX_CANDIDATES)
def search_exhaustively(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Walk all mappings from the most analog MACs to the least, without retraining, and keep the first within the bound.

    Of mappings with equal MACs, that with fewer analog projections comes first. Every mapping is measured on chips of its own,
    so among many that are slightly beyond the bound a lucky one may pass; the final figures come from other chips.

    Raises:
        ConfigError: There are more than 12 candidates.
    """
    check_candidates("exhaustive", candidates)
    steps = Steps(problem, start, max_drop_pp=max_drop_pp, hasty=True)
    for chosen in _subsets(candidates):
        if not steps.can_go_on():
            break
        label = f"{len(chosen)} of {len(candidates)}, not retrained"
        if steps.attempt(with_analog(start, chosen), label, macs=_macs(chosen), retrain=False):
            break
    return steps.result()


def _subsets(candidates: Sequence[Candidate]) -> list[tuple[Candidate, ...]]:
    """Return all sets of candidates but the empty one, the most MACs first."""
    sizes = range(1, len(candidates) + 1)
    subsets = [each for size in sizes for each in itertools.combinations(candidates, size)]
    return sorted(subsets, key=lambda chosen: -_macs(chosen))


def _macs(chosen: Sequence[Candidate]) -> int:
    return sum(each.node.macs for each in chosen)
