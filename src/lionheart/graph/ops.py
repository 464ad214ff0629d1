"""Names that the tensor operations of PyTorch have in layer graphs, and the number of arithmetic operations of a call."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

#: Operations that move, view or allocate data without arithmetic.
NO_WORK = {
    *("view", "reshape", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "detach"),
    *("alias", "_to_copy", "clone", "contiguous", "as_strided", "split", "chunk", "unbind", "_unsafe_view", "unfold"),
    *(
        "empty",
        "empty_like",
        "empty_strided",
        "new_empty",
        "split_with_sizes",
        "lift_fresh",
        "diagonal",
        "copy",
        "item",
    ),
    *("view_as_real", "view_as_complex", "_reshape_alias", "_local_scalar_dense", "is_same_size"),
    *("unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes"),
}
NAMES = {
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "_adaptive_avg_pool2d": "avg_pool",
    "avg_pool2d": "avg_pool",
    "mean": "avg_pool",
    "max_pool2d_with_indices": "max_pool",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
}
#: Arithmetic operations and elementary functions per written element; 1 for operations that are not listed.
_FLOPS_WRITTEN = {
    "softmax": 5,  # largest, difference, exponential, sum, quotient
    "_log_softmax": 5,
    "layer_norm": 7,  # mean, difference, square, its mean, product with 1/sigma, scale, shift
    "group_norm": 7,
    "batch_norm": 2,  # folded into scale and shift
    "gelu": 4,  # argument, error function, sum, product
    "silu": 4,  # negative, exponential, sum, quotient
    "sigmoid": 3,
    "hardswish": 4,
    "addcmul": 2,
    "addcdiv": 2,
}
#: Operations with one arithmetic operation per read element.
_REDUCTIONS = {
    "avg_pool",
    "max_pool",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "prod",
    "any",
    "all",
    "argmax",
    "var",
    "norm",
}
#: Operations that look up, select or fill numbers without arithmetic.
_NO_ARITHMETIC = {
    *(
        "embedding",
        "cat",
        "stack",
        "where",
        "masked_fill",
        "index",
        "index_select",
        "gather",
        "scatter",
        "fill",
        "full",
    ),
    *("zeros", "ones", "full_like", "zeros_like", "ones_like", "constant_pad_nd", "arange", "repeat", "roll", "flip"),
    *("index_put", "scalar_tensor", "new_ones", "new_zeros", "new_full", "zero", "tril", "triu", "index_copy"),
}
#: Product -> positions of the arguments that are its factors, inputs first.
_FACTORS: dict[Any, tuple[int, int]] = {
    aten.mm: (0, 1),
    aten.addmm: (1, 2),
    aten.bmm: (0, 1),
    aten.baddbmm: (1, 2),
    aten._scaled_mm: (0, 1),
    aten.convolution: (0, 1),
    aten._convolution: (0, 1),
    aten._slow_conv2d_forward: (0, 1),
    aten.convolution_overrideable: (0, 1),
    aten.cudnn_convolution: (0, 1),
    aten.mv: (1, 0),
    aten.addmv: (2, 1),
    aten.dot: (0, 1),
    aten._trilinear: (0, 1),
}
#: Product -> position of the argument that is added to the product.
_ADDENDS = {aten.addmm: 0, aten.baddbmm: 0, aten.addmv: 0, aten.convolution: 2, aten._convolution: 2}


def macs_of(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int | None:
    """Return the number of multiply-accumulate operations (MACs) of a call, or None if the operation is not a product.

    The FLOP counter of PyTorch gives the number for most products. The counter does not support matrix-vector, vector-vector
    and trilinear products, for which this function derives the number from the shapes of the arguments.

    Args:
        packet: Overload packet of the called operation, for example ``torch.ops.aten.mm``.
        args: Positional arguments of the call.
        kwargs: Keyword arguments of the call.
        out: Result of the call.
    """
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out)) // 2
    if packet in (aten.mv, aten.addmv):
        return int(args[_FACTORS[packet][1]].numel())
    if packet is aten.dot:
        return int(args[0].numel())
    if packet is aten._trilinear:
        sizes = zip(*(_expanded(args, index) for index in range(3)), strict=True)
        return int(math.prod(max(each) for each in sizes))
    return None


def factors_of(packet: Any, args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """Return the two tensors that a product operation multiplies, or None if the operation is not in the table of products.

    In a call by a layer, the first tensor is usually the input of the layer, and the second is its weight. Fused attention is
    an example of an operation that is not in the table.

    Args:
        packet: Overload packet of the called operation, for example ``torch.ops.aten.mm``.
        args: Positional arguments of the call.
    """
    positions = _FACTORS.get(packet)
    return None if positions is None else (args[positions[0]], args[positions[1]])


def has_addend(packet: Any, args: tuple[Any, ...]) -> bool:
    """Return whether a call of a product operation also adds a tensor, such as a bias, to the product.

    Args:
        packet: Overload packet of the called operation, for example ``torch.ops.aten.addmm``.
        args: Positional arguments of the call.
    """
    position = _ADDENDS.get(packet)
    return position is not None and len(args) > position and args[position] is not None


def flops_of(name: str, n_written: int, n_read: int) -> int:
    """Return the number of arithmetic operations and elementary functions in a call that is not a product.

    Args:
        name: Name of the operation, for example ``softmax``.
        n_written: Number of elements that the call writes.
        n_read: Number of elements that the call reads.
    """
    if name in _NO_ARITHMETIC:
        return 0
    return n_read if name in _REDUCTIONS else n_written * _FLOPS_WRITTEN.get(name, 1)


def _expanded(args: tuple[Any, ...], index: int) -> list[int]:
    shape = list(args[index].shape)
    for axis in args[3 + index]:
        shape.insert(axis, 1)
    return shape
