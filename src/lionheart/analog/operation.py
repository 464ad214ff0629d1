"""Interface between a layer and the simulation of its tiles: padding, im2col vectors, and the product of one row of tiles."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class TileOperation(ABC):
    """Base class with the methods that an analog linear layer and an analog convolution implement differently."""

    weight: Tensor

    @property
    def output_dim(self) -> int:
        """Dimension of the layer's outputs, counted from the end: -1 for a linear layer, that of the channels for others."""
        return -1 if self.weight.ndim == 2 else 1 - self.weight.ndim

    @property
    def n_batched_dims(self) -> int:
        """Number of dimensions of inputs with a batch dimension, the least number for a linear layer."""
        return self.weight.ndim

    def arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return `outputs` in the memory layout that the digital layer's outputs have for the inputs `x`."""
        return outputs

    @abstractmethod
    def _pad(self, x: Tensor) -> Tensor:
        """Return the layer inputs `x` with the padding that `multiply` does not add, or `x` itself if none is missing."""

    @abstractmethod
    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """Return the weights of crossbar rows `first` to `last` (exclusive) in the shape that the method `multiply` expects.

        Args:
            weights: Weights of these crossbar rows ``(out, last - first)``.
            first: Index of the first row, that is of the first input in im2col order.
            last: Index after the last row.
        """

    @abstractmethod
    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the part of the layer inputs `x` that crossbar rows `first` to `last` (exclusive) receive."""

    @abstractmethod
    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Return the product of `codes` and the weights `kernel` of one row of tiles, shaped like the layer outputs.

        Args:
            codes: DAC codes of the inputs that the row of tiles receives.
            kernel: Weights of the row of tiles, as returned by the method `kernel`.
        """

    @abstractmethod
    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of the loss with respect to the DAC codes and to the weights, or None if not wanted.

        Args:
            grad: Gradient of the loss with respect to the result of `multiply`.
            codes: DAC codes of the inputs.
            weights: Weights ``(out, in)``.
            wanted: Whether to compute the gradient of the codes, and whether to compute the gradient of the weights.
        """

    @abstractmethod
    def multiply_single(self, x: Tensor, places: tuple[Tensor, Tensor], values: Tensor) -> Tensor:
        """Return the products of single weights, shaped like the layer outputs with ``n`` in place of the output dimension.

        Args:
            x: Inputs of the layer, with the padding that `_pad` adds.
            places: Output ``(n,)`` and input ``(n,)`` of each weight.
            values: Weights ``(n,)``.
        """

    @abstractmethod
    def sample_scale(self, x: Tensor) -> Tensor:
        """Return the largest magnitude of each sample in the inputs `x`, in a shape that broadcasts over inputs and outputs.

        A sample is one image of a convolution, or one token (the last dimension) of a linear layer. A sample of zeros has 1.
        """

    @abstractmethod
    def _to_vectors(self, x: Tensor) -> Tensor:
        """Return the inputs `x` as im2col vectors ``(n, groups * in)``, one for each product with the weight matrix."""

    @abstractmethod
    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        """Return the output vectors `vectors` ``(n, out)`` in the shape of the layer's outputs for the inputs `x`."""

    @abstractmethod
    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return `values` ``(out,)`` in a shape that broadcasts over the layer outputs `outputs`."""
