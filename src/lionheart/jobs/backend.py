"""Backends: simulators that compute the outputs of analog layers.

The default is ``lionheart``; `lionheart.interop` registers other simulators. A backend inserts its own subclass of
`AnalogLayer` into the model. Calibration, training, programming, drift, clipping, checkpoints and evaluation use the interface
of `AnalogLayer`, so search and evaluation are the same for every backend.
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
    """Operations that a mapping run needs from a simulator."""

    def check_tile(self, tile: TileSpec) -> None:
        """Raise a `ConfigError` that lists the settings of `tile` that this backend does not support."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Convert exactly the analog projections of `mapping` to analog layers of this backend, in place.

        The contract is that of `convert_to_analog_`: parameters stay the same objects, layers that are analog already keep
        their state, and `convert_to_digital_` reverts the conversion. Names and shapes in the model's ``state_dict`` are the
        same under every backend.
        """


@final
class OwnBackend:
    """The physics of this package."""

    def check_tile(self, tile: TileSpec) -> None:
        """See `Backend`; every tile is supported."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """See `Backend`."""
        return convert_to_analog_(model, mapping, tile)


#: Functions that load a backend, by name; each use of a backend calls its function.
BACKENDS: Registry[Callable[[], Backend]] = Registry("backend", "backends")
BACKENDS.add(DEFAULT_BACKEND, OwnBackend)


def register_backend(name: str, load: Callable[[], Backend]) -> None:
    """Register a backend by name.

    Args:
        name: Name of the backend.
        load: Function that returns the backend; each use of the backend calls it.

    Raises:
        ConfigError: The name is already registered.
    """
    BACKENDS.add(name, load)


def find_backend(name: str) -> Backend:
    """Return the backend with this name.

    Raises:
        ConfigError: The backend is unknown, or a package that it requires is not installed.
    """
    if name not in BACKENDS and len(BACKENDS) == 1:
        hint = f"backends: {DEFAULT_BACKEND}; for other simulators, first: import lionheart.interop"
        raise ConfigError(f"backend: got {name!r}, which is not registered", hint=hint)
    return BACKENDS.find(name)()
