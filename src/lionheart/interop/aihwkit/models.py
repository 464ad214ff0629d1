"""Conversion of models with LionHeart analog layers to models with AIHWKIT analog layers, and back.

The conversion keeps the exact weights, biases and input ranges. Programmed weights of a simulated chip are not converted,
because each simulator programs its own chips from the exact weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from aihwkit.nn import AnalogConv1d, AnalogConv2d, AnalogConv3d, AnalogLinear
from aihwkit.nn.modules.base import AnalogLayerBase
from aihwkit.simulator.configs import NoiseManagementType
from aihwkit.simulator.tiles.array import TileModuleArray
from torch import Tensor, nn

from lionheart.analog import AnalogLayer, analog_layers, convert_to_analog_
from lionheart.analog.layers.conv import AnalogConv
from lionheart.analog.layers.wrappers import AnalogProduct, AnalogWrapper
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, UnsupportedLayerError
from lionheart.graph.convolutions import CONVOLUTIONS
from lionheart.interop.aihwkit.config import examine_config, examine_tile, needs_range, report_faults, warn_of_reads
from lionheart.interop.aihwkit.effective import tile_of
from lionheart.mapping import LayerMapping, Placement

_THEIR_CONVOLUTIONS = {1: AnalogConv1d, 2: AnalogConv2d, 3: AnalogConv3d}
#: AIHWKIT's layer classes with the PyTorch classes that they replace.
_CONVOLUTIONS: dict[type[nn.Module], type[nn.Module]] = {
    _THEIR_CONVOLUTIONS[each.n_spatial_dims]: each.module_type for each in CONVOLUTIONS
}


@final
class ConvOverPatches(nn.Module):
    """Convolution computed by AIHWKIT's linear layers on input patches, with one linear layer for each channel group.

    This class replaces convolutions that AIHWKIT does not support: grouped convolutions, convolutions with padding other than
    zeros, and one- or three-dimensional convolutions on torch tiles.

    Args:
        conv: Convolution that defines the geometry; its weights are not used.
        linears: AIHWKIT `AnalogLinear` layers, one for each channel group.
    """

    def __init__(self, conv: nn.Module, linears: Iterable[nn.Module]) -> None:
        super().__init__()
        self.linears = nn.ModuleList(linears)
        self.__dict__["digital"] = conv  # not registered as a child: the parameters belong to another module

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of `x`. Input and output have the shape ``([batch,] channels, *sizes)``."""
        n = len(cast(nn.Conv2d, self.__dict__["digital"]).kernel_size)
        batched = x.ndim == n + 2
        patches = self._patches(x if batched else x.unsqueeze(0))
        vectors = patches.reshape(-1, len(self.linears), patches.shape[-1])
        out = torch.cat([linear(vectors[:, group]) for group, linear in enumerate(self.linears)], dim=-1)
        out = out.view(*patches.shape[:-2], -1).movedim(-1, 1)
        return out if batched else out.squeeze(0)

    def _patches(self, x: Tensor) -> Tensor:
        """Return the input patches ``(batch, *positions, groups, n)`` of `x`, with `n` inputs for each channel group.

        ``positions`` is the spatial shape of the convolution's output.
        """
        conv = cast(nn.Conv2d, self.__dict__["digital"])
        n = len(conv.kernel_size)
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        x = F.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
        for axis, (size, stride, gap) in enumerate(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)):
            x = x.unfold(2 + axis, gap * (size - 1) + 1, stride)[..., ::gap]
        x = x.movedim(1, 1 + n)
        return x.reshape(*x.shape[: 1 + n], conv.groups, -1)


@final
@dataclass(frozen=True)
class PlacedTile:
    """One tile of an AIHWKIT layer, and the part of the layer's weight matrix that the tile stores.

    Args:
        name: Name of the tile module within the layer.
        tile: AIHWKIT's tile module.
        outputs: Range of rows of the weight matrix ``(outputs, inputs)`` that the tile stores.
        inputs: Range of columns of the weight matrix that the tile stores.
    """

    name: str
    tile: Any
    outputs: slice
    inputs: slice


