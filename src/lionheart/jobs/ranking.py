"""Rankings: the order in which a run tries its candidates, from properties of the network, costs or measurements."""

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
    """A function that returns a value for each candidate, by which the candidates are ordered."""

    def __call__(self, context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, Any]:
        """Return a value for each candidate's name. The largest value is tried first; ties are ordered by MACs."""


RANKINGS: Registry[Ranking] = registry.RANKINGS
BY_OBJECTIVE = "objective"  # selects the ranking that has the name of the objective


def register_ranking(name: str) -> Callable[[Ranking], Ranking]:
    """Return a decorator that registers a ranking under `name`.

    Raises:
        ConfigError: The name is already registered.
    """
    return RANKINGS.register(name)


def check_ranking(settings: MapSettings) -> None:
    """Check that the ranking of the settings can be computed.

    Raises:
        ConfigError: The ranking is unknown, or it needs a platform and the settings name none.
    """
    by = settings.search.ranking
    if by != BY_OBJECTIVE and by not in RANKINGS:
        raise ConfigError(
            f"search.ranking: got {by!r}, which is not a ranking",
            hint=suggest(by, [BY_OBJECTIVE, *RANKINGS], label="rankings"),
        )
    if by in PRICED and not settings.platforms:
        raise ConfigError(f"search.ranking: {by!r} needs a platform, got none", hint="name a platform in `platforms`")


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
    """Return the saving of an objective (in its unit) with each candidate alone on tiles."""
    gains = make_objective(context, objective).gains
    return gains(LayerMapping.all_digital(context.graph), [each.node.fqn for each in candidates])


def least_loss_per_gain(
    context: Context, candidates: Sequence[Candidate], rises: Mapping[str, float]
) -> dict[str, float]:
    """Return minus the loss increase per unit saved of the run's objective; minus infinity without a saving."""
    gains = savings(context, candidates, context.settings.search.objective)
    return {fqn: -max(rises[fqn], 0.0) / gain if gain > 0 else -math.inf for fqn, gain in gains.items()}
