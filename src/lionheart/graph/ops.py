"""Names that the tensor operations of PyTorch have in layer graphs, and the number of arithmetic operations of a call."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
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
#: Products in which each group of input vectors has its own matrix of a stack. An argument gives the ends of the groups.
_GROUPED = {"_grouped_mm", "_scaled_grouped_mm", "grouped_mm_fallback"}
#: Operations that read the parameters of a norm.
NORMS = {"batch_norm", "layer_norm", "group_norm", "_fused_rms_norm", "rms_norm"}
#: Operations that look up rows of a parameter.
LOOKUPS = {"embedding", "_embedding_bag", "_embedding_bag_forward_only", "embedding_bag", "embedding_renorm"}
#: Operations that choose elements of their first argument by indices in another argument.
GATHERS = {"index", "index_select", "gather", "embedding", "take"}
#: Operations that contain no product, besides elementwise operations.
_PLAIN = {
    *_NO_ARITHMETIC,
    *(
        "cumsum",
        "cumprod",
        "sort",
        "topk",
        "argsort",
        "mean",
        "softmax",
        "_softmax",
        "_log_softmax",
        "logsumexp",
        "std",
    ),
    *("linalg_vector_norm", "var_mean", "std_mean", "aminmax", "scatter_add", "scatter_reduce", "slice_scatter"),
    *("select_scatter", "index_add", "masked_scatter", "masked_select", "nonzero", "pad", "unfold_backward", "take"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d"),
    *(
        "_upsample_nearest_exact2d",
        "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa",
        "native_dropout",
        "expand_copy",
    ),
    *("equal", "isin", "unique", "_unique2", "bucketize", "tril_indices", "rot90", "im2col", "col2im"),
}
#: Products in which the weight may be either factor.
LEFT_OR_RIGHT = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm}
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
    if is_grouped(packet):
        left, right = args[:2]
        return int(left.numel() * right.shape[-1] if left.ndim == right.ndim == 2 else out.numel() * left.shape[-1])
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
        packet: Overload packet of the called operation, for example ``torch.ops.aten.addmm``.
        args: Positional arguments of the call.
    """
    places = (0, 1) if is_grouped(packet) else _FACTORS.get(packet)
    return None if places is None else (args[places[0]], args[places[1]])


def as_matrix(packet: Any, args: tuple[Any, ...], weight: Tensor) -> Tensor:
    """Return the weight of a product as a view or copy of shape ``(rows, cols)``, or ``(groups, rows, cols)`` with groups.

    Args:
        packet: Overload packet of the called operation, for example ``torch.ops.aten.convolution``.
        args: Positional arguments of the call.
        weight: Weight of the call.

    Returns:
        For a convolution, rows are the elements of the kernel of one group, and columns its output channels. For a
        matrix-vector product, rows are the inputs. For any other product, `weight` itself.
    """
    if packet in (aten.mv, aten.addmv):
        return weight.t()
    if packet in (aten.convolution, aten._convolution, aten.convolution_overrideable):
        is_transposed, groups = args[6], args[8]
        matrices: Tensor = weight.reshape(groups, len(weight) // groups, -1)
        matrices = matrices if is_transposed else matrices.transpose(-1, -2)
        return matrices[0] if groups == 1 else matrices
    return weight


def is_grouped(packet: Any) -> bool:
    """Return whether an operation multiplies each group of input vectors with its own matrix."""
    return packet.__name__ in _GROUPED


def group_shares(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, ...] | None:
    """Return the fraction of the input vectors that each matrix of a grouped product multiplies; None for another product.

    If the sizes of the groups are not known, as on the ``meta`` device, all fractions are equal.
    """
    if not is_grouped(packet) or args[1].ndim != 3:
        return None
    n = len(args[1])
    ends = next(
        (each for each in (kwargs.get("offs"), *args[2:]) if isinstance(each, Tensor) and each.dim() == 1), None
    )
    if ends is None or ends.is_meta or ends.is_floating_point() or len(ends) != n or not int(ends[-1]):
        return (1 / n,) * n
    sizes = [int(b) - int(a) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    return tuple(size / sum(sizes) for size in sizes)


def pick_shares(args: tuple[Any, ...], n: int) -> tuple[float, ...]:
    """Return for each of `n` matrices the fraction of the indices of a lookup that chose it.

    If the indices are not known, as on the ``meta`` device, all fractions are equal.
    """
    chosen = [each for each in tree_leaves(args[1:]) if isinstance(each, Tensor)]
    if len(chosen) != 1 or chosen[0].is_meta or chosen[0].is_floating_point() or not chosen[0].numel():
        return (1 / n,) * n
    flat = chosen[0].nonzero()[:, 0] if chosen[0].dtype == torch.bool else chosen[0].flatten() % n
    counts = torch.bincount(flat, minlength=n)[:n].tolist()
    return tuple(count / sum(counts) for count in counts) if sum(counts) else (1 / n,) * n


def hides_product(func: Any, name: str) -> bool:
    """Return whether an operation may contain a product that is not counted, because it is not a known operation."""
    plain = name in _PLAIN or name in _REDUCTIONS or name in LOOKUPS or name in NORMS or name in NO_WORK
    return not plain and torch.Tag.pointwise not in func.tags and name not in _FLOPS_WRITTEN


def run_operation(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation and return its result.

    A grouped product on the ``meta`` device accepts every floating-point type, although PyTorch does not.
    """
    if is_grouped(func._overloadpacket) and args[0].is_meta and args[0].ndim == 2 and args[1].ndim == 3:
        return args[0].new_empty(len(args[0]), args[1].shape[-1])
    return func(*args, **kwargs)


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
