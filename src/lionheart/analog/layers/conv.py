"""Analog layers that replace convolutions."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.graph.convolutions import CONVOLVE

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class AnalogConv(AnalogLayer):
    """Analog layer that replaces `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`, including grouped and depthwise convolutions.

    The layer builds the im2col matrix only if the tile settings require separate scaling or noise for each input vector.
    Otherwise the layer convolves the DAC codes of the inputs, which gives the same products.
    """

    def arrange(self, outputs: Tensor, x: Tensor) -> Tensor:
        """See the base class."""
        return like_convolution(outputs, x, self.weight)

    def _pad(self, x: Tensor) -> Tensor:
        conv = cast(nn.Conv2d, self.digital)
        if conv.padding_mode != "zeros":
            return F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
        if conv.padding == "same":
            return F.pad(x, conv._reversed_padding_repeated_twice)
        return x

    def _padding(self) -> tuple[int, ...]:
        """Return the number of zeros that `multiply` adds on each side of each spatial dimension; 0 where `_pad` pads."""
        conv = cast(nn.Conv2d, self.digital)
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            return (0,) * len(conv.kernel_size)
        return tuple(conv.padding)

    def _channels(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last (exclusive) input channel that crossbar rows `first` to `last` (exclusive) receive.

        For a grouped convolution, return the range of all channels of one group, which is ``0, channels per group``.
        """
        conv = cast(nn.Conv2d, self.digital)
        if conv.groups > 1:
            return 0, conv.in_channels // conv.groups
        taps = math.prod(conv.kernel_size)
        return first // taps, math.ceil(last / taps)

    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """Return the weights ``(out, last - first)`` of crossbar rows as a kernel ``(out, channels, *kernel_size)``."""
        conv = cast(nn.Conv2d, self.digital)
        taps = math.prod(conv.kernel_size)
        begin, end = self._channels(first, last)
        if first != begin * taps or last != end * taps:  # tile boundary within a channel: weight 0 for the other tiles
            weights = F.pad(weights, (first - begin * taps, end * taps - last))
        kernel = weights.view(len(weights), end - begin, *conv.kernel_size)
        return kernel.contiguous(memory_format=torch.channels_last) if kernel.ndim == 4 else kernel

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the channels of the inputs `x` that crossbar rows `first` to `last` (exclusive) receive."""
        conv = cast(nn.Conv2d, self.digital)
        begin, end = self._channels(first, last)
        if conv.groups > 1:
            return x
        return x.narrow(x.ndim - len(conv.kernel_size) - 1, begin, end - begin)  # with or without batch dimension

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Return the convolution of `codes` ``(batch, in, *size)`` and `kernel` ``(out, in / groups, *kernel_size)``."""
        conv = cast(nn.Conv2d, self.digital)
        product: Tensor = CONVOLVE[kernel.ndim - 2](
            codes, kernel, None, conv.stride, self._padding(), conv.dilation, conv.groups
        )
        return product

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the loss gradients for `codes` and `weights` ``(out, in)``, or None where the flag in `wanted` is False."""
        conv = cast(nn.Conv2d, self.digital)
        kernel = weights.view(len(weights), -1, *conv.kernel_size)
        if kernel.ndim == 4:
            kernel = kernel.contiguous(memory_format=torch.channels_last)
        batched = codes.ndim == kernel.ndim
        grad_codes, grad_kernel, _ = torch.ops.aten.convolution_backward(
            grad if batched else grad.unsqueeze(0),
            codes if batched else codes.unsqueeze(0),
            kernel,
            None,
            conv.stride,
            self._padding(),
            conv.dilation,
            False,
            [0] * len(conv.kernel_size),
            conv.groups,
            [*wanted, False],
        )
        if grad_codes is not None and not batched:
            grad_codes = grad_codes.squeeze(0)
        return grad_codes, None if grad_kernel is None else grad_kernel.reshape(len(weights), -1)

    def multiply_single(self, x: Tensor, places: tuple[Tensor, Tensor], values: Tensor) -> Tensor:
        """Return the products ``(batch, n, *size)`` of single weights, each a convolution of one channel."""
        conv = cast(nn.Conv2d, self.digital)
        n, taps = len(values), math.prod(conv.kernel_size)
        group = places[0] // (len(self.weight) // conv.groups)
        channels = group * (conv.in_channels // conv.groups) + places[1] // taps
        kernel = values.new_zeros(n, taps).scatter(1, (places[1] % taps).unsqueeze(1), values.unsqueeze(1))
        product: Tensor = CONVOLVE[len(conv.kernel_size)](
            x.index_select(self.output_dim, channels),
            kernel.view(n, 1, *conv.kernel_size),
            None,
            conv.stride,
            self._padding(),
            conv.dilation,
            n,
        )
        return product

    def sample_scale(self, x: Tensor) -> Tensor:
        """Return the largest magnitude of each image, ``(batch, 1, ...)`` or ``(1, ...)``; 1 for an image of zeros."""
        first = 1 if x.ndim == self.n_batched_dims else 0
        largest = x.abs().amax(dim=tuple(range(first, x.ndim)), keepdim=True)
        return torch.where(largest > 0, largest, 1)

    def _to_vectors(self, x: Tensor) -> Tensor:
        conv = cast(nn.Conv2d, self.digital)
        n = len(conv.kernel_size)
        x = x if x.ndim == n + 2 else x.unsqueeze(0)
        x = F.pad(x, [each for size in reversed(self._padding()) for each in (size, size)])
        for axis, (size, stride, gap) in enumerate(zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)):
            x = x.unfold(2 + axis, gap * (size - 1) + 1, stride)[..., ::gap]
        order = (0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n))
        return x.permute(order).reshape(-1, x.shape[1] * math.prod(conv.kernel_size))

    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        conv = cast(nn.Conv2d, self.digital)
        n = len(conv.kernel_size)
        lengths = [
            (size + 2 * pad - gap * (width - 1) - 1) // stride + 1
            for size, pad, gap, width, stride in zip(
                x.shape[-n:], self._padding(), conv.dilation, conv.kernel_size, conv.stride, strict=True
            )
        ]
        out = vectors.view(-1, *lengths, vectors.shape[-1]).movedim(-1, 1)
        return out if x.ndim == n + 2 else out.squeeze(0)

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return `values` ``(out,)`` in the shape ``(out, 1, ...)``, which broadcasts over outputs ``(batch, out, *size)``."""
        return values.view(-1, *[1] * (self.weight.ndim - 2))


def like_convolution(outputs: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the outputs of a convolution in the memory order in which PyTorch's own gives them."""
    if outputs.ndim == weight.ndim - 1:  # no batch dimension
        return like_convolution(outputs.unsqueeze(0), inputs.unsqueeze(0), weight).squeeze(0)
    channels_last = _CHANNELS_LAST.get(weight.ndim)
    if channels_last is not None and (_has_channels_last(inputs) or _has_channels_last(weight)):
        return outputs.contiguous(memory_format=channels_last)
    return outputs.contiguous()


def _has_channels_last(x: Tensor) -> bool:
    """Return whether strides look like channels-last to PyTorch, which wants the first of dimensions of size 1 to say so."""
    smallest = 0
    if x.stride(1) == 0:
        return False
    for dim in (1, *range(x.ndim - 1, 1, -1), 0):
        size, stride = x.shape[dim], x.stride(dim)
        if size == 0 or stride < smallest or (dim == 0 and smallest == x.stride(1)):
            return False
        smallest = stride * max(size, 1)
    return True
