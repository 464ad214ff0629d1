"""Steps of a search that tries projections in the order of sensitivity (loss increase per saved cost).

The steps are: find how many of the first projections can be analog, add or exchange single projections, and retrain the network
with several additional analog projections at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import with_analog
from lionheart.search.sensitivity_order import PrefixSets

_MAX_FAILURES = 2  # rejected moves in one refinement
_LEAST_GAIN, _LEAST_CHANCE = 1e-3, 0.2  # fraction of the largest possible gain; probability of being within the bound


def take_prefix(loop: SearchLoop, sets: PrefixSets) -> float:
    """Find the largest prefix set with an accuracy drop within the bound, without retraining, and keep this set analog.

    A prefix set contains the first projections in the order of sensitivity. The accuracy drop is assumed to grow with the sum
    of the projections' loss increases. The search narrows the interval between the largest set known to be within the bound and
    the smallest set known to be beyond the bound. In each step, a straight line through two known drops predicts the next set
    to evaluate. If two consecutive steps have not halved the interval, the middle of the interval is evaluated instead.

    Args:
        loop: Loop of the search.
        sets: Projections that may become analog, in the order of sensitivity, and the prefix sets to search.

    Returns:
        Sum of the loss increases of the projections in the smallest set found beyond the bound; infinite if no set was found
        beyond the bound.
    """
    sums = sets.sums
    drops = {0: 0.0}
    low, high, n_slow = 0, len(sums), 0
    while high - low > 1 and loop.can_go_on():
        number = (low + high) // 2
        if n_slow < 2:
            number = _where_bound_is_met(sums, drops, low, high, loop.max_drop_pp)
        chosen = sets.sets[number]
        kept = loop.attempt(
            with_analog(loop.start, chosen),
            sets.label(number),
            macs=sum(each.node.macs for each in chosen),
            retrain=False,
            note=sets.note(number),
        )
        drops[number] = loop.last_drop_ucb_pp
        width = high - low
        low, high = (number, high) if kept else (low, number)
        n_slow = 0 if 2 * (high - low) <= width + 1 else n_slow + 1
    return sums[high] if high < len(sums) else math.inf


def _where_bound_is_met(
    sums: Sequence[float], drops: Mapping[int, float], low: int, high: int, max_drop_pp: float
) -> int:
    """Return the index of the largest prefix set, between `low` and `high`, whose predicted drop is within the bound.

    A prefix set contains the first projections in the order of sensitivity (loss increase per saved cost).

    The prediction is a straight line through two known drops. If no set between `low` and `high` (both exclusive) is predicted
    to be within the bound, the result is ``low + 1``. If the known drops do not increase, no prediction is possible. The result
    is then the index halfway between `low` and `high`, or ``high - 1`` if a set was within the bound and no set was beyond the
    bound.

    Args:
        sums: Sum of the loss increases of each set, in ascending order.
        drops: Accuracy drop of each evaluated set [pp], by the index of the set.
        low: Index of the largest set known to be within the bound.
        high: Index of the smallest set known to be beyond the bound; the number of sets if there is no such set.
        max_drop_pp: Bound on the accuracy drop [pp].
    """
    begin, end = (low, high) if high in drops else (0, low)
    slope = (drops[end] - drops[begin]) / (sums[end] - sums[begin]) if sums[end] > sums[begin] else 0.0
    if slope <= 0:  # no drop is known yet, or the noise of the evaluation exceeds the drop
        return (low + high + 1) // 2 if high < len(sums) or low == 0 else high - 1
    most = sums[low] + (max_drop_pp - drops[low]) / slope
    return max((number for number in range(low + 1, high) if sums[number] <= most), default=low + 1)


def refine(loop: SearchLoop, sets: PrefixSets, too_much: float) -> None:
    """Improve the mapping without retraining: make projections analog, or exchange analog projections for digital ones.

    Each addition or exchange is called a move. Moves are tried in decreasing order of gain (saved cost) times probability of
    staying within the bound. The probability is assumed to fall linearly with the sum of loss increases, from 1 at the current
    mapping to 0 at `too_much`. Moves with a gain below the fraction `_LEAST_GAIN` of the largest possible gain, or with a
    probability below `_LEAST_CHANCE`, are not tried. The function returns after `_MAX_FAILURES` rejected moves, when no move is
    left, or when the budget is spent.

    Args:
        loop: Loop of the search.
        sets: Projections that may become analog, in the order of sensitivity (loss increase per saved cost).
        too_much: Smallest sum of loss increases known to be beyond the bound; infinite = none known.
    """
    tried, failures = {frozenset(loop.mapping.analog)}, 0
    while failures < _MAX_FAILURES:
        move = _best_move(loop, sets, tried, too_much)
        if move is None or not loop.can_go_on():
            return
        chosen, label, macs = move
        tried.add(frozenset(each.node.fqn for each in chosen))
        mapping = loop.objective.drop_unprofitable(with_analog(loop.start, chosen))
        if len(mapping.analog) < len(chosen) and frozenset(mapping.analog) in tried:
            continue
        tried.add(frozenset(mapping.analog))
        note = loop.objective.note([each.node.fqn for each in chosen], mapping)
        if not loop.attempt(mapping, label, macs=macs, retrain=False, note=note):
            failures += 1
            too_much = min(too_much, sets.sum_of_rises(chosen))


def _best_move(
    loop: SearchLoop, sets: PrefixSets, tried: Collection[frozenset[str]], too_much: float
) -> tuple[list[Candidate], str, int] | None:
    """Find the addition or exchange with the largest expected gain among those that were not tried yet.

    The expected gain is the saved cost times the assumed probability that the new mapping is within the bound.

    Args:
        loop: Loop of the search.
        sets: Projections that may become analog, in the order of sensitivity (loss increase per saved cost).
        tried: Sets of analog projections that were already tried, each given by the names of the projections.
        too_much: Smallest sum of loss increases known to be beyond the bound; infinite = none known.

    Returns:
        The analog projections after the move, the label of the decision, and the number of MACs moved to tiles; None if no move
        is worth trying.
    """
    present = [each for each in sets.order if loop.mapping.is_analog(each.node.fqn)]
    enough, least = sets.sum_of_rises(present), _LEAST_GAIN * sets.most
    best: tuple[float, list[Candidate], Candidate, Candidate | None] | None = None
    for new, old, gain in _moves(loop, present, sets.left()):
        if gain < least or (best is not None and gain <= best[0]):
            continue  # the gain is too small at any probability
        chosen = [*(each for each in present if each is not old), new]
        chance = _chance(sets.sum_of_rises(chosen), enough, too_much)
        known = frozenset(each.node.fqn for each in chosen) in tried
        if known or chance < _LEAST_CHANCE or (best is not None and gain * chance <= best[0]):
            continue
        best = gain * chance, chosen, new, old
    if best is None:
        return None
    _, chosen, new, old = best
    if old is None:
        return chosen, f"{new.node.fqn}, not retrained", new.node.macs
    return chosen, f"{new.node.fqn} for {old.node.fqn}, not retrained", new.node.macs - old.node.macs


def _chance(total: float, enough: float, too_much: float) -> float:
    """Return the assumed probability that the accuracy drop of a set of analog projections is within the bound.

    The probability is linear between two sums of loss increases.

    Args:
        total: Sum of the loss increases of the projections in the set.
        enough: Sum known to be within the bound. Up to this sum, the probability is 1.
        too_much: Sum known to be beyond the bound. From this sum on, the probability is 0. Infinite = none known.
    """
    if total >= too_much:
        return 0.0
    return 1.0 if total <= enough or math.isinf(too_much) else (too_much - total) / (too_much - enough)


def _moves(
    loop: SearchLoop, present: Sequence[Candidate], left: Sequence[Candidate]
) -> Iterator[tuple[Candidate, Candidate | None, float]]:
    """Yield each possible move: the projection to make analog, the projection to make digital or None, and the saved cost.

    Moves that need more tiles than available are left out.

    Args:
        loop: Loop of the search.
        present: Projections that are analog in the current mapping.
        left: Projections that may become analog and are digital in the current mapping.
    """
    objective, cost_with = loop.objective, loop.objective.price(loop.mapping)
    cost, free = cost_with(), math.inf
    if objective.max_tiles is not None:
        free = objective.max_tiles - objective.count_tiles(loop.mapping.analog)
    for new in left:
        if new.partition.n_tiles <= free:
            yield new, None, cost - cost_with(new.node.fqn)
        for old in present:
            if new.partition.n_tiles - old.partition.n_tiles <= free:
                yield new, old, cost - cost_with(new.node.fqn, old.node.fqn)


def train_together(loop: SearchLoop, sets: PrefixSets) -> None:
    """Retrain with all candidates analog. If no mapping is accepted, retrain with half of the added candidates, and so on.

    Candidates are projections that may become analog. Candidates that are still digital are added in the order of sensitivity
    (loss increase per saved cost). The number of added candidates is halved until a mapping is accepted, the number is 0, or
    the budget is spent.
    """
    left = sets.left()
    number = len(left)
    while number and loop.can_go_on():
        if train_with(loop, sets, left[:number]):
            return
        number //= 2


def train_with(loop: SearchLoop, sets: PrefixSets, extra: Sequence[Candidate]) -> bool:
    """Retrain once with the projections `extra` analog too, and return whether a mapping was accepted.

    If the accuracy drop is beyond the bound, mappings with fewer projections of `extra` are evaluated with the retrained
    weights.
    """
    better = sets.grow(extra)
    if not better:
        return False
    largest = better[-1]
    added = [each for each in sets.order if largest.is_analog(each.node.fqn) > loop.mapping.is_analog(each.node.fqn)]
    return loop.attempt(
        largest,
        f"{len(added)} more of {len(sets.order)}, retrained together",
        macs=sum(each.node.macs for each in added),
        smaller=better[:-1],
        note=loop.objective.note([each.node.fqn for each in extra], largest),
    )
