"""Conversion of a model's layers to analog layers, where a mapping places them on tiles, and back to digital layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.layers.conv import AnalogConv
from lionheart.analog.layers.linear import AnalogLinear
from lionheart.analog.layers.wrappers import CHILD, AnalogWrapper, is_view, wrapper_for, wrapper_unsupported_reason
from lionheart.analog.likeness import MODULE_STATE, Likeness, exchange
from lionheart.analog.noise import POOL_SIZE, NoiseSource
from lionheart.devices import TileSpec, differ_in_policy
from lionheart.errors import ConfigError, UnsupportedLayerError, check_type, suggest
from lionheart.graph.attachments import find_attached_reason
from lionheart.graph.layer_types import PlacedProjection, Projection, describe_module, find_projections
from lionheart.mapping import LayerMapping, Placement
from lionheart.partition import partition_matrix

#: Attribute and value, by module type, that disable PyTorch's fused encoder, which reads weights instead of calling layers.
_FUSED: dict[type[nn.Module], tuple[str, int]] = {
    nn.TransformerEncoderLayer: ("activation_relu_or_gelu", 0),
    nn.TransformerEncoder: ("use_nested_tensor", False),
}
_KEPT = "_before_analog"
#: Tile settings that `set_tiles_` may change, besides the kind of input range.
_CHANGEABLE = (
    "drift_compensation",
    "column_calibration",
    "n_reads",
    "row_copies",
    "column_copies",
    "device_pairs",
    "digital_weights",
)


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Return a dictionary of the analog layers of a model, with the fully qualified names of their projections as keys.

    A projection is a weight matrix, for example the weight of a linear layer or one of the four matrices in an attention layer.
    """
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
    """Convert a model in place so that exactly the projections (weight matrices) that are analog in `mapping` run on tiles.

    Analog layers that remain analog keep their state, unless the mapping changes their read policy: they are then built again,
    without an input range and limits of clipping from the spread of weights. Analog layers whose projections are not analog in
    the mapping are converted back to digital layers. The parameters remain the same objects, so an optimiser remains valid, and
    a ``state_dict`` of the digital model can be loaded. Hooks, buffers and attributes of a layer are kept in both directions.
    If several projections share a weight and one of the projections is analog in the mapping, all projections with this weight
    become analog.

    Args:
        model: Model to convert, changed in place.
        mapping: Placement of each projection. Projections that the mapping does not name are digital.
        tile: Tile settings for the layers that become analog.
        generator: Source of noise in the analog layers until `seed_noise_` sets another generator; None = a new generator with
            seed 0. Ignored if the model already has analog layers.

    Returns:
        The same model.

    Raises:
        ConfigError: The mapping names a projection that the model does not have, or the model itself is the layer to convert.
        UnsupportedLayerError: A projection that is analog in the mapping cannot run on tiles, or the conversion would drop
            something that is attached to a layer.
    """
    check_type(mapping, LayerMapping, "convert: mapping", hint="for example LayerMapping.from_analog(graph, names)")
    check_type(tile, TileSpec, "convert: tile", hint="for example TileSpec.pcm()")
    placed = list(find_projections(model, describe_present))
    wanted = _resolve(placed, mapping, model)
    present = analog_layers(model)
    _check_ways_back(model, wanted)
    for each in placed:
        if each.fqn in wanted and each.fqn not in present:
            _check_supported(each, model)
    device = next(model.parameters()).device
    noise = next((layer.noise for layer in present.values()), None) or NoiseSource(
        generator or torch.Generator(device=device).manual_seed(0), POOL_SIZE
    )
    modules: dict[nn.Module, list[PlacedProjection]] = {}
    for each in placed:
        modules.setdefault(each.module, []).append(each)
    for module, projections in modules.items():
        tiles = {each.projection.name: mapping.tile_of(each.fqn, tile) for each in projections if each.fqn in wanted}
        _move_(model, module, projections[0], tiles, noise)
    _keep_from_fusing_(model)
    return model


def convert_to_digital_(model: nn.Module) -> nn.Module:
    """Replace each analog layer in place by its original digital layer with the current weights, and return the same model."""
    nothing = LayerMapping(dict.fromkeys(analog_layers(model), Placement.DIGITAL))
    return convert_to_analog_(model, nothing, TileSpec.ideal())


