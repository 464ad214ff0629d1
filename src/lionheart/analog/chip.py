"""Operations on the chip, that is on all analog layers of a model together: program, drift, clear, seed noise."""

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
    """Program a fresh chip from the exact weights, with newly drawn programming noise and drift exponents.

    Layers that share a weight share its crossbars.

    Args:
        model: Model with analog layers, changed in place.
        generator: Source of the device noise.
    """
    for layer, owner in _with_owners(analog_layers(model)):
        if owner is None:
            layer.program_(generator)
        else:
            layer.share_chip_(owner)


def drift_chip_(model: nn.Module, t_inference: float, generator: torch.Generator) -> None:
    """Let the programmed chip age to `t_inference` [s] after programming and read its weights with one draw of read noise.

    Args:
        model: Model with a programmed chip, changed in place.
        t_inference: Time since programming ended [s].
        generator: Source of the read noise.

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
    """Yield each layer with the first layer that has the same weight, or with None if the layer is the first itself."""
    owners: dict[Any, AnalogLayer] = {}
    for layer in layers.values():
        owner = owners.setdefault(layer.weight_key(), layer)
        yield layer, None if owner is layer else owner


def clear_chip_(model: nn.Module) -> None:
    """Discard the programmed chip, so that analog layers use the exact weights again."""
    for layer in analog_layers(model).values():
        layer.clear_chip_()


def clip_weights_(model: nn.Module) -> None:
    """Clip the weights of analog layers to the bounds of their HWA settings; call after each optimiser step."""
    for layer in analog_layers(model).values():
        layer.clip_weights_()


def seed_noise_(model: nn.Module, generator: torch.Generator) -> None:
    """Set the generator from which every analog layer draws its weight and output noise."""
    layers = analog_layers(model).values()
    pool_size = next((layer.noise.pool_size for layer in layers), 0)
    use_noise_(model, NoiseSource(generator, pool_size))


def use_noise_(model: nn.Module, source: NoiseSource) -> None:
    """Set the source from which every analog layer draws its weight and output noise."""
    for layer in analog_layers(model).values():
        layer.noise = source
