"""Few retrainings instead of one for each candidate, and none where none is needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.loop import Steps
from lionheart.search.objective import Objective
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import register_strategy
from lionheart.search.sensitivity_order import Ladder
from lionheart.search.strategies.baselines import with_analog

_MAX_ROUNDS = 3
_MAX_FAILURES = 2  # of moves in one refinement
_LEAST_GAIN, _LEAST_CHANCE = 1e-3, 0.2  # of all that can be gained, and of being within the bound


@register_strategy("shared")
def search_with_shared_training(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Find the best mapping of the candidates within the bound with few retrainings.

    1. Measure how much the loss rises when each candidate alone is analog, without retraining, and order the candidates by that
       rise for each MAC that it buys, or joule or second that it saves, whatever the objective counts.
    2. Find how many of them may be analog without any retraining; drops measured so far say where to measure next. Where
       they do not all fit on the tiles, those that gain most for each tile are taken.
    3. Refine: with the weights at hand, add a candidate, or exchange one for another that gains more, where the sum of rises
       does not already say that it is too much.
    4. Retrain with all that are left analog too. Measure, and if that is too much, find by bisection how many of them may be
       analog with these weights; keep weights and mapping if that is more than before. Else retrain with half of them, and so
       on. Then go on at 3 as long as the mapping grows.
    """
    steps = Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective, hasty=True)
    return _search(steps, _MAX_ROUNDS)


@register_strategy("training-free")
def search_without_training(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Do as ``shared`` does, without any retraining: the network keeps its weights."""
    steps = Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective, hasty=True)
    return _search(steps, 0)


@register_strategy("hessian")
def search_by_hessian(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Order the candidates by the Hessian, and find how many may be analog: first as they are, then with one retraining.

    1. Estimate from the Hessian how much the loss rises when each candidate alone is analog, and order the candidates by that
       rise for each MAC that it buys, or whatever the objective counts.
    2. Find how many of them may be analog without any retraining.
    3. Retrain once with all of them analog. Find by bisection how many of them may be analog with these weights; keep weights
       and mapping if that is more than before.

    HILAL finds the robust layers by clustering instead, knows no bound, and retrains after each layer. With a retraining for
    each layer the nearest to it is ``lionheart`` with the ranking ``hessian``.

    Source:
        HILAL (DATE 2026), code github anissbslh/HILAL.
    """
    steps = Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective, hasty=True)
    if not candidates or not steps.can_go_on():
        return steps.result()
    ladder = Ladder(steps, problem.expected_loss_increase([each.node.fqn for each in candidates]))
    _take_prefix(steps, ladder)
    left = ladder.left()
    if left and steps.can_go_on():
        _train_with(steps, ladder, left)
    return steps.result()


def _search(steps: Steps, max_rounds: int) -> SearchResult:
    if not steps.candidates or not steps.can_go_on():
        return steps.result()
    ladder = Ladder(steps, steps.problem.loss_increase([each.node.fqn for each in steps.candidates]))
    too_much = _take_prefix(steps, ladder)
    _refine(steps, ladder, too_much)
    for _ in range(max_rounds):
        cost = steps.objective.cost(steps.mapping)
        if not ladder.left() or not steps.can_go_on():
            break
        _train_together(steps, ladder)
        if steps.objective.cost(steps.mapping) == cost:
            break
        _refine(steps, ladder, math.inf)
    return steps.result()


