"""Search that chooses a level for each projection: the digital core, or tiles with one of several read policies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

from lionheart.mapping import LayerMapping
from lionheart.search.levels import LevelPlans, LevelShrink
from lionheart.search.loop import SearchLoop
from lionheart.search.registry import register_strategy

_MAX_TRIALS = 8  # evaluations of each search for the largest sum of sensitivities within the bound
_TARGET = 0.9  # share of the bound at which a step is directed, because drops are estimates
_LEAST_DROP = (
    0.3  # share of the bound that the drop of an accepted mapping is at least taken to be, for smaller mappings
)
_CLOSE = 0.05  # relative distance of the limits on the sum at which a search ends
_LEAST_STEP = 0.1  # smallest share of the distance of the limits by which a step narrows it
_STEPS = 6  # mappings between the accepted one and the retrained one that are tried with the retrained weights


@register_strategy("levels", early_stop=True, chooses_levels=True)
def search(loop: SearchLoop) -> None:
    """Find the mapping of least cost within the bound, with a read policy for each projection and at most one retraining.

    1. For each candidate and each read policy in ``search.levels``, measure the loss increase with only this candidate analog.
    2. For a limit on the sum of these sensitivities, an integer program chooses the digital core or a read policy for each
       projection, at the least cost; among mappings of equal cost, the one with the fewest reads is taken. The largest limit
       whose mapping is within the bound is found by measuring the mappings. The drop is assumed to grow with the sum.
    3. If a projection is left digital, retrain once with all of them analog at their least sensitive policies. If the drop is
       beyond the bound, mappings with smaller sums are tried with the retrained weights.
    4. Repeat step 2 with the retrained weights.
    """
    plans = prepare_plans(loop)
    if plans is None:
        return
    find_largest_sum(loop, plans)
    everything = plans.find(math.inf if plans.least_sum == 0 else plans.least_sum)
    if loop.objective.cost(loop.mapping) <= loop.objective.cost(everything) or not loop.can_go_on():
        return
    if _retrain(loop, plans, everything):
        find_largest_sum(loop, plans)


def prepare_plans(loop: SearchLoop) -> LevelPlans | None:
    """Measure the sensitivities, and return the plans of the search; None if there is nothing to search or no budget."""
    if not loop.candidates or not loop.can_go_on():
        return None
    return LevelPlans(loop, loop.level_increases())


@final
@dataclass
class _Known:
    """Sums of sensitivities and drops of the mappings measured so far, and the limits of the search.

    Args:
        low: Largest sum of a mapping within the bound.
        high: Smallest sum of a mapping beyond the bound; infinite = none known.
        drops: Drop by sum.
    """

    low: float = 0.0
    high: float = math.inf
    drops: dict[float, float] = field(default_factory=lambda: {0.0: 0.0})

    def predict(self, max_drop: float) -> float:
        """Return the sum at which the drop is predicted to be the share `_TARGET` of the bound, between the limits."""
        known = self.high if self.high in self.drops else self.low
        slope = self.drops[known] / known if known > 0 else 0.0
        target = _TARGET * max_drop / slope if slope > 0 else 2 * self.low
        if math.isinf(self.high):
            return max(target, self.low * (1 + _CLOSE))
        width = self.high - self.low
        return min(max(target, self.low + _LEAST_STEP * width), self.high - _LEAST_STEP * width)


def find_largest_sum(loop: SearchLoop, plans: LevelPlans) -> None:
    """Measure mappings for several limits on the sum of sensitivities, and keep the one with the largest sum in the bound.

    The first mapping has every candidate analog at its least sensitive policy. Each next limit follows from a straight line
    through the drops that were measured.
    """
    known, limit = _Known(), plans.least_sum
    tried: set[tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = set()
    for _ in range(_MAX_TRIALS):
        mapping = plans.find(limit)
        total = plans.sum_of(mapping)
        key = mapping.analog, tuple((fqn, str(policy)) for fqn, policy in mapping.policies.items())
        if key in tried or not mapping.analog or not loop.can_go_on():
            return
        tried.add(key)
        if _attempt(loop, mapping):
            known.low = max(known.low, total)
            least = _LEAST_DROP * loop.max_drop_pp
            loop.shrink = LevelShrink(plans, max(loop.last_drop_ucb_pp, least) / total) if total > 0 else None
        else:
            known.high = min(known.high, total)
        known.drops[total] = max(loop.last_drop_ucb_pp, 0.0)
        is_close = math.isfinite(known.high) and known.high - known.low <= _CLOSE * known.high
        if is_close or known.low >= plans.largest_sum:
            return
        limit = known.predict(loop.max_drop_pp)


def _attempt(loop: SearchLoop, mapping: LayerMapping) -> bool:
    fqns = [each.node.fqn for each in loop.candidates]
    return loop.attempt(
        mapping,
        f"{describe_levels(mapping)}, not retrained",
        macs=sum(each.node.macs for each in loop.candidates if mapping.is_analog(each.node.fqn)),
        retrain=False,
        note=loop.objective.note(fqns, mapping) if not loop.objective.is_plain else "",
    )


def _retrain(loop: SearchLoop, plans: LevelPlans, everything: LayerMapping) -> bool:
    """Retrain once with the mapping `everything`, and return whether it or a mapping with a smaller sum was accepted."""
    least = max(plans.sum_of(loop.mapping), plans.least_sum * 1e-3)
    most = plans.sum_of(everything)
    smaller: list[LayerMapping] = []
    for number in range(1, _STEPS):
        mapping = plans.find(least * (most / least) ** (number / _STEPS)) if most > least else everything
        if loop.objective.cost(mapping) < loop.objective.cost(smaller[-1] if smaller else loop.mapping):
            smaller.append(mapping)
    return loop.attempt(
        everything,
        f"{describe_levels(everything)}, retrained",
        macs=sum(each.node.macs for each in loop.candidates if everything.is_analog(each.node.fqn)),
        smaller=smaller,
    )


def describe_levels(mapping: LayerMapping) -> str:
    """Return how many projections of a mapping are analog, and how many of them have a read policy of their own."""
    n_own = len(mapping.policies)
    own = f", {n_own} with a read policy" if n_own else ""
    return f"{len(mapping.analog)} analog{own}"
