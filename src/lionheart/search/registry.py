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
    """A search, and what must be known before it starts.

    Args:
        search: Makes decisions in a loop until it ends.
        early_stop: Whether a mapping clearly beyond the bound is measured no further.
        max_candidates: Largest number of candidates; None = any.
    """

    search: Search
    early_stop: bool = False
    max_candidates: int | None = None


STRATEGIES: Registry[Strategy] = registry.STRATEGIES


def register_strategy(
    name: str, *, early_stop: bool = False, max_candidates: int | None = None
) -> Callable[[Search], Search]:
    """Return a decorator that makes a search known under `name`; see `Strategy`."""

    def add(search: Search) -> Search:
        STRATEGIES.add(name, Strategy(search, early_stop, max_candidates))
        return search

    return add


def check_candidates(name: str, candidates: Sequence[Candidate]) -> None:
    """Make sure that a strategy can search over candidates.

    Raises:
        ConfigError: There is no such strategy, or there are more candidates than it is made for.
    """
    largest = STRATEGIES.find(name).max_candidates
    if largest is not None and len(candidates) > largest:
        raise ConfigError(
            f"search.strategy: {name} tries every mapping and is for at most {largest} candidates, got {len(candidates)}",
            hint=f"leave at most {largest} with include or exclude, or choose the strategy training-free",
        )
