"""Registry of search strategies, each registered under a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from lionheart import registry
from lionheart.candidates import Candidate
from lionheart.errors import ConfigError
from lionheart.registry import Registry
from lionheart.search.loop import SearchLoop

Search = Callable[[SearchLoop], None]


@final
@dataclass(frozen=True)
class Strategy:
    """A search function and its options.

    Args:
        search: Function that is called with a `SearchLoop`, makes all decisions through the loop, and then returns.
        early_stop: Whether to end the evaluation of a mapping once the accuracy drop exceeds the bound with 95 % confidence.
        max_candidates: Largest number of projections that may become analog in a run with this strategy; None = no limit.
        retrains: Whether the search may retrain the network, so that the network needs parameters that require a gradient.
        chooses_levels: Whether the search chooses a read policy for each projection, from the setting ``search.levels``.
    """

    search: Search
    early_stop: bool = False
    max_candidates: int | None = None
    retrains: bool = True
    chooses_levels: bool = False


STRATEGIES: Registry[Strategy] = registry.STRATEGIES


def register_strategy(
    name: str,
    *,
    early_stop: bool = False,
    max_candidates: int | None = None,
    retrains: bool = True,
    chooses_levels: bool = False,
) -> Callable[[Search], Search]:
    """Return a decorator that registers a search function as a strategy.

    Args:
        name: Name of the strategy.
        early_stop: Whether to end the evaluation of a mapping once the accuracy drop exceeds the bound with 95 % confidence.
        max_candidates: Largest number of projections that may become analog in a run with this strategy; None = no limit.
        retrains: Whether the search may retrain the network, so that the network needs parameters that require a gradient.
        chooses_levels: Whether the search chooses a read policy for each projection, from the setting ``search.levels``.
    """

    def add(search: Search) -> Search:
        STRATEGIES.add(name, Strategy(search, early_stop, max_candidates, retrains, chooses_levels))
        return search

    return add


def check_candidates(name: str, candidates: Sequence[Candidate]) -> None:
    """Check that a strategy exists and accepts the number of candidates (projections that may become analog) of the run.

    Args:
        name: Name of the strategy.
        candidates: Candidates of the run.

    Raises:
        ConfigError: The strategy does not exist, or accepts fewer candidates.
    """
    largest = STRATEGIES.find(name).max_candidates
    if largest is not None and len(candidates) > largest:
        raise ConfigError(
            f"search.strategy: {name!r} accepts at most {largest} layers that may become analog, got {len(candidates)}",
            hint="select fewer layers with search.include or search.exclude, or choose another strategy, e.g. "
            "search.strategy='training-free'",
        )
