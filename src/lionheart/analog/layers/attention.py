"""Multi-head attention as in `nn.MultiheadAttention`, except that a callback computes the four products with weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.errors import ConfigError, UnsupportedLayerError


class AttentionInputs(NamedTuple):
    """Arguments of ``nn.MultiheadAttention.forward``, in the same order.

    Args:
        query: Queries.
        key: Keys. The scores are the scaled products of queries and keys.
        value: Values. The outputs are averages of the values, weighted by the softmax of the scores.
        key_padding_mask: Boolean mask of keys to ignore (True = ignore), or numbers to add to all scores of each key.
        need_weights: Whether to return the attention weights. If False, ``F.scaled_dot_product_attention`` is used.
        attn_mask: Boolean mask of scores to ignore (True = ignore), or numbers to add to the scores.
        average_attn_weights: Whether to average the returned attention weights over the heads.
        is_causal: Whether `attn_mask` is a causal mask. If True, `attn_mask` is required.
    """

    query: Tensor  # (L, N, embed_dim), (N, L, embed_dim) if batch_first, or (L, embed_dim)
    key: Tensor  # (S, N, kdim), (N, S, kdim) if batch_first, or (S, kdim)
    value: Tensor  # (S, N, vdim), (N, S, vdim) if batch_first, or (S, vdim)
    key_padding_mask: Tensor | None = None  # (N, S) or (S,)
    need_weights: bool = True
    attn_mask: Tensor | None = None  # (L, S) or (N * num_heads, L, S)
    average_attn_weights: bool = True
    is_causal: bool = False


def attend(
    attention: nn.MultiheadAttention, project: Callable[[str, Tensor], Tensor], inputs: AttentionInputs
) -> tuple[Tensor, Tensor | None]:
    """Return the result of ``nn.MultiheadAttention.forward``. The function `project` computes the products with weights.

    Args:
        attention: Layer with the settings to use, and with the extra key and value if ``add_bias_kv`` is set. The
            weight matrices of the layer are not used.
        project: Function that is called as ``project(name, x)`` with the names ``in_proj.q``, ``in_proj.k``, ``in_proj.v`` and
            ``out_proj``. The function returns ``x @ W.T + b`` of shape ``(..., out)`` for ``x`` of shape ``(..., in)``.
        inputs: Arguments of ``nn.MultiheadAttention.forward``.

    Returns:
        Outputs with the shape of the queries, and the attention weights after dropout, or None if ``need_weights`` is False.
        The attention weights have the shape ``(N, L, S)`` if averaged over the heads, else ``(N, num_heads, L, S)``. ``N`` is
        omitted for unbatched inputs. ``S`` includes the extra keys that ``add_bias_kv`` and ``add_zero_attn`` append.

    Raises:
        ConfigError: The shape of an input is wrong, the shape or data type of a mask is wrong, or a causal mask is missing.
        UnsupportedLayerError: An input is a nested tensor.
    """
    query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal = inputs
    is_batched = _check_inputs(attention, query, key, value)
    batch_first = attention.batch_first or not is_batched
    if not is_batched:
        query, key, value = (each.unsqueeze(0) for each in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    n_batch, n_queries, n_keys = _sizes(query, key, batch_first)
    scores_shape = (n_batch, attention.num_heads, n_queries, n_keys)
    if is_causal and attn_mask is None:
        raise ConfigError(
            "attention: got is_causal=True without attn_mask, expected a causal attn_mask",
            hint="pass the causal mask as attn_mask, or set is_causal=False",
        )
    relies_on_causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if relies_on_causal else _merge_masks(attention, attn_mask, key_padding_mask, scores_shape, query.dtype)

    heads = [
        _split_heads(project(name, x), attention, batch_first)
        for name, x in (("in_proj.q", query), ("in_proj.k", key), ("in_proj.v", value))
    ]
    keys = _add_extra_keys(heads[1], attention.bias_k, attention)
    values = _add_extra_keys(heads[2], attention.bias_v, attention)
    dropout = attention.dropout if attention.training else 0.0
    weights = None
    if need_weights:
        mixed, weights = _average_explicitly(heads[0], keys, values, mask, dropout)
        weights = weights.mean(dim=1) if average_attn_weights else weights
    else:
        mixed = F.scaled_dot_product_attention(heads[0], keys, values, mask, dropout, relies_on_causal)
    mixed = mixed.transpose(1, 2).flatten(2)  # (N, L, embed_dim)
    out = project("out_proj", mixed if batch_first else mixed.transpose(0, 1))
    if is_batched:
        return out, weights
    return out.squeeze(0), None if weights is None else weights.squeeze(0)


def _check_inputs(attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Raise an error if a shape does not match the layer `attention`. Return whether the inputs have a batch dimension."""
    if query.is_nested or key.is_nested or value.is_nested:
        raise UnsupportedLayerError(
            "attention: got a nested tensor, expected padded tensors",
            hint="pad the inputs and pass a key_padding_mask; for nn.TransformerEncoder, set enable_nested_tensor=False",
        )
    shapes = f"the shapes query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
        raise ConfigError(
            f"attention: got {shapes}, expected three 3-D tensors, or three 2-D tensors without a batch dimension",
            hint="add the batch dimension where it is missing",
        )
    widths = (attention.embed_dim, attention.kdim, attention.vdim)
    if (query.shape[-1], key.shape[-1], value.shape[-1]) != widths:
        raise ConfigError(
            f"attention: got {shapes}, expected {widths} as the sizes of the last dimensions",
            hint="pass inputs of these sizes, which are embed_dim, kdim and vdim of the layer",
        )
    if key.shape[:-1] != value.shape[:-1]:
        raise ConfigError(
            f"attention: got {shapes}, expected a value for every key (equal shapes except for the last dimension)",
            hint="pass keys and values with the same batch size and sequence length",
        )
    batch_axis = 0 if attention.batch_first else 1
    if query.ndim == 3 and query.shape[batch_axis] != key.shape[batch_axis]:
        raise ConfigError(
            f"attention: got {shapes}, expected the same size in dimension {batch_axis}, the batch dimension",
            hint="if the batch is in another dimension, change batch_first of the layer or transpose the inputs",
        )
    return query.ndim == 3


