"""Rankings: functions that determine the order in which a run tries to move projections (weight matrices) to tiles."""

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
    """Function that returns a value for each candidate, i.e. for each projection (weight matrix) that may become analog.

    A run tries the candidates in descending order of this value.
    """

    def __call__(self, context: Context, candidates: Sequence[Candidate], problem: Problem) -> Mapping[str, Any]:
        """Return a value for each candidate in `candidates`, by the name of the candidate.

        The candidate with the largest value is tried first. Among candidates of equal value, candidates with more MACs are
        tried first.

        Args:
            context: Context of the job.
            candidates: Projections (weight matrices) that may become analog, in decreasing order of MACs.
            problem: Interface through which a ranking can measure the network.
        """


RANKINGS: Registry[Ranking] = registry.RANKINGS
BY_OBJECTIVE = "objective"  # selects the ranking of the same name as the objective


def register_ranking(name: str) -> Callable[[Ranking], Ranking]:
    """Return a decorator that registers a ranking under `name`.

    Raises:
        ConfigError: The name is already registered.
    """
    return RANKINGS.register(name)


def check_ranking(settings: MapSettings) -> None:
    """Check that the ranking named in the settings exists, and that the settings name a platform if the ranking needs one.

    Raises:
        ConfigError: The ranking is unknown, or the ranking needs a platform and the settings name none.
    """
    by = settings.search.ranking
    if by != BY_OBJECTIVE and by not in RANKINGS:
        raise ConfigError(
            f"search.ranking: got {by!r}, which is not a ranking",
            hint=suggest(by, [BY_OBJECTIVE, *RANKINGS], label="rankings"),
        )
    if by in PRICED and not settings.platforms:
        raise ConfigError(
            f"search.ranking: got {by!r}, which needs a platform, but the setting 'platforms' is empty",
            hint="add a platform to 'platforms' (names: lionheart platforms), or use search.ranking='macs'",
        )


def rank_for_run(context: Context, problem: Problem) -> list[Candidate]:
    """Return the projections (weight matrices) that may become analog, in the order in which the run tries them."""
    search = context.settings.search
    check_ranking(context.settings)
    by = search.objective if search.ranking == BY_OBJECTIVE else search.ranking
    ordered = sorted(context.mappable, key=lambda each: -each.node.macs)
    if not ordered:
        return []
    worth = RANKINGS.find(by)(context, ordered, problem)
    return sorted(ordered, key=lambda each: worth[each.node.fqn], reverse=True)


def savings(context: Context, candidates: Sequence[Candidate], objective: str) -> dict[str, float]:
    """For each candidate, return the cost saved by moving only this candidate to tiles: MACs, weights, [s] or [J].

    Args:
        context: Context of the job.
        candidates: Projections (weight matrices) to return the saved cost for.
        objective: Name of the cost: ``macs``, ``weights``, ``time`` or ``energy``.
    """
    gains = make_objective(context, objective).gains
    return gains(LayerMapping.all_digital(context.graph), [each.node.fqn for each in candidates])


def least_loss_per_gain(
    context: Context, candidates: Sequence[Candidate], rises: Mapping[str, float]
) -> dict[str, float]:
    """For each candidate, return the negated ratio of loss increase to saved cost, by the name of the candidate.

    The ratio refers to a mapping in which only this candidate is analog. If the candidate saves no cost, the returned value is
    minus infinity.

    Args:
        context: Context of the job. Its settings name the objective, i.e. the cost.
        candidates: Projections (weight matrices) to return values for.
        rises: Loss increase for each candidate, by name, with only this candidate analog; a decrease counts as 0.
    """
    gains = savings(context, candidates, context.settings.search.objective)
    return {fqn: -max(rises[fqn], 0.0) / gain if gain > 0 else -math.inf for fqn, gain in gains.items()}
