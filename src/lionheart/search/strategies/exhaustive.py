"""The ceiling of what a search without retraining can find, for small networks."""

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
    """Walk all mappings from the best (by default the most analog MACs) to the worst and keep the first within the bound.

    Nothing is retrained. Of equally good mappings, that with fewer analog projections comes first. Those that need more tiles
    than there are, and those that hold what costs more on tiles than on the core, are left out. Every mapping is measured on
    chips of its own, so among many slightly beyond the bound a lucky one may pass; the final figures come from other chips.
    """
    for chosen in _subsets(loop):
        if not loop.can_go_on():
            break
        label = f"{len(chosen)} of {len(loop.candidates)}, not retrained"
        if loop.attempt(with_analog(loop.start, chosen), label, macs=_macs(chosen), retrain=False):
            break


def _subsets(loop: SearchLoop) -> list[tuple[Candidate, ...]]:
    """Return all sets of candidates that may be tried but the empty one, the best first."""
    objective, after = loop.objective, loop.objective.price(loop.start)
    sizes = range(1, len(loop.candidates) + 1)
    costs = []
    for chosen in (each for size in sizes for each in itertools.combinations(loop.candidates, size)):
        fqns = [each.node.fqn for each in chosen]
        if objective.fits(fqns):
            costs.append((after(*fqns), chosen))
    costs.sort(key=lambda pair: pair[0])
    return [chosen for _, chosen in costs if _is_profitable(loop, chosen)]


def _is_profitable(loop: SearchLoop, chosen: Sequence[Candidate]) -> bool:
    mapping = with_analog(loop.start, chosen)
    return loop.objective.drop_unprofitable(mapping) is mapping


def _macs(chosen: Sequence[Candidate]) -> int:
    return sum(each.node.macs for each in chosen)
