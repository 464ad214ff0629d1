"""Names of strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lionheart.candidates import Candidate
from lionheart.errors import ConfigError, suggest
from lionheart.search.problem import Strategy

STRATEGIES: dict[str, Strategy] = {}
_LARGEST: dict[str, int] = {}  # number of candidates of strategies that are for small networks


def register_strategy(name: str, *, max_candidates: int | None = None) -> Callable[[Strategy], Strategy]:
    """Decorator that makes a strategy known under `name`.

    Args:
        name: For settings and command line.
        max_candidates: More than that are refused by `check_candidates`; None = any number.
    """

    def add(strategy: Strategy) -> Strategy:
        if name in STRATEGIES:
            raise ConfigError(f"strategy: {name!r} is registered twice")
        STRATEGIES[name] = strategy
        if max_candidates is not None:
            _LARGEST[name] = max_candidates
        return strategy

    return add


def find_strategy(name: str) -> Strategy:
    """Return a strategy by name.

    Raises:
        ConfigError: There is no such strategy.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"search.strategy: got {name!r}", hint=suggest(name, STRATEGIES, label="strategies"))
    return STRATEGIES[name]


def check_candidates(name: str, candidates: Sequence[Candidate]) -> None:
    """Make sure that a strategy can search over candidates.

    Raises:
        ConfigError: There are more than it is made for.
    """
    largest = _LARGEST.get(name)
    if largest is not None and len(candidates) > largest:
        raise ConfigError(
            f"search.strategy: {name} tries every mapping and is for at most {largest} candidates, got {len(candidates)}",
            hint=f"leave at most {largest} with include or exclude, or choose the strategy training-free",
        )
