"""Apply a mapping to a model, and undo it exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.layers.conv import AnalogConv
from lionheart.analog.layers.linear import AnalogLinear
from lionheart.analog.layers.wrappers import AnalogWrapper, is_view, wrapper_for, wrapper_unsupported_reason
from lionheart.analog.noise import POOL_SIZE, NoiseSource
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, UnsupportedLayerError, suggest
from lionheart.graph.layer_types import PlacedProjection, Projection, describe_module, find_projections
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import partition_matrix

#: What keeps PyTorch's fused encoder, which reads weights and calls no layers, from running; and in which modules.
_FUSED: dict[type[nn.Module], tuple[str, int]] = {
    nn.TransformerEncoderLayer: ("activation_relu_or_gelu", 0),
    nn.TransformerEncoder: ("use_nested_tensor", False),
}
_KEPT = "_before_analog"


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Return the analog layers of a model by the fully qualified name of their projection."""
    found: dict[str, AnalogLayer] = {}
    for fqn, module in model.named_modules():
        if isinstance(module, AnalogWrapper):
            for name, layer in module.analog_views():
                found[".".join(part for part in (fqn, name) if part)] = layer
        elif isinstance(module, AnalogLayer) and not is_view(module):
            found[fqn] = module
    return found


def convert_to_analog_(
    model: nn.Module, mapping: LayerMapping, tile: TileSpec, *, generator: torch.Generator | None = None
) -> nn.Module:
    """Put exactly the analog projections of `mapping` on tiles, in place.

    Layers that are analog already and stay so keep their state; those that the mapping calls digital are converted back.
    Parameters stay the same objects, so an optimiser goes on working, and ``state_dict`` keys of the digital model stay
    loadable. Projections that share a weight go together.

    Args:
        model: Changed in place and returned.
        mapping: Which projections go on tiles.
        tile: The tile they go on.
        generator: Source of the layers' noise until `seed_noise_` gives another; None = seed 0.

    Raises:
        ConfigError: The mapping names a projection that the model does not have.
        UnsupportedLayerError: The projection cannot be put on tiles.
    """
    placed = list(find_projections(model, describe_present))
    wanted = _resolve(placed, mapping, model)
    present = analog_layers(model)
    for each in placed:
        if each.fqn in wanted and each.fqn not in present:
            _check_place(each, model)
    device = next(model.parameters()).device
    noise = next((layer.noise for layer in present.values()), None) or NoiseSource(
        generator or torch.Generator(device=device).manual_seed(0), POOL_SIZE
    )
    modules: dict[nn.Module, list[PlacedProjection]] = {}
    for each in placed:
        modules.setdefault(each.module, []).append(each)
    for module, parts in modules.items():
        names = {each.projection.name for each in parts if each.fqn in wanted}
        _place_(model, module, parts[0], names, tile, noise)
    _keep_from_fusing_(model)
    return model


def convert_to_digital_(model: nn.Module) -> nn.Module:
    """Put every analog layer back as the digital layer it came from, with its present weights, in place."""
    nothing = LayerMapping(dict.fromkeys(analog_layers(model), Placement.DIGITAL))
    return convert_to_analog_(model, nothing, TileSpec.ideal())


def set_tiles_(model: nn.Module, tiles: Mapping[str, TileSpec]) -> nn.Module:
    """Give analog layers other digital corrections: drift compensation, column calibration, static or dynamic input range.

    Chips are programmed anew afterwards; weights and calibrated input ranges stay.

    Args:
        model: Changed in place and returned.
        tiles: The tile of each layer to be changed.

    Raises:
        ConfigError: There is no such analog layer, or a tile differs from the layer's in more than these settings.
    """
    layers = analog_layers(model)
    for fqn, tile in tiles.items():
        if fqn not in layers:
            raise ConfigError(f"tiles: {fqn!r} is no analog layer", hint=suggest(fqn, layers, label="analog layers"))
        present = layers[fqn].tile
        same = {name: getattr(tile, name) for name in ("drift_compensation", "column_calibration")}
        if "learned" not in (tile.input_range, present.input_range):
            same["input_range"] = tile.input_range
        if present.replace(**same) != tile:
            raise ConfigError(
                f"tiles: {fqn}: only drift compensation, column calibration and static or dynamic input range can change",
                hint="convert the layer anew for another crossbar, device or converter",
            )
    for fqn, tile in tiles.items():
        layers[fqn].tile = tile
        layers[fqn].clear_chip_()
    return model


def swap_analog_layer_(model: nn.Module, fqn: str, new: AnalogLayer) -> None:
    """Put another analog layer where that of the projection `fqn` is."""
    old = analog_layers(model)[fqn]
    wrapper = next((m for m in model.modules() if isinstance(m, AnalogWrapper) and m.holds(old)), None)
    if wrapper is None:
        _replace(model, old, new)
    else:
        wrapper.swap_(old, new)


