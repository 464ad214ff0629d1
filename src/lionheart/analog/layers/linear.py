"""Linear layers on tiles."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lionheart.analog.base import AnalogLayer


class AnalogLinear(AnalogLayer):
    """`nn.Linear` on tiles."""

    def _pad(self, x: Tensor) -> Tensor:
        return x

    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """See the base class."""
        return weights

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """See the base class."""
        return x[..., first:last]

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """See the base class."""
        return F.linear(codes, kernel)

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """See the base class."""
        grad_codes = grad @ weights if wanted[0] else None
        grad_weights = grad.reshape(-1, grad.shape[-1]).T @ codes.reshape(-1, codes.shape[-1]) if wanted[1] else None
        return grad_codes, grad_weights

    def _to_vectors(self, x: Tensor) -> Tensor:
        return x.reshape(-1, x.shape[-1])

    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        return vectors.view(*x.shape[:-1], vectors.shape[-1])

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """See the base class."""
        return values
