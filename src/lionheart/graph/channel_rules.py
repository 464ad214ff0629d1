"""How tensor operations pass the factors of channels on, for `lionheart.graph.channels`.

A rule is called with the arguments and the result of an operation. It sets the channels of the result and returns True, or it
returns False if the operation does not pass factors on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lionheart.graph.channel_book import ChannelBook, collapse
from lionheart.graph.ops import NAMES, NORMS

Rule = Callable[[ChannelBook, Any, tuple[Any, ...], dict[str, Any], Any], bool]

_RESHAPES = {"view", "_unsafe_view", "reshape", "_reshape_alias"}
_SAME = {"clone", "contiguous", "detach", "alias", "_to_copy", "lift_fresh", "relu", "leaky_relu", "neg", "abs"}
_COPIES = {"clone", "contiguous", "_to_copy"}
_VIEWS = {"t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "unbind"} | {
    *("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes")
}
_POOLS = {  # operation -> number of spatial dimensions
    **{f"{kind}_pool{n}d": n for kind in ("max", "avg", "_adaptive_avg", "adaptive_max") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": n for n in (2, 3)},
    **{f"upsample_nearest{n}d": n for n in (1, 2, 3)},
    **{"upsample_bilinear2d": 2, "upsample_linear1d": 1, "upsample_trilinear3d": 3},
}
_REDUCTIONS = {"mean", "sum", "amax", "amin"}
_READS_SHAPE = {"empty_like", "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_empty"}


def follow_operation(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    """Follow the channels through one operation that has run.

    Args:
        book: Channels and their uses so far; changed in place.
        func: Operation.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        result: Its result.
    """
    name = func._overloadpacket.__name__.rstrip("_")
    known = NAMES.get(name, name)
    inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    outputs = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
    if name in _READS_SHAPE:
        return
    rule = _NORMS if known in NORMS else _RULES.get(name)
    if rule is not None and rule(book, func, args, kwargs, result):
        return
    moves = name in _VIEWS | _RESHAPES | {"detach", "alias"}
    for each in inputs:
        if not moves or book.labels(each) is not None:
            book.fix(each, f"{known!r} reads it too")
    reason = "{!r} follows, which does not pass factors on" if len(inputs) == 1 else "{!r} joins it with other values"
    book.block(inputs, reason.format(known))
    source = book.source(inputs[0]) if inputs and (moves or name in _COPIES) else known
    for each in outputs:
        book.set_labels(each, None, source)


def _is_unlabelled(book: ChannelBook, args: Any) -> bool:
    return all(book.labels(each) is None for each in tree_leaves(args))


def _keep(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    labels = book.labels(args[0])
    if labels is None or result.shape != labels.shape or not result.is_floating_point():
        return False
    book.set_labels(result, labels)
    return True


def _reshape(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    labels = book.labels(args[0])
    if labels is None or isinstance(args[1], torch.dtype):
        return False
    book.set_labels(result, labels.reshape(result.shape))
    return True


def _move(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    labels = book.labels(args[0])
    if labels is None or func._schema.is_mutable:
        return False
    moved = func(labels, *args[1:], **kwargs)
    for each, its in zip(tree_leaves(result), tree_leaves(moved), strict=True):
        book.set_labels(each, its)
    return True


def _pool(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    n_dims, labels = _POOLS[func._overloadpacket.__name__.rstrip("_")], book.labels(args[0])
    if labels is None or labels.ndim <= n_dims:
        return False
    collapsed = collapse(labels, range(labels.ndim - n_dims, labels.ndim))
    if collapsed is None:
        return False
    book.set_labels(result if isinstance(result, Tensor) else result[0], collapsed)
    return True


def _reduce(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    labels = book.labels(args[0])
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    if labels is None or not dims:
        return False
    collapsed = collapse(labels, [dim % labels.ndim for dim in dims])
    if collapsed is None:
        return False
    kept = collapsed if result.ndim == labels.ndim else collapsed.reshape(_without(labels, dims))
    book.set_labels(result, kept)
    return True


def _without(labels: Tensor, dims: Any) -> list[int]:
    gone = {dim % labels.ndim for dim in dims}
    return [size for dim, size in enumerate(labels.shape) if dim not in gone]


def _pad(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    labels, value = book.labels(args[0]), args[2] if len(args) > 2 else kwargs.get("value", 0)
    if labels is None or value != 0 or any(size < 0 for size in args[1]):
        return False
    for dim, size in enumerate(result.shape):
        if labels.shape[dim] == size:
            continue
        collapsed = collapse(labels, [dim])
        if collapsed is None:
            return False
        labels = collapsed
    book.set_labels(result, labels)
    return True


def _join(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    if _is_unlabelled(book, args[0]):
        return False
    parts = [book.labels(each) for each in args[0]]
    if any(each.ndim != result.ndim for each in args[0]):
        return False
    zeros = [torch.zeros((), dtype=torch.int32).expand(each.shape) for each in args[0]]
    whole = [zero if part is None else part for part, zero in zip(parts, zeros, strict=True)]
    for each in args[0]:
        book.fix(each, "'cat' reads it too")
    book.set_labels(result, torch.cat(whole, *args[1:], **kwargs))
    return True


def _add(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    """Add a bias to the channels that a projection or a product with factors has produced."""
    if kwargs.get("alpha", 1) != 1 or len(args) != 2 or _is_unlabelled(book, args):
        return False
    for x, bias in (args, args[::-1]):
        labels = book.labels(x)
        if labels is None or not isinstance(bias, Tensor):
            continue
        if not book.is_vector(bias, labels.shape[-1]) or result.shape != labels.shape:
            continue
        channels = collapse(labels, range(labels.ndim - 1))
        if channels is not None:
            book.change(bias, channels.reshape(-1), divides=True)
            book.set_labels(result, labels)
            return True
    return False


def _scale(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    """Multiply with factors of channels, which are parameters, or with values that do not depend on the channels."""
    if len(args) != 2 or kwargs or not result.is_floating_point():
        return False
    divides = func._overloadpacket.__name__.startswith("div")
    for x, factors in (args,) if divides else (args, args[::-1]):
        if not isinstance(x, Tensor) or result.shape != x.shape or book.labels(factors) is not None:
            continue
        is_vector = book.is_vector(factors, x.shape[-1]) and not book.parameter(x)
        if is_vector and not divides and not func._schema.is_mutable:
            labels = book.produce(factors, None)
            book.block([x], "'mul' follows, whose factors are rescaled instead")
            if labels is not None:
                book.set_labels(result, labels)
                return True
        labels = book.labels(x)
        if labels is None:
            continue
        book.fix(factors, "'mul' reads it too")
        book.set_labels(result, labels)
        return True
    return False


def _normalise(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    name, x = func._overloadpacket.__name__.rstrip("_"), args[0]
    known = NAMES.get(name, name)
    last = known in ("layer_norm", "_fused_rms_norm", "rms_norm")
    given = args[2:] if last else args[1:]
    factors, bias = given[0] if given else None, given[1] if len(given) > 1 else None
    bias = None if not isinstance(bias, Tensor) else bias
    if not isinstance(factors, Tensor) or factors.ndim != 1 or (last and len(args[1]) != 1):
        return False
    labels = book.produce(factors, bias)
    if labels is None:
        return False
    book.block([x], f"{known!r} follows, whose factors are rescaled instead")
    n_spatial = 0 if last else x.ndim - 2
    book.set_labels(tree_leaves(result)[0], labels.reshape(-1, *[1] * n_spatial))
    return True


def _multiply(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    """Multiply inputs with the weight of a projection."""
    bias, x, weight = args if len(args) == 3 else (None, *args)
    known = book.parameter(weight)
    if known is None or kwargs or book.labels(bias) is not None or x.ndim != 2:
        return False
    if book.parameter(x) is not None:
        return False
    rows_first = not known[1]  # as stored: a transposed weight counts its inputs in its second dimension
    labels = book.labels(x)
    channels = None if labels is None else collapse(labels, [0])
    if labels is not None and channels is None:
        return False
    used = torch.zeros(1, x.shape[1], dtype=torch.int32) if channels is None else channels
    stored = weight if rows_first else weight.t()
    book.change(stored, used.t() if rows_first else used, divides=False)
    book.note_input(x, channels, known[0])
    produced = None
    if bias is None or book.is_vector(bias, weight.shape[1]):
        produced = book.produce(stored, bias, axis=1 if rows_first else 0)
    else:
        book.fix(bias, "'addmm' reads it too")
    book.set_labels(result, produced, "addmm")
    return True


def _convolve(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    x, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    known = book.parameter(weight)
    if known is None or known[1] or kwargs or transposed or book.parameter(x) is not None:
        return False
    labels, n_spatial = book.labels(x), weight.ndim - 2
    if x.ndim != weight.ndim:
        return False
    used = torch.zeros(x.shape[1], dtype=torch.int32)
    if labels is not None:
        channels = collapse(labels, [0, *range(2, labels.ndim)])
        if channels is None:
            return False
        used = channels.reshape(-1)
    by_group = used.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    book.change(weight, by_group.reshape(*weight.shape[:2], *[1] * n_spatial), divides=False)
    book.note_input(x, None if labels is None else used, known[0])
    produced = book.produce(weight, bias)
    book.set_labels(result, None if produced is None else produced.reshape(-1, *[1] * n_spatial), "convolution")
    return True


def _attend(book: ChannelBook, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
    """Sum vectors with weights that do not depend on the channels, such as the values of an attention."""
    weights, x = args
    labels = book.labels(x)
    if labels is None or book.labels(weights) is not None:
        return False
    channels = collapse(labels, [1])
    if channels is None:
        return False
    book.fix(weights, "'bmm' reads it too")
    book.set_labels(result, channels)
    return True


_NORMS: Rule = _normalise
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, _keep),
    **dict.fromkeys(_RESHAPES, _reshape),
    **dict.fromkeys(_VIEWS, _move),
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("add",), _add),
    **dict.fromkeys(("mul", "div"), _scale),
    **dict.fromkeys(("addmm", "mm"), _multiply),
    "constant_pad_nd": _pad,
    "cat": _join,
    "convolution": _convolve,
    "bmm": _attend,
}