def placed_tiles(linear: nn.Module) -> Iterator[PlacedTile]:
    """Yield the tiles of an AIHWKIT layer, sorted by the index of the first input, then by the index of the first output."""
    module: Any = linear.analog_module
    if not isinstance(module, TileModuleArray):
        yield PlacedTile("analog_module", module, slice(None), slice(None))
        return
    first_in = 0
    for i, (n_in, row) in enumerate(zip(module.in_sizes, cast(Any, module.array), strict=True)):
        first_out = 0
        for j, (n_out, tile) in enumerate(zip(module.out_sizes, row, strict=True)):
            places = slice(first_out, first_out + n_out), slice(first_in, first_in + n_in)
            yield PlacedTile(f"analog_module.array.{i}.{j}", tile, *places)
            first_out += n_out
        first_in += n_in


def build_linears(layer: AnalogLayer, config: Any, *, bias: bool) -> list[Any]:
    """Return an AIHWKIT linear layer with random weights for each channel group of `layer`, with a bias if `bias` is True."""
    out, rows = layer.matrix().shape
    groups = layer.partition.groups
    with torch.random.fork_rng(devices=[]):  # AIHWKIT draws initial weights
        linears = [AnalogLinear(rows, out // groups, bias, rpu_config=config) for _ in range(groups)]
    return [linear.to(layer.weight.device) for linear in linears]


@final
class _Faults:
    """Messages about settings without a counterpart in the other simulator, each with the names of the affected layers."""

    def __init__(self) -> None:
        self._layers: dict[str, list[str]] = {}

    def add(self, fqn: str, faults: list[str]) -> None:
        for fault in faults:
            self._layers.setdefault(fault, []).append(fqn)

    def lines(self) -> list[str]:
        return [f"{', '.join(fqns)}: {fault}" for fault, fqns in self._layers.items()]


# -- LionHeart to AIHWKIT ---------------------------------------------------------------------------------------------


def to_aihwkit_(model: nn.Module, *, compiled: bool = False, strict: bool = True) -> nn.Module:
    """Replace the LionHeart analog layers in a model by AIHWKIT analog layers.

    Linear layers become AIHWKIT's `AnalogLinear`. Two-dimensional convolutions with one channel group and zero padding become
    AIHWKIT's `AnalogConv2d`, unless the amount of padding is given as a string. All other convolutions become
    `ConvOverPatches`.

    Args:
        model: Model with LionHeart analog layers whose input ranges are calibrated; changed in place.
        compiled: Whether to use AIHWKIT's compiled C++ tiles. If False, use AIHWKIT's tiles in PyTorch.
        strict: Whether to raise an error if a setting has no counterpart in AIHWKIT. If False, drop such settings with a
            `ConversionWarning`.

    Returns:
        The changed model. To program and drift all AIHWKIT layers, wrap the model in AIHWKIT's `AnalogWrapper`.

    Raises:
        ConfigError: `strict` is True and settings have no counterpart in AIHWKIT, or layers lack an input range. The model is
            unchanged.
        UnsupportedLayerError: A module such as attention contains analog weight matrices. The model is unchanged.
    """
    layers = analog_layers(model)
    faults = _Faults()
    parts = [m for m in model.modules() if isinstance(m, AnalogWrapper) and not isinstance(m, AnalogProduct)]
    if parts:
        held = [fqn for fqn, layer in layers.items() if any(wrapper.holds(layer) for wrapper in parts)]
        raise UnsupportedLayerError(
            f"{', '.join(held)}: AIHWKIT has no layer for weight matrices inside attention, recurrent or user-defined modules "
            "or transposed convolutions",
            hint="make these layers digital, or map the model with backend='aihwkit', which supports such layers",
        )
    for fqn, layer in layers.items():
        faults.add(fqn, examine_tile(tile_of(layer), compiled=compiled)[1])
    report_faults(faults.lines(), "AIHWKIT's compiled tiles" if compiled else "AIHWKIT's torch tiles", strict=strict)
    unset = [fqn for fqn, layer in layers.items() if needs_range(tile_of(layer)) and layer.analog_input_range == 0]
    if unset:
        raise ConfigError(
            f"{', '.join(unset)}: no input range is set, expected a calibrated model",
            hint="call calibrate_input_ranges_ on the model before the conversion",
        )
    warn_of_reads(layers)
    for fqn, layer in layers.items():
        config = examine_tile(tile_of(layer), compiled=compiled)[0]
        replace_module_(model, fqn, _to_theirs(layer, config).train(layer.training))
    return model


@torch.no_grad()
def _to_theirs(layer: AnalogLayer, config: Any) -> nn.Module:
    if config.forward.noise_management == NoiseManagementType.CONSTANT:
        config.forward.nm_thres = _range_of(layer)
    made, linears = _build(layer, config)
    for linear, weight, bias, bound in zip(
        linears,
        layer.matrix().detach().chunk(len(linears)),
        [None] * len(linears) if layer.bias is None else layer.bias.detach().chunk(len(linears)),
        layer.analog_weight_bound.chunk(len(linears)),
        strict=True,
    ):
        linear.set_weights(weight, bias)
        for place in placed_tiles(linear):
            if not layer.tile.hwa.remap:
                scale = torch.where(bound > 0, bound, 1.0)[place.outputs]
                part = weight[place.outputs, place.inputs] / scale.unsqueeze(1)
                place.tile.set_weights(part, None, apply_weight_scaling=False)
                place.tile.set_scales(scale)
            if place.tile.input_range is not None:
                place.tile.set_input_range(_range_of(layer))
    return made


def _range_of(layer: AnalogLayer) -> float:
    """Return the input range of a LionHeart layer, or 1.0 if no input range is set because its tiles do not need one."""
    return float(layer.analog_input_range.detach()) or 1.0


def _build(layer: AnalogLayer, config: Any) -> tuple[nn.Module, list[Any]]:
    """Return the module that replaces a LionHeart layer, and a list of the AIHWKIT layers in this module.

    The AIHWKIT layers have random weights, which the caller must replace.
    """
    has_bias, conv = layer.bias is not None, cast(Any, layer.digital)
    if not isinstance(layer, AnalogConv):
        linears = build_linears(layer, config, bias=has_bias)
        return linears[0], linears
    if (
        not isinstance(conv, nn.Conv2d)
        or conv.groups > 1
        or conv.padding_mode != "zeros"
        or isinstance(conv.padding, str)
    ):
        linears = build_linears(layer, config, bias=has_bias)
        return ConvOverPatches(layer.copy_digital(), linears), linears
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    with torch.random.fork_rng(devices=[]):  # AIHWKIT draws initial weights
        made = AnalogConv2d(*shape, bias=has_bias, rpu_config=config).to(layer.weight.device)
    return made, [made]


# -- AIHWKIT to LionHeart ---------------------------------------------------------------------------------------------


def from_aihwkit_(model: nn.Module, *, strict: bool = True) -> nn.Module:
    """Replace the AIHWKIT analog layers in a model by LionHeart analog layers.

    The LionHeart layers have exactly the weights that the ``get_weights`` methods of the AIHWKIT layers return.

    Args:
        model: Model with AIHWKIT linear or convolution layers on inference tiles; changed in place.
        strict: Whether to raise an error if a setting has no counterpart in LionHeart or if the tiles of a layer have
            different input ranges. If False, drop such settings with a `ConversionWarning`, and use the largest input range.

    Returns:
        The changed model.

    Raises:
        ConfigError: `strict` is True and settings have no counterpart in LionHeart, or the model is itself a single AIHWKIT
            layer instead of a module that contains AIHWKIT layers. The model is unchanged.
        UnsupportedLayerError: An AIHWKIT layer is neither linear nor a convolution, or its weights have an unexpected size.
    """
    theirs = _their_layers(model)
    tiles: dict[str, TileSpec] = {}
    faults = _Faults()
    for fqn, layer in theirs.items():
        tiles[fqn], found = examine_config(_without_range(_config_of(layer)))
        if len(ranges := set(_ranges_of(layer))) > 1:
            listed = ", ".join(f"{each:g}" for each in sorted(ranges))
            found.append(f"input_range: {listed}, expected one for all tiles")
        faults.add(fqn, found)
    report_faults(faults.lines(), "LionHeart", strict=strict)
    for fqn, layer in theirs.items():
        replace_module_(model, fqn, _to_digital(fqn, layer).train(layer.training))
        analog = [*analog_layers(model), fqn]
        convert_to_analog_(model, LayerMapping(dict.fromkeys(analog, Placement.ANALOG)), tiles[fqn])
        ours = cast(AnalogLayer, model.get_submodule(fqn))
        with torch.no_grad():
            if tiles[fqn].input_range != "dynamic":
                ours.analog_input_range.fill_(max(_ranges_of(layer)))
            if not tiles[fqn].hwa.remap:
                ours.analog_weight_bound.copy_(_bound_of(layer))
    warn_of_reads({fqn: layer for fqn, layer in analog_layers(model).items() if fqn in theirs})
    return model


def _their_layers(model: nn.Module) -> dict[str, nn.Module]:
    over_patches = {inner for m in model.modules() if isinstance(m, ConvOverPatches) for inner in m.linears}
    found: dict[str, Any] = {}
    for fqn, module in model.named_modules():
        if isinstance(module, AnalogLayerBase) and not module.IS_CONTAINER and module not in over_patches:
            if not isinstance(module, (AnalogLinear, *_CONVOLUTIONS)):
                raise UnsupportedLayerError(
                    f"{fqn}: got class {type(module).__name__!r}, expected AIHWKIT's linear or convolution layer",
                    hint="replace this layer by a digital layer before the conversion",
                )
            found[fqn] = module
        elif isinstance(module, ConvOverPatches):
            found[fqn] = module
    if "" in found:
        raise ConfigError(
            "model: got a single AIHWKIT layer, expected a module that contains AIHWKIT layers",
            hint="pass nn.Sequential(layer) instead of the layer",
        )
    return found


def _linears_of(layer: nn.Module) -> list[Any]:
    return [*layer.linears] if isinstance(layer, ConvOverPatches) else [layer]


def _places_of(layer: nn.Module) -> list[PlacedTile]:
    return [place for linear in _linears_of(layer) for place in placed_tiles(linear)]


def _config_of(layer: nn.Module) -> Any:
    return _places_of(layer)[0].tile.rpu_config


def _without_range(config: Any) -> Any:
    """Return `config`. If it has a constant input scale, which `_ranges_of` reads, return a copy with the scale 1 instead."""
    if config.forward.noise_management != NoiseManagementType.CONSTANT:
        return config
    config = copy.deepcopy(config)
    config.forward.nm_thres = 1.0
    return config


def _ranges_of(layer: nn.Module) -> list[float]:
    """Return the input range of each tile of an AIHWKIT layer.

    For a tile without an input range, return the constant input scale, or 1.0 if the tile has no such scale.
    """
    ranges = []
    for place in _places_of(layer):
        forward = place.tile.rpu_config.forward
        if place.tile.input_range is not None:
            ranges.append(float(place.tile.input_range.detach()))
        elif forward.noise_management == NoiseManagementType.CONSTANT and forward.nm_thres > 0:
            ranges.append(float(forward.nm_thres))
        else:
            ranges.append(1.0)
    return ranges


def _bound_of(layer: nn.Module) -> Tensor:
    """Return the largest weight scale of each output over the tiles that store weights of the output, shape ``(out,)``.

    The weight scale of a tile is the factor that converts the weights stored in the tile to the weights of the layer.
    """
    bounds = []
    for linear in _linears_of(layer):
        bound = torch.zeros(linear.get_weights()[0].shape[0])
        for place in placed_tiles(linear):
            scales = place.tile.get_scales()
            bound[place.outputs] = torch.maximum(
                bound[place.outputs], torch.ones(()) if scales is None else scales.cpu()
            )
        bounds.append(bound)
    return torch.cat(bounds)


@torch.no_grad()
def _to_digital(fqn: str, layer: nn.Module) -> nn.Module:
    weights, biases = zip(*(linear.get_weights() for linear in _linears_of(layer)), strict=True)
    weight, has_bias = torch.cat(weights), biases[0] is not None
    device = next(iter(layer.parameters())).device
    if isinstance(layer, ConvOverPatches):
        digital = copy.deepcopy(layer.__dict__["digital"])
    elif isinstance(layer, AnalogLinear):
        digital = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
    else:
        conv = cast(Any, layer)
        build: Any = next(ours for theirs, ours in _CONVOLUTIONS.items() if isinstance(layer, theirs))
        shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        digital = build(*shape, bias=has_bias)
    if math.prod(digital.weight.shape) != weight.numel():
        raise UnsupportedLayerError(
            f"{fqn}: got tile weights of shape {tuple(weight.shape)}, expected {digital.weight.numel()} weights in total",
            hint="replace this layer by a digital layer before the conversion",
        )
    digital.weight = nn.Parameter(weight.view_as(digital.weight).clone())
    if has_bias:
        digital.bias = nn.Parameter(torch.cat(biases).clone())
    return cast(nn.Module, digital.to(device))


def replace_module_(model: nn.Module, fqn: str, module: nn.Module) -> None:
    """Replace the layer with the name `fqn` in `model` by `module`.

    If the model contains the same layer under several names, the layer is replaced under all of these names.
    """
    old = model.get_submodule(fqn)
    for place in [name for name, each in model.named_modules(remove_duplicate=False) if each is old]:
        parent, _, name = place.rpartition(".")
        setattr(model.get_submodule(parent), name, module)
