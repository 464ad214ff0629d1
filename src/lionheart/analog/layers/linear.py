"""Analog layers that replace linear layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lionheart.analog.base import AnalogLayer


class AnalogLinear(AnalogLayer):
    """Analog layer that replaces `nn.Linear`."""

    def _pad(self, x: Tensor) -> Tensor:
        return x

    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """Return the weights of crossbar rows `first` to `last` (exclusive) in the shape that `multiply` expects."""
        return weights

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the part of the inputs `x` that crossbar rows `first` to `last` (exclusive) receive."""
        return x[..., first:last]

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of the DAC codes `codes` and the weights `kernel` of a row of tiles, in the output shape."""
        return F.linear(codes, kernel)

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the loss gradients with respect to `codes` and `weights`, or None where the flag in `wanted` is False."""
        grad_codes = grad @ weights if wanted[0] else None
        grad_weights = grad.reshape(-1, grad.shape[-1]).T @ codes.reshape(-1, codes.shape[-1]) if wanted[1] else None
        return grad_codes, grad_weights

    def _to_vectors(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1])

    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        return vectors.view(*x.shape[:-1], vectors.shape[-1])

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return `values`, one number for each output ``(out,)``, in a shape that broadcasts over the tensor `outputs`."""
        return values
