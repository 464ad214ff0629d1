"""Describe layers and tensors with quantised weights, so that a layer graph lists them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from lionheart.graph.layer_types import Projection


@final
@dataclass(frozen=True)
class PackedLayer:
    """A layer that stores quantised weights in a packed form instead of parameters.

    Args:
        weight_type: Data type of the weights, such as ``torch.qint8``.
        projections: Weight matrices of the layer.
        width: Number of outputs per input vector.
        time_dim: Dimension of the output along which the layer runs step by step; None for a layer that is not recurrent.
    """

    weight_type: str
    projections: tuple[Projection, ...]
    width: int
    time_dim: int | None = None


def describe_packed(module: nn.Module) -> PackedLayer | None:
    """Return a description of a quantised layer of PyTorch, or None if `module` is another module or its sizes are unknown."""
    if ".quantized." not in f"{type(module).__module__}." or any(True for _ in module.parameters(recurse=False)):
        return None
    layer: Any = module
    if all(isinstance(getattr(layer, name, None), int) for name in ("in_features", "out_features")):
        layout = Projection("linear", layer.in_features, layer.out_features)
        return PackedLayer(_weight_type(layer), (layout,), layer.out_features)
    if isinstance(getattr(layer, "kernel_size", None), tuple) and isinstance(getattr(layer, "in_channels", None), int):
        groups, taps = layer.groups, math.prod(layer.kernel_size)
        layer_type = f"conv{len(layer.kernel_size)}d"
        layout = Projection(layer_type, layer.in_channels // groups * taps, layer.out_channels // groups, groups)
        return PackedLayer(_weight_type(layer), (layout,), layer.out_channels)
    if isinstance(getattr(layer, "hidden_size", None), int) and isinstance(getattr(layer, "num_layers", None), int):
        return _describe_recurrent(layer)
    return None


def _describe_recurrent(layer: Any) -> PackedLayer:
    size, directions = layer.hidden_size, 2 if layer.bidirectional else 1
    gates = {"lstm": 4, "gru": 3}.get(layer.mode.lower(), 1)
    found = []
    for depth in range(layer.num_layers):
        rows = layer.input_size if depth == 0 else size * directions
        for suffix in ("", "_reverse")[:directions]:
            for part, n_inputs in (("ih", rows), ("hh", size)):
                found.append(Projection(layer.mode.lower(), n_inputs, gates * size, name=f"{part}_l{depth}{suffix}"))
    return PackedLayer(str(getattr(layer, "dtype", "packed")), tuple(found), size * directions, int(layer.batch_first))


def _weight_type(layer: Any) -> str:
    weight = layer.weight() if callable(getattr(layer, "weight", None)) else getattr(layer, "weight", None)
    return str(weight.dtype) if isinstance(weight, Tensor) else "packed"


def quantised_type(tensor: Tensor) -> str:
    """Return the type of a quantised tensor: its data type or the name of its class. Empty for a floating-point tensor."""
    plain = (Tensor, nn.Parameter, nn.UninitializedParameter, nn.Buffer)
    found = type(tensor)
    if found not in plain and ("dequantize" in _own_names(found) or hasattr(tensor, "__tensor_flatten__")):
        return found.__name__
    if tensor.is_quantized or not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool):
        return str(tensor.dtype)
    return ""


def _own_names(tensor_class: type) -> set[str]:
    """Return the names that a subclass of `Tensor` and its ancestors below `Tensor` define."""
    ancestors = tensor_class.__mro__
    return {name for each in ancestors[: ancestors.index(Tensor)] for name in vars(each)}
