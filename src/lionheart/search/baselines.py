"""Simple strategies that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping, Placement
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import register_strategy
from lionheart.search.steps import Steps


@register_strategy("all-digital")
def map_nothing(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Leave everything digital."""
    return Steps(problem, start, max_drop_pp=max_drop_pp).result()


@register_strategy("all-analog")
def map_everything(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Turn every candidate analog, retrain once, and keep it whatever it costs."""
    return _map_at_once(problem, candidates, start, "everything", max_drop_pp)


@register_strategy("first-last-digital")
def map_all_but_first_and_last(
    problem: Problem, candidates: Sequence[Candidate], start: LayerMapping, *, max_drop_pp: float
) -> SearchResult:
    """Turn everything analog but the network's first and last projection, retrain once, and keep it whatever it costs."""
    names = list(start.placements)
    chosen = [each for each in candidates if each.node.fqn not in (names[0], names[-1])]
    return _map_at_once(problem, chosen, start, "all but first and last", max_drop_pp)


def _map_at_once(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    label: str,
    max_drop_pp: float,
) -> SearchResult:
    steps = Steps(problem, start, max_drop_pp=max_drop_pp)
    if candidates and steps.can_go_on():
        macs = sum(each.node.macs for each in candidates)
        steps.attempt(with_analog(start, candidates), label, macs=macs, always=True)
    return steps.result()


def with_analog(mapping: LayerMapping, candidates: Sequence[Candidate]) -> LayerMapping:
    """Return a mapping with `candidates` on tiles too."""
    analog = dict.fromkeys((each.node.fqn for each in candidates), Placement.ANALOG)
    return LayerMapping({**mapping.placements, **analog})
