"""Search strategies by name."""

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
    """A search function and its requirements.

    Args:
        search: Function that makes decisions in a `SearchLoop` and returns at the end of the search.
        early_stop: Whether an evaluation ends as soon as the drop is clearly beyond the bound.
        max_candidates: Largest number of candidates; None = no limit.
    """

    search: Search
    early_stop: bool = False
    max_candidates: int | None = None


STRATEGIES: Registry[Strategy] = registry.STRATEGIES


def register_strategy(
    name: str, *, early_stop: bool = False, max_candidates: int | None = None
) -> Callable[[Search], Search]:
    """Return a decorator that registers a search function under `name`; the arguments are those of `Strategy`."""

    def add(search: Search) -> Search:
        STRATEGIES.add(name, Strategy(search, early_stop, max_candidates))
        return search

    return add


def check_candidates(name: str, candidates: Sequence[Candidate]) -> None:
    """Check that a strategy accepts this number of candidates.

    Raises:
        ConfigError: The strategy does not exist, or there are more candidates than its `max_candidates`.
    """
    largest = STRATEGIES.find(name).max_candidates
    if largest is not None and len(candidates) > largest:
        raise ConfigError(
            f"search.strategy: {name} tries every mapping, expected at most {largest} candidates, got {len(candidates)}",
            hint=f"reduce the candidates to {largest} with include or exclude, or choose the strategy training-free",
        )
