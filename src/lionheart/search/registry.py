"""Names of strategies."""

from __future__ import annotations

from collections.abc import Callable

from lionheart.errors import ConfigError, suggest
from lionheart.search.problem import Strategy

STRATEGIES: dict[str, Strategy] = {}


def register_strategy(name: str) -> Callable[[Strategy], Strategy]:
    """Decorator that makes a strategy known under `name`."""

    def add(strategy: Strategy) -> Strategy:
        if name in STRATEGIES:
            raise ConfigError(f"strategy: {name!r} is registered twice")
        STRATEGIES[name] = strategy
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
