"""The chip: all analog layers of a model programmed, aged and forgotten together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers
from lionheart.analog.noise import NoiseSource
from lionheart.errors import ConfigError


def program_chip_(model: nn.Module, generator: torch.Generator) -> None:
    """Program a fresh chip: every call draws new programming noise and new drift exponents from the exact weights.

    Layers that share a weight share its crossbars.
    """
    for layer, owner in _with_owners(analog_layers(model)):
        if owner is None:
            layer.program_(generator)
        else:
            layer.share_chip_(owner)


def drift_chip_(model: nn.Module, t_inference: float, generator: torch.Generator) -> None:
    """Age the programmed chip to `t_inference` [s] after programming, with one draw of read noise.

    Raises:
        ConfigError: No chip is programmed.
    """
    layers = analog_layers(model)
    for fqn, layer in layers.items():
        if not layer._chip:
            raise ConfigError(f"{fqn}: no chip is programmed", hint="call program_chip_ first")
    for layer, owner in _with_owners(layers):
        if owner is None:
            layer.drift_(t_inference, generator)
        else:
            layer.share_chip_(owner)


def find_unprogrammed(model: nn.Module) -> tuple[str, ...]:
    """Return the analog layers that hold no programmed chip."""
    return tuple(fqn for fqn, layer in analog_layers(model).items() if not layer._chip)


def _with_owners(layers: Mapping[str, AnalogLayer]) -> Iterator[tuple[AnalogLayer, AnalogLayer | None]]:
    """Yield each layer with the layer before it that has the same weight, or None."""
    owners: dict[Any, AnalogLayer] = {}
    for layer in layers.values():
        owner = owners.setdefault(layer.weight_key(), layer)
        yield layer, None if owner is layer else owner


def clear_chip_(model: nn.Module) -> None:
    """Go back to exact weights."""
    for layer in analog_layers(model).values():
        layer.clear_chip_()


def clip_weights_(model: nn.Module) -> None:
    """Keep the weights of analog layers within the bounds of their HWA settings; call after each optimiser step."""
    for layer in analog_layers(model).values():
        layer.clip_weights_()


def seed_noise_(model: nn.Module, generator: torch.Generator) -> None:
    """Let every analog layer draw its weight and output noise from `generator` from now on."""
    layers = analog_layers(model).values()
    pool_size = next((layer.noise.pool_size for layer in layers), 0)
    use_noise_(model, NoiseSource(generator, pool_size))


def use_noise_(model: nn.Module, source: NoiseSource) -> None:
    """Let every analog layer draw its weight and output noise from `source` from now on."""
    for layer in analog_layers(model).values():
        layer.noise = source
