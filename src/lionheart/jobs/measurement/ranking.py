"""Rankings: the order in which a run tries its candidates. Some look at the network, some at the platform, some measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lionheart.candidates import RANKINGS as NODE_RANKINGS
from lionheart.candidates import Candidate, rank_candidates
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph
from lionheart.jobs.objective import PRICED, make_objective
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.rng import RandomStreams
from lionheart.search import Problem


class Ranking(Protocol):
    """A function that says what going analog is worth."""

    def __call__(
        self, candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
    ) -> Mapping[str, float]:
        """Return a worth for each candidate's name; the largest is tried first, of equal ones that with more MACs."""


#: Rankings that need more than the candidates themselves; those of `lionheart.candidates` are known too.
RANKINGS: dict[str, Ranking] = {}
_BY_OBJECTIVE = "objective"  # the ranking of the same name as the objective


def register_ranking(name: str) -> Callable[[Ranking], Ranking]:
    """Decorator that makes a ranking known under `name`.

    Raises:
        ConfigError: The name is taken.
    """

    def add(ranking: Ranking) -> Ranking:
        if name in RANKINGS or name in NODE_RANKINGS:
            raise ConfigError(f"ranking: {name!r} is registered twice")
        RANKINGS[name] = ranking
        return ranking

    return add


def check_ranking(settings: MapSettings) -> None:
    """Make sure that a run can rank as its settings say.

    Raises:
        ConfigError: The ranking is unknown, or needs a platform and there is none.
    """
    by = settings.search.ranking
    known = [_BY_OBJECTIVE, *NODE_RANKINGS, *RANKINGS]
    if by not in known:
        raise ConfigError(f"ranking: got {by!r}", hint=suggest(by, known, label="rankings"))
    if by in PRICED and not settings.platforms:
        raise ConfigError(f"ranking: {by!r} needs a platform, got none", hint="name one in `platforms`")


def rank_for_run(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
) -> list[Candidate]:
    """Return the mappable candidates in the order in which a run tries them."""
    check_ranking(settings)
    by = settings.search.objective if settings.search.ranking == _BY_OBJECTIVE else settings.search.ranking
    if by in NODE_RANKINGS:
        return rank_candidates(candidates, by)
    ordered = rank_candidates(candidates, "macs")
    if not ordered:
        return []
    worth = RANKINGS[by](ordered, graph, settings, problem)
    return sorted(ordered, key=lambda each: -worth[each.node.fqn])


@register_ranking("random")
def _rank_randomly(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
) -> dict[str, float]:
    """Draw a number for each name from the run's seed; what else is a candidate does not change the order of two."""
    streams = RandomStreams(settings.seed)
    return {each.node.fqn: streams.derive_seed("ranking", each.node.fqn) for each in candidates}


@register_ranking("sensitivity")
def _rank_by_loss(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
) -> dict[str, float]:
    """Prefer what raises the measured loss least for each MAC, or what the objective counts; what lowers it is no rise."""
    rises = problem.loss_increase([each.node.fqn for each in candidates])
    return _least_per_gain(candidates, graph, settings, rises)


@register_ranking("hessian")
def _rank_by_hessian(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
) -> dict[str, float]:
    """Prefer what by the Hessian is expected to raise the loss least for each MAC, or what the objective counts.

    HILAL divides by the number of weights, and clusters. Here MACs are what is wanted and the bound is what they cost, so a
    candidate is worth its MACs for each unit of loss.
    """
    rises = problem.expected_loss_increase([each.node.fqn for each in candidates])
    return _least_per_gain(candidates, graph, settings, rises)


@register_ranking("time")
def _rank_by_time(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
) -> dict[str, float]:
    """Prefer what alone on tiles saves the most time on the first platform; what would cost time comes last."""
    return _savings(candidates, graph, settings, "time")


@register_ranking("energy")
def _rank_by_energy(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, problem: Problem
) -> dict[str, float]:
    """Prefer what alone on tiles saves the most energy on the first platform; what would cost energy comes last."""
    return _savings(candidates, graph, settings, "energy")


def _least_per_gain(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, rises: Mapping[str, float]
) -> dict[str, float]:
    gains = _savings(candidates, graph, settings, settings.search.objective)
    return {fqn: -max(rises[fqn], 0.0) / gain if gain > 0 else -math.inf for fqn, gain in gains.items()}


def _savings(
    candidates: Sequence[Candidate], graph: LayerGraph, settings: MapSettings, objective: str
) -> dict[str, float]:
    gains = make_objective(graph, candidates, settings, objective).gains
    return gains(LayerMapping.all_digital(graph), [each.node.fqn for each in candidates])