def _take_prefix(steps: Steps, ladder: Ladder) -> float:
    """Find how many of the candidates, in their order, may be analog with the weights as they are.

    The drop is taken to grow with the sum of rises: the next number measured is where a line through the nearest drops known on
    both sides meets the bound; or the middle of what is open, where the line has closed less than half of it twice in a row.

    Returns:
        The smallest sum of rises that was too much; infinite if none was.
    """
    sums = ladder.sums
    drops = {0: 0.0}
    low, high, n_slow = 0, len(sums), 0
    while high - low > 1 and steps.can_go_on():
        number = (low + high) // 2
        if n_slow < 2:
            number = _where_bound_is_met(sums, drops, low, high, steps.max_drop_pp)
        chosen = ladder.rungs[number]
        kept = steps.attempt(
            with_analog(steps.start, chosen),
            ladder.label(number),
            macs=sum(each.node.macs for each in chosen),
            retrain=False,
            note=ladder.note(number),
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


def _refine(steps: Steps, ladder: Ladder, too_much: float) -> None:
    """Add a candidate, or exchange one for another that gains more, with the weights at hand, as long as one is kept.

    Between a sum of rises that was within the bound and one that was too much, the chance of being within the bound is taken to
    fall from 1 to 0. The move that gains most times its chance is tried first; those with little of either are not tried.
    """
    tried, failures = {frozenset(steps.mapping.analog)}, 0
    while failures < _MAX_FAILURES:
        move = _best_move(steps, ladder, tried, too_much)
        if move is None or not steps.can_go_on():
            return
        chosen, label, macs = move
        tried.add(frozenset(each.node.fqn for each in chosen))
        mapping = steps.objective.lean(with_analog(steps.start, chosen))
        if len(mapping.analog) < len(chosen) and frozenset(mapping.analog) in tried:
            continue
        tried.add(frozenset(mapping.analog))
        note = steps.objective.note([each.node.fqn for each in chosen], mapping)
        if not steps.attempt(mapping, label, macs=macs, retrain=False, note=note):
            failures += 1
            too_much = min(too_much, ladder.sum_of_rises(chosen))


def _best_move(
    steps: Steps, ladder: Ladder, tried: Collection[frozenset[str]], too_much: float
) -> tuple[list[Candidate], str, int] | None:
    """Return the candidates of the mapping one move away that promises most, what the move is, and the MACs gained."""
    present = [each for each in ladder.order if steps.mapping.is_analog(each.node.fqn)]
    enough, least = ladder.sum_of_rises(present), _LEAST_GAIN * ladder.most
    best: tuple[float, list[Candidate], Candidate, Candidate | None] | None = None
    for new, old, gain in _moves(steps, present, ladder.left()):
        if gain < least or (best is not None and gain <= best[0]):
            continue  # whatever its chance
        chosen = [*(each for each in present if each is not old), new]
        chance = _chance(ladder.sum_of_rises(chosen), enough, too_much)
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
    """Return the chance taken for a sum of rises, between one that was within the bound and one that was too much."""
    if total >= too_much:
        return 0.0
    return 1.0 if total <= enough or math.isinf(too_much) else (too_much - total) / (too_much - enough)


def _moves(
    steps: Steps, present: Sequence[Candidate], left: Sequence[Candidate]
) -> Iterator[tuple[Candidate, Candidate | None, float]]:
    """Yield what may come on tiles, what goes off them for it (None = nothing), and what that saves; all that fit."""
    objective, after = steps.objective, steps.objective.price(steps.mapping)
    cost, free = after(), math.inf
    if objective.max_tiles is not None:
        free = objective.max_tiles - objective.count_tiles(steps.mapping.analog)
    for new in left:
        if new.partition.n_tiles <= free:
            yield new, None, cost - after(new.node.fqn)
        for old in present:
            if new.partition.n_tiles - old.partition.n_tiles <= free:
                yield new, old, cost - after(new.node.fqn, old.node.fqn)


def _train_together(steps: Steps, ladder: Ladder) -> None:
    """Retrain with what is left, or half of it, and so on; keep the best mapping within the bound, if it is a better one."""
    left = ladder.left()
    number = len(left)
    while number and steps.can_go_on():
        if _train_with(steps, ladder, left[:number]):
            return
        number //= 2


def _train_with(steps: Steps, ladder: Ladder, extra: Sequence[Candidate]) -> bool:
    """Retrain with more candidates; keep the largest number of them within the bound, in their order, if there is one."""
    better = ladder.grow(extra)
    if not better:
        return False
    largest = better[-1]
    added = [each for each in ladder.order if largest.is_analog(each.node.fqn) > steps.mapping.is_analog(each.node.fqn)]
    return steps.attempt(
        largest,
        f"{len(added)} more of {len(ladder.order)}, retrained together",
        macs=sum(each.node.macs for each in added),
        smaller=better[:-1],
        note=steps.objective.note([each.node.fqn for each in extra], largest),
    )