def describe_present(module: nn.Module) -> list[Projection]:
    """Describe a module, or the digital one that an analog one stands for."""
    if isinstance(module, (AnalogWrapper, AnalogLayer)):
        return [] if is_view(module) else describe_module(module.digital)
    return describe_module(module)


def _resolve(placed: Iterable[PlacedProjection], mapping: LayerMapping, model: nn.Module) -> set[str]:
    """Return the names of all projections that go on tiles: those of the mapping, and those of the same weights."""
    by_name = {each.fqn: each for each in placed}
    for name, module in model.named_modules(remove_duplicate=False):  # other names of a module that appears twice
        for layout in describe_present(module):
            other = next((each for each in by_name.values() if each.module is module), None)
            if other is not None:
                by_name.setdefault(layout.fqn_in(name), by_name[layout.fqn_in(other.module_fqn)])
    keys, modules = set(), dict(model.named_modules())
    for fqn in mapping.analog:
        if fqn in modules and fqn not in by_name and not describe_present(modules[fqn]):
            raise UnsupportedLayerError(
                f"{fqn}: got {type(modules[fqn]).__name__}, expected a layer of a known kind",
                hint="keep it digital, or make its kind known: lionheart.graph.register_layer_type",
            )
        if fqn not in by_name:
            raise ConfigError(
                f"mapping: the model has no layer {fqn!r} of a known kind",
                hint=suggest(fqn, by_name, label="projections"),
            )
        keys.add(by_name[fqn].key())
    return {each.fqn for each in by_name.values() if each.key() in keys}


def find_unsupported_reason(placed: PlacedProjection, model: nn.Module) -> str:
    """Return why a projection cannot be put on tiles, as far as the modules tell; empty if it can."""
    if placed.module is model:
        return "the model itself is the layer"
    if placed.is_computed:
        return "its weight is computed (parametrised), tiles would not follow it"
    digital = placed.module.digital if isinstance(placed.module, AnalogWrapper) else placed.module
    reason = wrapper_unsupported_reason(digital)
    return f"{reason}, tiles would not follow it" if reason else ""


def _check_place(placed: PlacedProjection, model: nn.Module) -> None:
    reason = find_unsupported_reason(placed, model)
    if reason and placed.module is model:
        raise ConfigError(f"mapping: {reason}", hint="wrap it: nn.Sequential(layer)")
    if reason:
        raise UnsupportedLayerError(f"{placed.fqn}: {reason}", hint="keep it digital")


def _place_(
    model: nn.Module,
    module: nn.Module,
    placed: PlacedProjection,
    names: set[str],
    tile: TileSpec,
    noise: NoiseSource,
) -> None:
    """Put the projections `names` of a module on tiles and its others back."""
    if isinstance(module, AnalogLayer):
        if not names:
            _replace(model, module, _to_digital(module))
        return
    if isinstance(module, AnalogWrapper):
        if names:
            module.place_(names, tile, noise)
        else:
            _replace(model, module, module.release())
        return
    if not names:
        return
    wrapper_type = wrapper_for(module)
    if wrapper_type is None:
        layout = placed.projection
        partition = partition_matrix(layout.rows, layout.cols, layout.groups, tile.rows, tile.cols)
        layer = AnalogLinear if isinstance(module, nn.Linear) else AnalogConv
        _replace(model, module, layer(module, partition, tile, noise))
    else:
        wrapper = wrapper_type(module)
        _replace(model, module, wrapper)
        wrapper.place_(names, tile, noise)


def _to_digital(layer: AnalogLayer) -> nn.Module:
    digital: nn.Module = layer.digital
    digital.weight = layer.weight
    digital.register_parameter("bias", layer.bias)
    return digital.train(layer.training)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` where `old` is, under every name that the model has for it."""
    places = [name for name, each in model.named_modules(remove_duplicate=False) if each is old]
    for place in places:
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, new)


def _keep_from_fusing_(model: nn.Module) -> None:
    """Let encoders with analog layers call their layers one by one, and others run as they did."""
    for module in model.modules():
        for kind, (name, value) in _FUSED.items():
            if not isinstance(module, kind) or not hasattr(module, name):
                continue
            has_analog = any(isinstance(each, (AnalogLayer, AnalogWrapper)) for each in module.modules())
            if has_analog and _KEPT not in module.__dict__:
                module.__dict__[_KEPT] = getattr(module, name)
                setattr(module, name, value)
            elif not has_analog and _KEPT in module.__dict__:
                setattr(module, name, module.__dict__.pop(_KEPT))
