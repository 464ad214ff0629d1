"""Search over sets of candidates in the order of sensitivity: prefixes, single moves, and retraining several together."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import with_analog
from lionheart.search.sensitivity_order import PrefixSets

_MAX_FAILURES = 2  # rejected moves in one refinement
_LEAST_GAIN, _LEAST_CHANCE = 1e-3, 0.2  # share of the largest possible gain; probability of being within the bound


def take_prefix(loop: SearchLoop, sets: PrefixSets) -> float:
    """Find how many candidates, in their order, can be analog with the current weights.

    The search assumes that the drop grows with the sum of loss increases. The next prefix to evaluate is the one at which a
    line through the nearest known drops on both sides meets the bound. If the line has halved the open interval in neither of
    the last two steps, the middle of the interval is evaluated instead.

    Returns:
        The smallest sum of loss increases that was beyond the bound; infinite if none was.
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
    """Return the largest number strictly between `low` and `high` with an expected drop within the bound, else `low + 1`."""
    begin, end = (low, high) if high in drops else (0, low)
    slope = (drops[end] - drops[begin]) / (sums[end] - sums[begin]) if sums[end] > sums[begin] else 0.0
    if slope <= 0:  # no drop is known yet, or the noise of the evaluation exceeds the drop
        return (low + high + 1) // 2 if high < len(sums) or low == 0 else high - 1
    most = sums[low] + (max_drop_pp - drops[low]) / slope
    return max((number for number in range(low + 1, high) if sums[number] <= most), default=low + 1)


def refine(loop: SearchLoop, sets: PrefixSets, too_much: float) -> None:
    """Add one candidate, or exchange one for another with a larger gain, without retraining, until no move is accepted.

    The assumed probability of being within the bound falls linearly from 1 to 0 between the sum of loss increases that was
    within the bound and the one that was beyond it. The move with the largest product of gain and probability is tried first.
    Moves with a gain below `_LEAST_GAIN` or a probability below `_LEAST_CHANCE` are not tried.
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
    """Return the candidates after the move with the largest expected gain, the label of the move, and its MACs; or None."""
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
    """Return the assumed probability that a sum of loss increases is within the bound (linear between the two known sums)."""
    if total >= too_much:
        return 0.0
    return 1.0 if total <= enough or math.isinf(too_much) else (too_much - total) / (too_much - enough)


def _moves(
    loop: SearchLoop, present: Sequence[Candidate], left: Sequence[Candidate]
) -> Iterator[tuple[Candidate, Candidate | None, float]]:
    """Yield each move that fits: the candidate to add, the candidate to remove (None = none), and the cost saved."""
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
    """Retrain with all remaining candidates analog, then with half of them, and so on, until a mapping is accepted."""
    left = sets.left()
    number = len(left)
    while number and loop.can_go_on():
        if train_with(loop, sets, left[:number]):
            return
        number //= 2


def train_with(loop: SearchLoop, sets: PrefixSets, extra: Sequence[Candidate]) -> bool:
    """Retrain with the candidates `extra` analog too; commit the largest prefix of them within the bound, if any."""
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
