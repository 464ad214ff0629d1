"""Simple strategies that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.loop import Steps
from lionheart.search.objective import Objective, on_tiles
from lionheart.search.problem import Problem, SearchResult
from lionheart.search.registry import register_strategy


@register_strategy("all-digital")
def map_nothing(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Leave everything digital."""
    return Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective).result()


@register_strategy("all-analog")
def map_everything(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Turn every candidate analog that fits, retrain once, and keep it whatever it costs."""
    steps = Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective)
    return _map_at_once(steps, candidates, "everything")


@register_strategy("first-last-digital")
def map_all_but_first_and_last(
    problem: Problem,
    candidates: Sequence[Candidate],
    start: LayerMapping,
    *,
    max_drop_pp: float,
    objective: Objective | None = None,
) -> SearchResult:
    """Turn everything that fits analog but the first and last projection, retrain once, and keep it whatever it costs."""
    names = list(start.placements)
    chosen = [each for each in candidates if each.node.fqn not in (names[0], names[-1])]
    steps = Steps(problem, candidates, start, max_drop_pp=max_drop_pp, objective=objective)
    return _map_at_once(steps, chosen, "all but first and last")


def _map_at_once(steps: Steps, wanted: Sequence[Candidate], label: str) -> SearchResult:
    fqns = [each.node.fqn for each in wanted]
    chosen = steps.objective.pack(fqns, steps.objective.gains(steps.start, fqns))
    if chosen and steps.can_go_on():
        mapping = on_tiles(steps.start, chosen)
        macs = sum(each.node.macs for each in wanted if each.node.fqn in chosen)
        steps.attempt(mapping, label, macs=macs, always=True, note=steps.objective.note(fqns, mapping))
    return steps.result()


def with_analog(mapping: LayerMapping, candidates: Sequence[Candidate]) -> LayerMapping:
    """Return a mapping with `candidates` on tiles too."""
    return on_tiles(mapping, (each.node.fqn for each in candidates))
