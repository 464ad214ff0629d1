"""Backends: simulators that compute the outputs of analog layers.

The default backend is ``lionheart``. The package `lionheart.interop` registers other simulators. A backend inserts its own
subclass of `AnalogLayer` into the model. Training, search and evaluation use only the interface of `AnalogLayer`, and therefore
work in the same way with every backend.
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
    """Interface of a backend, i.e. of a simulator that computes the outputs of analog layers in a mapping run."""

    def check_tile(self, tile: TileSpec) -> None:
        """Check that this backend supports all settings in `tile`.

        Raises:
            ConfigError: This backend does not support some of the settings. The error lists these settings.
        """

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Replace the projections (weight matrices) that are analog in `mapping` by analog layers of this backend, in place.

        Every implementation must behave like `convert_to_analog_`. The parameters of the model stay the same objects. Layers
        that are already analog keep their state. Analog layers that are digital in `mapping` become digital layers again.
        `convert_to_digital_` reverts the conversion. The names and shapes in the model's ``state_dict`` do not depend on the
        backend.

        Args:
            model: Model to convert, changed in place.
            mapping: Placement of each projection, analog or digital.
            tile: Tile settings of the layers that become analog.

        Returns:
            The object `model`.
        """


@final
class OwnBackend:
    """The default backend ``lionheart``, which uses the analog layers of the package `lionheart.analog`."""

    def check_tile(self, tile: TileSpec) -> None:
        """Do nothing, because this backend supports all tile settings."""

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Convert the model in place with `convert_to_analog_`, and return the object `model`."""
        return convert_to_analog_(model, mapping, tile)


#: Functions that return a backend, by the name of the backend. `find_backend` calls the function each time.
BACKENDS: Registry[Callable[[], Backend]] = Registry("backend", "backends")
BACKENDS.add(DEFAULT_BACKEND, OwnBackend)


def register_backend(name: str, load: Callable[[], Backend]) -> None:
    """Register a backend (simulator of analog layers) under a name.

    Args:
        name: Name of the backend.
        load: Function that returns the backend. `find_backend` calls the function each time.

    Raises:
        ConfigError: A backend is already registered under this name.
    """
    BACKENDS.add(name, load)


def find_backend(name: str) -> Backend:
    """Return the backend (simulator of analog layers) that is registered under `name`.

    Raises:
        ConfigError: No backend has this name, or a package that the backend requires is not installed.
    """
    if name not in BACKENDS and len(BACKENDS) == 1:
        hint = f"use backend={DEFAULT_BACKEND!r}, or register other simulators with: import lionheart.interop"
        raise ConfigError(f"backend: got {name!r}, which is not a registered backend", hint=hint)
    return BACKENDS.find(name)()