def _sizes(query: Tensor, key: Tensor, batch_first: bool) -> tuple[int, int, int]:
    """Return the batch size, the number of queries and the number of keys, from the shapes of `query` and `key`."""
    if batch_first:
        return query.shape[0], query.shape[1], key.shape[1]
    return query.shape[1], query.shape[0], key.shape[0]


def _merge_masks(
    attention: nn.MultiheadAttention,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    scores_shape: tuple[int, int, int, int],  # (N, num_heads, L, S)
    dtype: torch.dtype,
) -> Tensor | None:  # broadcasts to (N, num_heads, L, S + extra keys)
    """Return the sum of `attn_mask` and `key_padding_mask` as numbers to add to the scores, or None if both are None.

    The sum is 0 for the extra keys that ``add_bias_kv`` and ``add_zero_attn`` append.
    """
    n_batch, n_heads, n_queries, n_keys = scores_shape
    mask = None
    if attn_mask is not None:
        expected = ((n_queries, n_keys), (n_batch * n_heads, n_queries, n_keys))
        if tuple(attn_mask.shape) not in expected:
            raise ConfigError(
                f"attn_mask: got the shape {tuple(attn_mask.shape)}, expected {expected[0]} or {expected[1]}",
                hint="pass a mask (queries, keys) for all heads, or (batch size * number of heads, queries, keys)",
            )
        mask = _to_summand(attn_mask, "attn_mask", dtype)
        mask = mask.reshape(scores_shape if mask.ndim == 3 else (1, 1, n_queries, n_keys))
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (n_batch, n_keys):
            raise ConfigError(
                f"key_padding_mask: got the shape {tuple(key_padding_mask.shape)}, expected {(n_batch, n_keys)}",
                hint="pass one entry for each key of each sequence: (batch, keys), or (keys,) for unbatched inputs",
            )
        padding = _to_summand(key_padding_mask, "key_padding_mask", dtype).view(n_batch, 1, 1, n_keys)
        mask = padding if mask is None else mask + padding
    n_extra = (attention.bias_k is not None) + attention.add_zero_attn
    return mask if mask is None or not n_extra else F.pad(mask, (0, n_extra))


def _to_summand(mask: Tensor, name: str, dtype: torch.dtype) -> Tensor:
    """Convert a boolean mask to numbers, ``-inf`` where True and 0 elsewhere; return a floating-point mask unchanged."""
    if mask.is_floating_point():
        return mask
    if mask.dtype != torch.bool:
        raise ConfigError(
            f"{name}: got a mask of type {mask.dtype}, expected torch.bool (True = ignore) or a floating-point type",
            hint="convert the mask, for example with mask.bool()",
        )
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)


def _split_heads(x: Tensor, attention: nn.MultiheadAttention, batch_first: bool) -> Tensor:
    """Reshape ``(N, L, embed_dim)``, or ``(L, N, embed_dim)`` if not `batch_first`, to ``(N, num_heads, L, head_dim)``."""
    x = x if batch_first else x.transpose(0, 1)
    return x.reshape(*x.shape[:2], attention.num_heads, attention.head_dim).transpose(1, 2)


def _add_extra_keys(
    x: Tensor,  # (N, num_heads, S, head_dim)
    bias: Tensor | None,  # (1, 1, embed_dim)
    attention: nn.MultiheadAttention,
) -> Tensor:  # (N, num_heads, S + extra keys, head_dim)
    """Return the keys (or values) `x` with the key `bias` appended, unless None, and a key of zeros if ``add_zero_attn``."""
    keys = [x]
    if bias is not None:
        keys.append(_split_heads(bias, attention, batch_first=True).expand(len(x), -1, -1, -1))
    if attention.add_zero_attn:
        keys.append(x.new_zeros(len(x), attention.num_heads, 1, attention.head_dim))
    return x if len(keys) == 1 else torch.cat(keys, dim=2)


def _average_explicitly(
    queries: Tensor,  # (N, num_heads, L, head_dim)
    keys: Tensor,  # (N, num_heads, S, head_dim)
    values: Tensor,  # (N, num_heads, S, head_dim)
    mask: Tensor | None,  # broadcasts to (N, num_heads, L, S)
    dropout: float,
) -> tuple[Tensor, Tensor]:  # (N, num_heads, L, head_dim), (N, num_heads, L, S)
    """Return the averages of the values weighted by the attention weights, and the attention weights after dropout."""
    scores = (queries * math.sqrt(1.0 / queries.shape[-1])) @ keys.transpose(-2, -1)
    weights = F.softmax(scores if mask is None else scores + mask.to(scores.dtype), dim=-1)
    weights = F.dropout(weights, dropout) if dropout > 0 else weights
    return weights @ values, weights
