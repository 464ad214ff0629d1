"""Projections inside a module: each as a digital layer that views the module's parameters, and as an analog layer."""

from __future__ import annotations

import math
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.layers.conv import AnalogConv
from lionheart.analog.layers.linear import AnalogLinear
from lionheart.analog.noise import NoiseSource
from lionheart.devices import TileSpec
from lionheart.graph.convolutions import (
    CONVOLVE,
    CONVOLVE_TRANSPOSED,
    is_convolution,
    is_transposed_convolution,
)
from lionheart.graph.layer_types import Projection, find_tensor
from lionheart.graph.usage import multiply_digitally
from lionheart.partition import partition_matrix


class DigitalProjection(nn.Module):
    """One projection of a module as a digital layer with a weight ``(out, in)``; owns no parameters.

    Args:
        owner: Module that owns the parameters.
        projection: Layout of the projection in the module.
        with_bias: Whether this layer adds the bias. If False, the module adds it.
    """

    def __init__(self, owner: nn.Module, projection: Projection, *, with_bias: bool) -> None:
        super().__init__()
        self._owner = (owner,)  # in a tuple, so that the owner is not registered as a child
        self.projection, self.with_bias = projection, with_bias

    @property
    def owner(self) -> nn.Module:
        """The module that owns the parameters."""
        return self._owner[0]

    @property
    def weight(self) -> Tensor:
        """The weight ``(out, in)``, a view of the module's parameter."""
        stored = self.projection.stored_weight(self.owner)
        return stored.t() if self.projection.inputs_first else stored

    @property
    def bias(self) -> Tensor | None:
        """The bias ``(out,)``; None if there is none or if the module adds it."""
        return self.projection.stored_bias(self.owner) if self.with_bias else None

    @torch.no_grad()
    def write_(self, weight: Tensor) -> None:
        """Set the weight, given as ``(out, in)``."""
        self.weight.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projection digitally."""
        return F.linear(x, self.weight, self.bias)


@final
class ConvView(DigitalProjection):
    """The product inside a convolution subclass whose own forward runs."""

    @property
    def weight(self) -> Tensor:
        """The kernel, as the module stores it."""
        return self.projection.stored_weight(self.owner)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the convolution without bias."""
        return multiply_digitally(self.owner, self.projection, self.weight)[0](x)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") and name != "_reversed_padding_repeated_twice":
                raise
            return getattr(self.__dict__["_owner"][0], name)


@final
class TapsView(DigitalProjection):
    """The product in a transposed convolution: each input position times all taps of the kernel, ``groups * cols`` outputs."""

    padding_mode = "zeros"

    def __init__(self, owner: nn.Module, projection: Projection, *, with_bias: bool) -> None:
        super().__init__(owner, projection, with_bias=with_bias)
        ones = (1,) * (find_tensor(owner, projection.weight).ndim - 2)
        self.kernel_size = self.stride = self.dilation = ones
        self.padding, self.groups = tuple(0 for _ in ones), projection.groups
        self.in_channels = projection.rows * projection.groups
        self.out_channels = projection.cols * projection.groups

    @property
    def weight(self) -> Tensor:
        """The taps as the kernel of a convolution of width 1, ``(groups * cols, rows, 1, ...)``."""
        layout = self.projection
        taps = layout.stored_weight(self.owner).reshape(layout.groups, layout.rows, layout.cols).transpose(1, 2)
        return taps.reshape(layout.groups * layout.cols, layout.rows, *self.kernel_size)

    @torch.no_grad()
    def write_(self, weight: Tensor) -> None:
        """Set the weight, given in the shape of `TapsView.weight`."""
        layout, stored = self.projection, self.projection.stored_weight(self.owner)
        taps = weight.reshape(layout.groups, layout.cols, layout.rows).transpose(1, 2)
        stored.copy_(taps.reshape(stored.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the products of the inputs with all taps digitally."""
        return cast(Tensor, CONVOLVE[len(self.kernel_size)](x, self.weight, groups=self.groups))


class ProjectionView:
    """Mixin of analog layers that read weight and bias from a `DigitalProjection` instead of owning parameters."""

    digital: DigitalProjection

    @property
    def weight(self) -> Tensor:
        """The weight of the digital projection."""
        return self.digital.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias of the digital projection, or None."""
        return self.digital.bias

    def weight_key(self) -> tuple[int, tuple[int, int] | None]:
        """Return a key that is equal for all layers that share one weight."""
        projection = self.digital.projection
        return id(find_tensor(self.digital.owner, projection.weight)), projection.outputs

    def _take_parameters(self, digital: nn.Module) -> None:
        """Register no parameters."""

    def _write_weight_(self, weight: Tensor) -> None:
        self.digital.write_(weight)


@final
class AnalogLinearView(ProjectionView, AnalogLinear):  # type: ignore[misc]
    """A linear projection inside a module, on tiles."""


@final
class AnalogConvView(ProjectionView, AnalogConv):  # type: ignore[misc]
    """The product of a convolution inside a module's own forward, or of a transposed convolution, on tiles."""


def digital_projection(
    module: nn.Module, owner: nn.Module, projection: Projection, *, with_bias: bool
) -> DigitalProjection:
    """Return a projection of `module` as a digital layer that reads the parameters from `owner`."""
    if is_transposed_convolution(module):
        return TapsView(owner, projection, with_bias=False)
    if is_convolution(module):
        return ConvView(owner, projection, with_bias=False)
    return DigitalProjection(owner, projection, with_bias=with_bias)


def analog_view(view: DigitalProjection, tile: TileSpec, noise: NoiseSource) -> AnalogLayer:
    """Return the analog layer of a projection inside a module."""
    layout = view.projection
    partition = partition_matrix(layout.rows, layout.cols, layout.groups, tile.rows, tile.cols)
    layer = AnalogConvView if isinstance(view, (ConvView, TapsView)) else AnalogLinearView
    return layer(view, partition, tile, noise)


def add_up_taps(taps: Tensor, conv: nn.ConvTranspose2d, output_padding: tuple[int, ...]) -> Tensor:
    """Add up the tap products of a transposed convolution at their output positions.

    Args:
        taps: Products ``(batch, channels * taps, *positions)``; all kernel positions of a channel in row-major order.
        conv: Transposed convolution that gives the geometry.
        output_padding: Output padding of this call, for each spatial dimension.

    Returns:
        Outputs of the transposed convolution without bias, ``(batch, channels, *output_positions)``.
    """
    n_taps, channels = math.prod(conv.kernel_size), conv.out_channels
    one_hot = torch.eye(n_taps, dtype=taps.dtype, device=taps.device).view(n_taps, 1, *conv.kernel_size)
    kernel = one_hot.repeat(channels, *[1] * (one_hot.ndim - 1))
    spread = CONVOLVE_TRANSPOSED[len(conv.kernel_size)]
    return cast(Tensor, spread(taps, kernel, None, conv.stride, conv.padding, output_padding, channels, conv.dilation))
