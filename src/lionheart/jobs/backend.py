"""Backends: who computes what analog layers compute. Ours is ``lionheart``; `lionheart.interop` registers other simulators.

A backend puts its own kind of `AnalogLayer` into the model. Calibration, training, programming, drift, clipping, checkpoints
and evaluation then work through those layers, so search and evaluation are the same whatever computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

from torch import nn

from lionheart.analog import convert_to_analog_
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.mapping import LayerMapping

DEFAULT_BACKEND = "lionheart"


class Backend(Protocol):
    """What a mapping run asks of whoever computes."""

    def check_tile(self, tile: TileSpec) -> None:
        """Raise a `ConfigError` that lists what of `tile` cannot be computed here."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Put exactly the analog projections of `mapping` on tiles of this backend, in place.

        As `convert_to_analog_`: parameters stay the same objects, layers that are analog already keep their state, and
        `convert_to_digital_` undoes it. The model's ``state_dict`` has the names and shapes that it has under every backend.
        """


@final
class OwnBackend:
    """Our own physics."""

    def check_tile(self, tile: TileSpec) -> None:
        """See `Backend`; nothing is refused."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """See `Backend`."""
        return convert_to_analog_(model, mapping, tile)


_BACKENDS: dict[str, Callable[[], Backend]] = {DEFAULT_BACKEND: OwnBackend}


def register_backend(name: str, load: Callable[[], Backend]) -> None:
    """Make a backend known by name; `load` is called whenever it is used.

    Raises:
        ValueError: The name is taken.
    """
    if name in _BACKENDS:
        raise ValueError(f"backend {name!r} is registered already")
    _BACKENDS[name] = load


def find_backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        ConfigError: It is unknown, or what it needs is not installed.
    """
    if name not in _BACKENDS:
        hint = suggest(name, _BACKENDS, label="backends")
        if len(_BACKENDS) == 1:
            hint += "; other simulators are known after: import lionheart.interop"
        raise ConfigError(f"backend: got {name!r}", hint=hint)
    return _BACKENDS[name]()
