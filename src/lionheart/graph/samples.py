"""Find the batch dimension of example inputs, so that a layer graph counts one sample."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from lionheart.graph.nodes import LayerGraph


def cut_batch(model: nn.Module, inputs: Any) -> Iterator[tuple[Any, int]]:
    """Yield pairs of the inputs cut to one sample, and the number of samples, for each dimension that may be the batch.

    The first dimension may be the batch. The second dimension may be the batch if the model has recurrent or attention layers
    with ``batch_first=False``. All tensors with the size of the first tensor in this dimension are cut. Other tensors, such as
    masks and scalars, are kept at first; a second pair cuts them in their first or second dimension, such as the initial state
    of a recurrent layer.
    """
    has_time_first = any(getattr(module, "batch_first", True) is False for module in model.modules())
    tensors = [each for each in tree_leaves(inputs) if isinstance(each, Tensor)]
    for dim in (0, 1) if has_time_first else (0,):
        first = next((each for each in tensors if each.ndim > dim), None)
        if first is None or not first.shape[dim]:
            continue
        n_samples = int(first.shape[dim])
        yield tree_map(partial(_cut, dims=(dim,), n_samples=n_samples), inputs), n_samples
        if n_samples > 1 and any(_batch_dim(each, (dim,), n_samples) is None for each in tensors):
            yield tree_map(partial(_cut, dims=(dim, 0, 1), n_samples=n_samples), inputs), n_samples


def _batch_dim(tensor: Tensor, dims: tuple[int, ...], n_samples: int) -> int | None:
    """Return the first of `dims` in which a tensor has the size `n_samples`, or None."""
    return next((dim for dim in dims if tensor.ndim > dim and tensor.shape[dim] == n_samples), None)


def _cut(value: Any, dims: tuple[int, ...], n_samples: int) -> Any:
    dim = _batch_dim(value, dims, n_samples) if isinstance(value, Tensor) else None
    return value if dim is None else value[:1] if dim == 0 else value.narrow(dim, 0, 1).contiguous()


def is_one_of(part: tuple[LayerGraph, tuple[int, ...]], whole: tuple[LayerGraph, tuple[int, ...]], n: int) -> bool:
    """Return whether a forward pass with cut inputs does the work of one of `n` independent samples.

    That is so if the outputs and the MACs of the whole pass are `n` times those of the cut pass, or equal to them, and if the
    calls of each projection are equal. Samples meet this condition; tokens do not, because the work of attention grows with
    the square of their number, and recurrent layers run once per token.

    Args:
        part: Layer graph and numbers of output elements of the pass with the cut inputs.
        whole: Layer graph and numbers of output elements of the pass with all inputs.
        n: Number of samples.
    """
    (small, few), (large, many) = part, whole
    if len(few) != len(many) or any(b not in (a, n * a) for a, b in zip(few, many, strict=True)):
        return False
    if not any(b == n * a for a, b in zip(few, many, strict=True)):
        return False
    counts, others = _count(small), _count(large)
    if counts.keys() != others.keys():
        return False
    return all(
        others[key][0] in (macs, n * macs) and (calls is None or calls == others[key][1])
        for key, (macs, calls) in counts.items()
    )


def _count(graph: LayerGraph) -> dict[str, tuple[int, int | None]]:
    """Return the MACs and calls by projection. The matrices of a stack have one entry, and so have products of activations."""
    found: dict[str, tuple[int, int | None]] = {}
    for node in graph.nodes:
        name = node.fqn.rstrip("0123456789.") if node.layer_type == "stacked" else node.fqn
        before = found.get(name, (0, 0))[0]
        found[name] = before + node.macs, None if node.layer_type == "stacked" else node.n_calls
    found["products of activations"] = sum(op.macs for op in graph.other_ops), None
    return found
