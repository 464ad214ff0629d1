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
from lionheart.errors import ConfigError
from lionheart.mapping import LayerMapping
from lionheart.registry import Registry

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


#: What computes analog layers; an entry loads it whenever it is used.
BACKENDS: Registry[Callable[[], Backend]] = Registry("backend", "backends")
BACKENDS.add(DEFAULT_BACKEND, OwnBackend)


def register_backend(name: str, load: Callable[[], Backend]) -> None:
    """Make a backend known by name; `load` is called whenever it is used.

    Raises:
        ConfigError: The name is taken.
    """
    BACKENDS.add(name, load)


def find_backend(name: str) -> Backend:
    """Return the backend of that name.

    Raises:
        ConfigError: It is unknown, or what it needs is not installed.
    """
    if name not in BACKENDS and len(BACKENDS) == 1:
        hint = f"backends: {DEFAULT_BACKEND}; other simulators are known after: import lionheart.interop"
        raise ConfigError(f"backend: got {name!r}", hint=hint)
    return BACKENDS.find(name)()
