"""Functions that program, read and clear the simulated chip of a model, clip the model's weights, and set its noise source.

The simulated chip of a model contains the programmed weights of all analog layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import torch
from torch import nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers
from lionheart.analog.noise import NoiseSource
from lionheart.errors import ConfigError, check_type
from lionheart.units import parse_duration

#: One source of random numbers for all layers in turn, or one for each analog layer by name.
Generators = torch.Generator | Mapping[str, torch.Generator]


def program_chip_(model: nn.Module, generator: Generators) -> None:
    """Program the exact weights of all analog layers on a new chip, with newly drawn programming noise and drift exponents.

    Layers that share a weight also share the programmed crossbars. Call `drift_chip_` next to read the programmed weights.

    Args:
        model: Model with analog layers, changed in place.
        generator: Source of programming noise, drift exponents and other random states of the memory devices. With one
            generator for each layer, the devices of a layer do not depend on which other layers are analog.

    Raises:
        ConfigError: `generator` is not a generator of PyTorch, or a mapping without one for each analog layer.
    """
    layers = analog_layers(model)
    sources = _list_generators("program", generator, layers)
    for source, (layer, owner) in zip(sources, _with_owners(layers), strict=True):
        if owner is None:
            layer.program_(source)
        else:
            layer.share_chip_(owner)


def drift_chip_(model: nn.Module, t_inference: float | str, generator: Generators) -> None:
    """Let the programmed chip drift until `t_inference` after programming and read its weights with one draw of read noise.

    Args:
        model: Model with a programmed chip, changed in place.
        t_inference: Time since programming ended, a number [s] or a text such as ``"1d"``.
        generator: Source of the read noise, or one source for each analog layer by name.

    Raises:
        ConfigError: An analog layer has no programmed chip, or an argument has a wrong type or value.
    """
    check_type(t_inference, (Real, str), "drift: t_inference", hint='give seconds or a text such as "1d"')
    layers = analog_layers(model)
    sources = _list_generators("drift", generator, layers)
    t_inference = parse_duration(t_inference)
    for fqn, layer in layers.items():
        if not layer._chip:
            raise ConfigError(
                f"drift: layer {fqn!r} has no programmed chip, expected a programmed model",
                hint="program all layers first: program_chip_(model, generator)",
            )
    for source, (layer, owner) in zip(sources, _with_owners(layers), strict=True):
        if owner is None:
            layer.drift_(t_inference, source)
        else:
            layer.share_chip_(owner)


def _list_generators(where: str, given: Generators, layers: Mapping[str, AnalogLayer]) -> list[torch.Generator]:
    """Return one generator for each layer: the given one for all of them, or that of its name."""
    hint = "give a generator on the model's device, for example torch.Generator().manual_seed(0)"
    found = [given.get(fqn) for fqn in layers] if isinstance(given, Mapping) else [given] * max(1, len(layers))
    for each in found:
        check_type(each, torch.Generator, f"{where}: generator", hint=hint)
    return [each for each in found if each is not None][: len(layers)]


def find_unprogrammed(model: nn.Module) -> tuple[str, ...]:
    """Return the fully qualified names of the analog layers that have no programmed chip."""
    return tuple(fqn for fqn, layer in analog_layers(model).items() if not layer._chip)


def _with_owners(layers: Mapping[str, AnalogLayer]) -> Iterator[tuple[AnalogLayer, AnalogLayer | None]]:
    """Yield each layer with its owner, the first layer that uses the same weight; None if the layer itself is the first."""
    owners: dict[Any, AnalogLayer] = {}
    for layer in layers.values():
        owner = owners.setdefault(layer.weight_key(), layer)
        yield layer, None if owner is layer else owner


def clear_chip_(model: nn.Module) -> None:
    """Discard the programmed chip of a model in place, so that its analog layers use the exact weights again."""
    for layer in analog_layers(model).values():
        layer.clear_chip_()


def clip_weights_(model: nn.Module, *, strength: float = 1.0) -> None:
    """Clip the weights of all analog layers in place to the bounds in their settings for hardware-aware (HWA) training.

    Call this function after each optimiser step.

    Args:
        model: Model with analog layers.
        strength: How far the bounds have fallen from the largest weight of each column to their final value, 0 to 1.
    """
    for layer in analog_layers(model).values():
        layer.clip_weights_(strength=strength)


def seed_noise_(model: nn.Module, generator: torch.Generator) -> None:
    """Set the generator from which all analog layers of `model` draw output noise and, in training, weight noise."""
    layers = analog_layers(model).values()
    pool_size = next((layer.noise.pool_size for layer in layers), 0)
    use_noise_(model, NoiseSource(generator, pool_size))


def set_noise_strength_(model: nn.Module, strength: float) -> None:
    """Set the factor of all noise that analog layers of `model` inject in training, until their noise is seeded again.

    Args:
        model: Model with analog layers.
        strength: Factor, 0 (no noise) to 1 (the noise of the settings). Weights and outputs are as without this function for 1.
            A compiled model is not compiled again for another factor.
    """
    is_compiled = model._compiled_call_impl is not None
    for source in {id(layer.noise): layer.noise for layer in analog_layers(model).values()}.values():
        if strength == 1 and not is_compiled:
            source.strength = None
        elif source.strength is None:
            source.strength = torch.tensor(strength, device=source.generator.device)
        else:
            source.strength.fill_(strength)


def use_noise_(model: nn.Module, source: NoiseSource) -> None:
    """Set the source from which all analog layers of `model` draw output noise and, in training, weight noise."""
    for layer in analog_layers(model).values():
        layer.noise = source
