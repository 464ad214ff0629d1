"""Few retrainings instead of one for each candidate, and none where none is needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.baselines import with_analog
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import register_strategy
from lionheart.search.steps import Steps

_MAX_ROUNDS = 3
_MAX_FAILURES = 2  # of moves in one refinement
_LEAST_GAIN, _LEAST_CHANCE = 1e-3, 0.2  # of all MACs that a move gains, and of being within the bound


@register_strategy("shared")
def search_with_shared_training(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Find the largest share of the candidates within the bound with few retrainings.

    1. Measure how much the loss rises when each candidate alone is analog, without retraining, and order the candidates by that
       rise for each MAC that it buys.
    2. Find how many of them may be analog without any retraining; drops measured so far say where to measure next.
    3. Refine: with the weights at hand, add a candidate, or exchange one for another with more MACs, where the sum of rises
       does not already say that it is too much.
    4. Retrain with all that are left analog too. Measure, and if that is too much, find by bisection how many of them may be
       analog with these weights; keep weights and mapping if that is more than before. Else retrain with half of them, and so
       on. Then go on at 3 as long as the mapping grows.
    """
    return _search(problem, candidates, start, max_drop_pp, _MAX_ROUNDS)


@register_strategy("training-free")
def search_without_training(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Do as ``shared`` does, without any retraining: the network keeps its weights."""
    return _search(problem, candidates, start, max_drop_pp, 0)


@register_strategy("hessian")
def search_by_hessian(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Order the candidates by the Hessian, and find how many may be analog: first as they are, then with one retraining.

    1. Estimate from the Hessian how much the loss rises when each candidate alone is analog, and order the candidates by that
       rise for each MAC that it buys.
    2. Find how many of them may be analog without any retraining.
    3. Retrain once with all of them analog. Find by bisection how many of them may be analog with these weights; keep weights
       and mapping if that is more than before.

    HILAL finds the robust layers by clustering instead, knows no bound, and retrains after each layer. With a retraining for
    each layer the nearest to it is ``lionheart`` with the ranking ``hessian``.

    Source:
        HILAL (DATE 2026), code github anissbslh/HILAL.
    """
    steps = Steps(problem, start, max_drop_pp=max_drop_pp, hasty=True)
    if not candidates or not steps.can_go_on():
        return steps.result()
    rises = problem.expected_loss_increase([each.node.fqn for each in candidates])
    order = order_by_sensitivity(candidates, rises)
    _take_prefix(steps, order, rises)
    left = _left(steps, order)
    if left and steps.can_go_on():
        _train_with(steps, left, len(order))
    return steps.result()


def order_by_sensitivity(candidates: Sequence[Candidate], rises: Mapping[str, float]) -> list[Candidate]:
    """Return the candidates by how much the loss rises for each MAC that they buy, the least first."""
    return sorted(candidates, key=lambda each: max(rises[each.node.fqn], 0.0) / each.node.macs)


def _search(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    max_drop_pp: float,
    max_rounds: int,
) -> SearchResult:
    steps = Steps(problem, start, max_drop_pp=max_drop_pp, hasty=True)
    if not candidates or not steps.can_go_on():
        return steps.result()
    rises = problem.loss_increase([each.node.fqn for each in candidates])
    order = order_by_sensitivity(candidates, rises)
    too_much = _take_prefix(steps, order, rises)
    _refine(steps, order, rises, too_much)
    for _ in range(max_rounds):
        size = _macs(steps.mapping, order)
        if not _left(steps, order) or not steps.can_go_on():
            break
        _train_together(steps, order)
        if _macs(steps.mapping, order) == size:
            break
        _refine(steps, order, rises, math.inf)
    return steps.result()


def _take_prefix(steps: Steps, order: Sequence[Candidate], rises: Mapping[str, float]) -> float:
    """Find how many of the candidates, in their order, may be analog with the weights as they are.

    The drop is taken to grow with the sum of rises: the next number measured is where a line through the nearest drops known on
    both sides meets the bound; or the middle of what is open, where the line has closed less than half of it twice in a row.

    Returns:
        The smallest sum of rises that was too much; infinite if none was.
    """
    sums = [0.0, *itertools.accumulate(max(rises[each.node.fqn], 0.0) for each in order)]
    drops = {0: 0.0}
    low, high, n_slow = 0, len(order) + 1, 0
    while high - low > 1 and steps.can_go_on():
        number = (low + high) // 2
        if n_slow < 2:
            number = _where_bound_is_met(sums, drops, low, high, steps.max_drop_pp)
        chosen = order[:number]
        label = f"first {number} of {len(order)}, not retrained"
        kept = steps.attempt(
            with_analog(steps.start, chosen), label, macs=sum(each.node.macs for each in chosen), retrain=False
        )
        drops[number] = steps.last_limit_pp
        width = high - low
        low, high = (number, high) if kept else (low, number)
        n_slow = 0 if 2 * (high - low) <= width + 1 else n_slow + 1
    return sums[high] if high < len(sums) else math.inf


def _where_bound_is_met(
    sums: Sequence[float], drops: Mapping[int, float], low: int, high: int, max_drop_pp: float
) -> int:
    """Return the largest number strictly between `low` and `high` whose drop should be within the bound, else the smallest."""
    begin, end = (low, high) if high in drops else (0, low)
    slope = (drops[end] - drops[begin]) / (sums[end] - sums[begin]) if sums[end] > sums[begin] else 0.0
    if slope <= 0:  # nothing is known yet, or chance hides the drop
        return (low + high + 1) // 2 if high < len(sums) or low == 0 else high - 1
    most = sums[low] + (max_drop_pp - drops[low]) / slope
    return max((number for number in range(low + 1, high) if sums[number] <= most), default=low + 1)


def _refine(steps: Steps, order: Sequence[Candidate], rises: Mapping[str, float], too_much: float) -> None:
    """Add a candidate, or exchange one for another with more MACs, with the weights at hand, as long as one is kept.

    Between a sum of rises that was within the bound and one that was too much, the chance of being within the bound is taken to
    fall from 1 to 0. The move that gains most MACs times its chance is tried first; those with little of either are not tried.
    """
    tried, failures = {frozenset(steps.mapping.analog)}, 0
    least = _LEAST_GAIN * sum(each.node.macs for each in order)
    while failures < _MAX_FAILURES:
        present = [each for each in order if steps.mapping.is_analog(each.node.fqn)]
        enough = _sum_of_rises(present, rises)
        best: tuple[float, list[Candidate], str, int] | None = None
        for chosen, label, gain in _moves(present, _left(steps, order)):
            total = _sum_of_rises(chosen, rises)
            chance = _chance(total, enough, too_much)
            known = frozenset(each.node.fqn for each in chosen) in tried
            if known or gain < least or chance < _LEAST_CHANCE or (best is not None and gain * chance <= best[0]):
                continue
            best = gain * chance, chosen, label, gain
        if best is None or not steps.can_go_on():
            return
        _, chosen, label, gain = best
        tried.add(frozenset(each.node.fqn for each in chosen))
        if not steps.attempt(with_analog(steps.start, chosen), label, macs=gain, retrain=False):
            failures += 1
            too_much = min(too_much, _sum_of_rises(chosen, rises))


def _chance(total: float, enough: float, too_much: float) -> float:
    """Return the chance taken for a sum of rises, between one that was within the bound and one that was too much."""
    if total >= too_much:
        return 0.0
    return 1.0 if total <= enough or math.isinf(too_much) else (too_much - total) / (too_much - enough)


def _moves(present: Sequence[Candidate], left: Sequence[Candidate]) -> Iterator[tuple[list[Candidate], str, int]]:
    """Yield the candidates of each mapping one move away that has more MACs, what the move is, and the MACs gained."""
    for new in left:
        yield [*present, new], f"{new.node.fqn}, not retrained", new.node.macs
        for old in present:
            kept = [each for each in present if each is not old]
            label = f"{new.node.fqn} for {old.node.fqn}, not retrained"
            yield [*kept, new], label, new.node.macs - old.node.macs


def _sum_of_rises(chosen: Sequence[Candidate], rises: Mapping[str, float]) -> float:
    return math.fsum(max(rises[each.node.fqn], 0.0) for each in chosen)


def _train_together(steps: Steps, order: Sequence[Candidate]) -> None:
    """Retrain with what is left, or half of it, and so on; keep the largest mapping within the bound, if it has grown."""
    left = _left(steps, order)
    number = len(left)
    while number and steps.can_go_on():
        if _train_with(steps, left[:number], len(order)):
            return
        number //= 2


def _train_with(steps: Steps, chosen: Sequence[Candidate], n_all: int) -> bool:
    """Retrain with more candidates; keep the largest number of them within the bound, in their order, if there is one."""
    smaller = [with_analog(steps.mapping, chosen[:fewer]) for fewer in range(1, len(chosen))]
    label = f"{len(chosen)} more of {n_all}, retrained together"
    macs = sum(each.node.macs for each in chosen)
    return steps.attempt(with_analog(steps.mapping, chosen), label, macs=macs, smaller=smaller)


def _left(steps: Steps, order: Sequence[Candidate]) -> list[Candidate]:
    return [each for each in order if not steps.mapping.is_analog(each.node.fqn)]


def _macs(mapping: LayerMapping, order: Sequence[Candidate]) -> int:
    return sum(each.node.macs for each in order if mapping.is_analog(each.node.fqn))
