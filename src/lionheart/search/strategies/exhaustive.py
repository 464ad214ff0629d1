"""Exhaustive search over all mappings without retraining, for small networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import with_analog
from lionheart.search.registry import register_strategy

_MAX_CANDIDATES = 12  # 4,095 mappings


@register_strategy("exhaustive", early_stop=True, max_candidates=_MAX_CANDIDATES, retrains=False)
def search(loop: SearchLoop) -> None:
    """Try all mappings in increasing order of cost, without retraining, and accept the first mapping within the bound.

    By default the cost is the number of digital MACs, so the mapping with the most analog MACs is tried first. Among mappings
    of equal cost, mappings with fewer analog projections are tried first. A mapping is skipped if it needs too many tiles, or
    if one of its analog projections would not cost more on the digital core. Each mapping is evaluated on its own chips. If
    many mappings are slightly beyond the bound, one of them may therefore be accepted by chance. The final results are measured
    on other chips.
    """
    for chosen in _subsets(loop):
        if not loop.can_go_on():
            break
        label = f"{len(chosen)} of {len(loop.candidates)}, not retrained"
        if loop.attempt(with_analog(loop.start, chosen), label, macs=_macs(chosen), retrain=False):
            break


def _subsets(loop: SearchLoop) -> list[tuple[Candidate, ...]]:
    """Return the sets of projections to try as analog, in increasing order of the cost of their mappings.

    The sets are all non-empty sets that fit on the tiles and in which each projection saves cost.
    """
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
