"""The order in which a run tries its candidates. Some rankings look at the network, some at the platform, some measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from lionheart import registry
from lionheart.candidates import Candidate
from lionheart.errors import ConfigError, suggest
from lionheart.jobs.context import Context
from lionheart.jobs.objective import PRICED, make_objective
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.registry import Registry
from lionheart.search import Problem


class Ranking(Protocol):
    """A function that says what going analog is worth."""

    def __call__(self, context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, Any]:
        """Return a worth for each candidate's name; the largest is tried first, of equal ones that with more MACs."""


RANKINGS: Registry[Ranking] = registry.RANKINGS
BY_OBJECTIVE = "objective"  # the ranking of the same name as the objective


def register_ranking(name: str) -> Callable[[Ranking], Ranking]:
    """Return a decorator that makes a ranking known under `name`.

    Raises:
        ConfigError: The name is taken.
    """
    return RANKINGS.register(name)


def check_ranking(settings: MapSettings) -> None:
    """Make sure that a run can rank as its settings say.

    Raises:
        ConfigError: The ranking is unknown, or needs a platform and there is none.
    """
    by = settings.search.ranking
    if by != BY_OBJECTIVE and by not in RANKINGS:
        raise ConfigError(f"ranking: got {by!r}", hint=suggest(by, [BY_OBJECTIVE, *RANKINGS], label="rankings"))
    if by in PRICED and not settings.platforms:
        raise ConfigError(f"ranking: {by!r} needs a platform, got none", hint="name one in `platforms`")


def rank_for_run(context: Context, problem: Problem) -> list[Candidate]:
    """Return the mappable candidates in the order in which a run tries them."""
    search = context.settings.search
    check_ranking(context.settings)
    by = search.objective if search.ranking == BY_OBJECTIVE else search.ranking
    ordered = sorted(context.mappable, key=lambda each: -each.node.macs)
    if not ordered:
        return []
    worth = RANKINGS.find(by)(context, ordered, problem)
    return sorted(ordered, key=lambda each: worth[each.node.fqn], reverse=True)


def savings(context: Context, candidates: Sequence[Candidate], objective: str) -> dict[str, float]:
    """Return what each candidate alone on tiles saves of an objective."""
    gains = make_objective(context, objective).gains
    return gains(LayerMapping.all_digital(context.graph), [each.node.fqn for each in candidates])


def least_loss_per_gain(
    context: Context, candidates: Sequence[Candidate], rises: Mapping[str, float]
) -> dict[str, float]:
    """Return a worth that is largest for what raises the loss least for what it saves of the run's objective."""
    gains = savings(context, candidates, context.settings.search.objective)
    return {fqn: -max(rises[fqn], 0.0) / gain if gain > 0 else -math.inf for fqn, gain in gains.items()}