def set_tiles_(model: nn.Module, tiles: Mapping[str, TileSpec]) -> nn.Module:
    """Change drift compensation, column calibration, read policy or the kind of input range of analog layers.

    The programmed crossbars of the changed layers are discarded. Weights and calibrated input ranges are kept; noise and
    bounds of another read policy may need other ranges. If the number of digital weights changes, they are chosen again from
    the current weights.

    Args:
        model: Model with analog layers, changed in place.
        tiles: New tile settings for each layer to change, by the layer's fully qualified name. The input range may change
            between static, sample and dynamic. Settings other than those named above must be equal to the present settings.

    Returns:
        The same model.

    Raises:
        ConfigError: A name is not the name of an analog layer, or new tile settings change any other setting.
    """
    layers = analog_layers(model)
    for fqn, tile in tiles.items():
        if fqn not in layers:
            raise ConfigError(
                f"tiles: got {fqn!r}, expected the name of an analog layer",
                hint=suggest(fqn, layers, label="analog layers"),
            )
        present = layers[fqn].tile
        same = {name: getattr(tile, name) for name in _CHANGEABLE}
        if "learned" not in (tile.input_range, present.input_range):
            same["input_range"] = tile.input_range
        if present.replace(**same) != tile:
            raise ConfigError(
                f"tiles: the new tile for layer {fqn!r} differs from the present tile in a setting that cannot be changed; "
                f"expected changes in {', '.join(_CHANGEABLE)} and static, sample or dynamic input_range only",
                hint="to change other settings, convert the layer to digital and then to analog again with the new tile",
            )
    for fqn, tile in tiles.items():
        layers[fqn].use_tile_(tile)
    return model


def swap_analog_layer_(model: nn.Module, fqn: str, new: AnalogLayer) -> None:
    """Replace the analog layer that computes the projection `fqn` by the analog layer `new`."""
    old = analog_layers(model)[fqn]
    wrapper = next((m for m in model.modules() if isinstance(m, AnalogWrapper) and m.holds(old)), None)
    if wrapper is None:
        _replace(model, old, new)
    else:
        wrapper.swap_(old, new)


def describe_present(module: nn.Module) -> list[Projection]:
    """Return the projections (weight matrices) of a module.

    For an analog layer or wrapper, return the projections of the digital module that the layer or wrapper replaces. For an
    analog layer inside a wrapper, return an empty list.
    """
    if isinstance(module, (AnalogWrapper, AnalogLayer)):
        return [] if is_view(module) else describe_module(module.digital)
    return describe_module(module)


def _resolve(placed: Iterable[PlacedProjection], mapping: LayerMapping, model: nn.Module) -> set[str]:
    """Return the fully qualified names of all projections to run on tiles.

    The result contains the analog projections in `mapping`, and all projections that share a weight with an analog projection.
    """
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
                f"mapping: got the layer {fqn!r} of type {type(modules[fqn]).__name__}, expected a registered layer type",
                hint="keep the layer digital, or register its type with lionheart.register_layer_type",
            )
        if fqn not in by_name:
            raise ConfigError(
                f"mapping: got {fqn!r}, expected a layer of the model that has a registered layer type",
                hint=suggest(fqn, by_name, label="projections"),
            )
        keys.add(by_name[fqn].key())
    return {each.fqn for each in by_name.values() if each.key() in keys}


def find_unsupported_reason(placed: PlacedProjection, model: nn.Module) -> str:
    """Return the reason why a projection (weight matrix) of `model` cannot run on tiles.

    Return an empty string if the projection can run on tiles.
    """
    if placed.module is model:
        return "the model itself is the layer to convert, expected a module that contains the layer"
    if placed.is_computed:
        return "the weight is computed from other parameters (parametrised), which tiles cannot follow"
    digital = placed.module.digital if isinstance(placed.module, (AnalogWrapper, AnalogLayer)) else placed.module
    reason = wrapper_unsupported_reason(digital)
    if reason:
        return f"{reason}, which an analog layer does not reproduce"
    attached = find_attached_reason(model, placed.module_fqn, digital)
    return attached or ("" if isinstance(placed.module, Likeness) else find_name_clash(digital))


