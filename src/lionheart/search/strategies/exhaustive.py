"""Exhaustive search without retraining, an upper limit for small networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import with_analog
from lionheart.search.registry import register_strategy

_MAX_CANDIDATES = 12  # 4,095 mappings


@register_strategy("exhaustive", early_stop=True, max_candidates=_MAX_CANDIDATES)
def search(loop: SearchLoop) -> None:
    """Try all mappings in increasing order of cost (by default the most analog MACs first) and accept the first within bound.

    The network is not retrained. Among mappings of equal cost, the one with the fewest analog projections comes first. Mappings
    that need too many tiles, or that hold a projection that costs more on tiles than on the core, are skipped. Every mapping
    is evaluated on its own chips, so among many mappings slightly beyond the bound one may pass by chance. The final results
    come from other chips.
    """
    for chosen in _subsets(loop):
        if not loop.can_go_on():
            break
        label = f"{len(chosen)} of {len(loop.candidates)}, not retrained"
        if loop.attempt(with_analog(loop.start, chosen), label, macs=_macs(chosen), retrain=False):
            break


def _subsets(loop: SearchLoop) -> list[tuple[Candidate, ...]]:
    """Return all non-empty sets of candidates that fit and are profitable, in increasing order of cost."""
    objective, cost_with = loop.objective, loop.objective.price(loop.start)
    sizes = range(1, len(loop.candidates) + 1)
    costs = []
    for chosen in (each for size in sizes for each in itertools.combinations(loop.candidates, size)):
        fqns = [each.node.fqn for each in chosen]
        if objective.fits(fqns):
            costs.append((cost_with(*fqns), chosen))
    costs.sort(key=lambda pair: pair[0])
    return [chosen for _, chosen in costs if _is_profitable(loop, chosen)]


def _is_profitable(loop: SearchLoop, chosen: Sequence[Candidate]) -> bool:
    mapping = with_analog(loop.start, chosen)
    return loop.objective.drop_unprofitable(mapping) is mapping


def _macs(chosen: Sequence[Candidate]) -> int:
    return sum(each.node.macs for each in chosen)
