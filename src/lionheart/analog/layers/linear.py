"""Analog layers that replace linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lionheart.analog.base import AnalogLayer


class AnalogLinear(AnalogLayer):
    """Analog layer that replaces `nn.Linear`."""

    def _pad(self, x: Tensor) -> Tensor:
        return x

    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """Return `weights` ``(out, last - first)`` unchanged, because `multiply` expects this shape."""
        return weights

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return ``x[..., first:last]``, the inputs that crossbar rows `first` to `last` (exclusive) receive."""
        return x[..., first:last]

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Return the product ``(..., out)`` of the DAC codes ``(..., rows)`` and the weights `kernel` ``(out, rows)``."""
        return F.linear(codes, kernel)

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the loss gradients for `codes` ``(..., in)`` and `weights` ``(out, in)``, or None where `wanted` is False."""
        grad_codes = grad @ weights if wanted[0] else None
        grad_weights = grad.reshape(-1, grad.shape[-1]).T @ codes.reshape(-1, codes.shape[-1]) if wanted[1] else None
        return grad_codes, grad_weights

    def multiply_single(self, x: Tensor, places: tuple[Tensor, Tensor], values: Tensor) -> Tensor:
        """Return the products ``(..., n)`` of single weights."""
        return x.index_select(-1, places[1]) * values

    def sample_scale(self, x: Tensor) -> Tensor:
        """Return the largest magnitude of each token ``(..., 1)`` of the inputs ``(..., in)``; 1 for a token of zeros."""
        largest = x.abs().amax(dim=-1, keepdim=True)
        return torch.where(largest > 0, largest, 1)

    def _to_vectors(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1])

    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        return vectors.view(*x.shape[:-1], vectors.shape[-1])

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return `values` ``(out,)`` unchanged, which broadcasts over `outputs` ``(..., out)``."""
        return values