def find_name_clash(digital: nn.Module) -> str:
    """Return the reason why the names of a digital layer's attributes prevent its conversion, or an empty string."""
    analog_type = wrapper_for(digital) or AnalogLayer
    children = digital._modules.get(CHILD)
    layers = list(children.values()) if isinstance(children, nn.ModuleDict) else []
    added = {"analog_input_range"} & {*digital._buffers, *digital._parameters}
    if added or any(isinstance(each, AnalogLayer) for each in layers):
        return "the layer runs on tiles in another model already; convert that model to digital first"
    names = [*digital.__dict__, *digital._parameters, *digital._buffers, *digital._modules]
    taken = [name for name in names if analog_type.reserves(name)]
    return f"the layer's attribute {taken[0]!r} has the name of an attribute of analog layers" if taken else ""


def _check_supported(placed: PlacedProjection, model: nn.Module) -> None:
    reason = find_unsupported_reason(placed, model)
    if reason and placed.module is model:
        raise ConfigError(f"mapping: {reason}", hint="wrap the layer: nn.Sequential(layer)")
    if reason:
        raise UnsupportedLayerError(
            f"mapping: layer {placed.fqn!r} cannot run on tiles: {reason}", hint="keep the layer digital"
        )


def _check_ways_back(model: nn.Module, wanted: Collection[str]) -> None:
    """Raise if something that was attached to an analog layer would be lost with the layer."""
    for name, module in model.named_modules():
        if isinstance(module, AnalogWrapper):
            names = [each.fqn_in(name) for each in describe_module(module.digital)]
        elif isinstance(module, AnalogLayer) and not is_view(module):
            names = [name]
        else:
            continue
        if not any(each in wanted for each in names):
            module.check_release(name)


def _move_(
    model: nn.Module,
    module: nn.Module,
    placed: PlacedProjection,
    tiles: Mapping[str, TileSpec],
    noise: NoiseSource,
) -> None:
    """Convert a module so that exactly those of its projections that are named in `tiles` run on tiles.

    Args:
        model: Model that contains the module.
        module: Digital or analog module to convert.
        placed: First projection of the module, which gives the matrix size if the module has only one projection.
        tiles: Tile settings of the projections that run on tiles, by their names within the module. All other projections of
            the module become digital.
        noise: Source of noise in the analog layers.
    """
    if isinstance(module, AnalogLayer):
        if tiles and not differ_in_policy(module.tile, next(iter(tiles.values()))):
            return
        digital = module.release()
        _replace(model, module, digital)
        module = digital
    if isinstance(module, AnalogWrapper):
        if tiles:
            module.move_(tiles, noise)
        else:
            _replace(model, module, module.release())
        return
    if not tiles:
        return
    wrapper_type = wrapper_for(module)
    if wrapper_type is None:
        layout, tile = placed.projection, next(iter(tiles.values()))
        partition = partition_matrix(layout.rows, layout.cols, layout.groups, tile.rows, tile.cols)
        layer = AnalogLinear if isinstance(module, nn.Linear) else AnalogConv
        _replace(model, module, layer(module, partition, tile, noise))
    else:
        wrapper = wrapper_type(module)
        _replace(model, module, wrapper)
        wrapper.move_(tiles, noise)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace the module `old` by `new` wherever the modules of the model refer to `old`.

    The places are the names under which `old` is registered, and attributes that hold `old` or one of its methods, directly or
    in lists, tuples, dictionaries and partial functions.
    """
    if isinstance(new, Likeness):
        new.remember_own_names_()
    for name, each in list(model.named_modules(remove_duplicate=False)):
        if each is old:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, new)
    for module in model.modules():
        if module is not new and not is_view(module) and getattr(module, "digital", None) is not old:
            for name, value in list(module.__dict__.items()):
                if name not in MODULE_STATE:
                    module.__dict__[name] = exchange(value, old, new)


def _keep_from_fusing_(model: nn.Module) -> None:
    """Disable PyTorch's fused transformer encoder in modules with analog layers, and enable it again in other modules."""
    for module in model.modules():
        for module_type, (name, value) in _FUSED.items():
            if not isinstance(module, module_type) or not hasattr(module, name):
                continue
            has_analog = any(isinstance(each, (AnalogLayer, AnalogWrapper)) for each in module.modules())
            if has_analog and _KEPT not in module.__dict__:
                module.__dict__[_KEPT] = getattr(module, name)
                setattr(module, name, value)
            elif not has_analog and _KEPT in module.__dict__:
                setattr(module, name, module.__dict__.pop(_KEPT))
