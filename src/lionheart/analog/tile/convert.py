"""Apply a mapping to a model, and undo it exactly."""

from __future__ import annotations

import torch
from torch import nn

from lionheart.analog.tile.layers import AnalogConv, AnalogLayer, AnalogLinear
from lionheart.analog.tile.noise import POOL_SIZE, NoiseSource
from lionheart.candidates import partition_matrix
from lionheart.errors import ConfigError, UnsupportedLayerError, suggest
from lionheart.graph.trace import kind_of, matrix_shape, obstacle_of
from lionheart.mapping import LayerMapping, Placement
from lionheart.specs import TileSpec


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Return the analog layers of a model by fully qualified name."""
    return {fqn: module for fqn, module in model.named_modules() if isinstance(module, AnalogLayer)}


def convert_to_analog_(
    model: nn.Module, mapping: LayerMapping, tile: TileSpec, *, generator: torch.Generator | None = None
) -> nn.Module:
    """Put exactly the analog projections of `mapping` on tiles, in place.

    Layers that are analog already and stay so keep their state; those that the mapping calls digital are converted back.
    Parameters stay the same objects, so an optimiser goes on working, and ``state_dict`` keys of the digital model stay
    loadable.

    Args:
        model: Changed in place and returned.
        mapping: Which projections go on tiles.
        tile: The tile they go on.
        generator: Source of the layers' noise until `seed_noise_` gives another; None = seed 0.

    Raises:
        ConfigError: The mapping names a projection that the model does not have.
        UnsupportedLayerError: The layer cannot be put on tiles.
    """
    modules = dict(model.named_modules())
    for fqn in mapping.analog:
        if fqn not in modules:
            raise ConfigError(f"mapping: the model has no layer {fqn!r}", hint=suggest(fqn, modules, label="layers"))
        if modules[fqn] is model:
            raise ConfigError("mapping: the model itself is the layer", hint="wrap it: nn.Sequential(layer)")
    present = analog_layers(model)
    device = next(model.parameters()).device
    noise = next((layer.noise for layer in present.values()), None) or NoiseSource(
        generator or torch.Generator(device=device).manual_seed(0), POOL_SIZE
    )
    for fqn in present:
        if not mapping.is_analog(fqn):
            _replace(model, fqn, _to_digital(present[fqn]))
    for fqn in mapping.analog:
        if fqn not in present:
            _replace(model, fqn, _to_analog(fqn, modules[fqn], tile, noise))
    return model


def convert_to_digital_(model: nn.Module) -> nn.Module:
    """Put every analog layer back as the digital layer it came from, with its present weights, in place."""
    nothing = LayerMapping(dict.fromkeys(analog_layers(model), Placement.DIGITAL))
    return convert_to_analog_(model, nothing, TileSpec.ideal())


def _to_analog(fqn: str, module: nn.Module, tile: TileSpec, noise: NoiseSource) -> AnalogLayer:
    kind = kind_of(module)
    if kind is None:
        raise UnsupportedLayerError(
            f"{fqn}: got {type(module).__name__}, expected a linear or convolution layer", hint="keep it digital"
        )
    if obstacle := obstacle_of(module):
        raise UnsupportedLayerError(f"{fqn}: {obstacle}, tiles would not follow it", hint="keep it digital")
    rows, cols, groups = matrix_shape(module)
    partition = partition_matrix(rows, cols, groups, tile.rows, tile.cols)
    layer = AnalogLinear if kind == "linear" else AnalogConv
    return layer(module, partition, tile, noise)


def _to_digital(layer: AnalogLayer) -> nn.Module:
    digital: nn.Module = layer.digital
    digital.weight = layer.weight
    digital.register_parameter("bias", layer.bias)
    return digital.train(layer.training)


def _replace(model: nn.Module, fqn: str, module: nn.Module) -> None:
    """Put `module` where the layer `fqn` is, under every name that the model has for it."""
    old = model.get_submodule(fqn)
    places = [name for name, each in model.named_modules(remove_duplicate=False) if each is old]
    for place in places:
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, module)
