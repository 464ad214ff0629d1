"""Backends: simulators that compute the outputs of analog layers.

The default backend is ``lionheart``; `lionheart.interop` registers other simulators. A backend inserts its own subclass of
`AnalogLayer` into the model. The rest of the package uses only the interface of `AnalogLayer`, so that training, search and
evaluation are the same for every backend.
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
    """Operations that every simulator must provide for a mapping run."""

    def check_tile(self, tile: TileSpec) -> None:
        """Raise a `ConfigError` if this backend does not support some settings of `tile`; the error lists these settings."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Replace the projections (weight matrices) that are analog in `mapping` by analog layers of this backend, in place.

        Implementations behave like `convert_to_analog_`. Parameters stay the same objects. Layers that are already analog keep
        their state, and analog layers that are digital in `mapping` are converted back. `convert_to_digital_` reverts the
        conversion. Names and shapes in the model's ``state_dict`` do not depend on the backend.

        Args:
            model: Model to convert, changed in place.
            mapping: Placement of each projection.
            tile: Tile settings of the layers that become analog.

        Returns:
            The same model.
        """


@final
class OwnBackend:
    """The default backend, which uses the analog layers of this package."""

    def check_tile(self, tile: TileSpec) -> None:
        """Accept `tile`; this backend supports all tile settings."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Convert the model with `convert_to_analog_`, and return the same model."""
        return convert_to_analog_(model, mapping, tile)


#: Functions that return a backend, by the name of the backend. `find_backend` calls the function each time.
BACKENDS: Registry[Callable[[], Backend]] = Registry("backend", "backends")
BACKENDS.add(DEFAULT_BACKEND, OwnBackend)


def register_backend(name: str, load: Callable[[], Backend]) -> None:
    """Register a backend by name.

    Args:
        name: Name of the backend.
        load: Function that returns the backend. `find_backend` calls the function each time.

    Raises:
        ConfigError: The name is already registered.
    """
    BACKENDS.add(name, load)


def find_backend(name: str) -> Backend:
    """Return the backend registered as `name`.

    Raises:
        ConfigError: The backend is unknown, or a package that it requires is not installed.
    """
    if name not in BACKENDS and len(BACKENDS) == 1:
        hint = f"use backend={DEFAULT_BACKEND!r}, or register other simulators with: import lionheart.interop"
        raise ConfigError(f"backend: got {name!r}, which is not a registered backend", hint=hint)
    return BACKENDS.find(name)()
