"""Few retrainings instead of one for each candidate, and none where none is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.baselines import with_analog
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import register_strategy
from lionheart.search.steps import Steps

_MAX_ROUNDS = 3


@register_strategy("shared")
def search_with_shared_training(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Find the largest share of the candidates within the bound with few retrainings.

    1. Measure how much the loss rises when each candidate alone is analog, without retraining, and order the candidates by that
       rise for each MAC that it buys.
    2. Find by bisection how many of them may be analog without any retraining.
    3. Retrain with all that are left analog too. Measure, and if that is too much, find by bisection how many of them may be
       analog with these weights; keep weights and mapping if that is more than before. Else retrain with half of them, and so
       on.
    4. Try the others one by one with the weights at hand; then go on at 3 as long as the mapping grows.
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
    2. Find by bisection how many of them may be analog without any retraining.
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
    _bisect(steps, order)
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
    _bisect(steps, order)
    _add_singly(steps, order)
    for _ in range(max_rounds):
        size = _macs(steps.mapping, order)
        if not _left(steps, order) or not steps.can_go_on():
            break
        _train_together(steps, order)
        if _macs(steps.mapping, order) == size:
            break
        _add_singly(steps, order)
    return steps.result()


def _bisect(steps: Steps, order: Sequence[Candidate]) -> None:
    """Find how many of the candidates may be analog with the weights as they are."""
    low, high = 1, len(order)
    while low <= high and steps.can_go_on():
        middle = (low + high + 1) // 2
        chosen = order[:middle]
        label = f"first {middle} of {len(order)}, not retrained"
        kept = steps.attempt(
            with_analog(steps.start, chosen), label, macs=sum(each.node.macs for each in chosen), retrain=False
        )
        low, high = (middle + 1, high) if kept else (low, middle - 1)


def _add_singly(steps: Steps, order: Sequence[Candidate]) -> None:
    """Try what is left, one by one, with the weights as they are; the most work first."""
    for candidate in sorted(_left(steps, order), key=lambda each: -each.node.macs):
        if not steps.can_go_on():
            return
        steps.attempt(
            with_analog(steps.mapping, [candidate]),
            f"{candidate.node.fqn}, not retrained",
            macs=candidate.node.macs,
            retrain=False,
        )


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
