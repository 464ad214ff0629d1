"""Projections that are parts of a module: what their analog layers take for the digital layer, and those layers."""

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


class Part(nn.Module):
    """One projection of a module as a layer of its own, outputs first; holds no parameters.

    Args:
        owner: The module.
        projection: Its layout.
        with_bias: Whether its bias is added here; else somebody else adds it.
    """

    def __init__(self, owner: nn.Module, projection: Projection, *, with_bias: bool) -> None:
        super().__init__()
        self._owner = (owner,)  # in a tuple, not registered: it is above us
        self.projection, self.with_bias = projection, with_bias

    @property
    def owner(self) -> nn.Module:
        """The module."""
        return self._owner[0]

    @property
    def weight(self) -> Tensor:
        """The weight ``(out, in)``; a view of the module's parameter."""
        stored = self.projection.stored_weight(self.owner)
        return stored.t() if self.projection.inputs_first else stored

    @property
    def bias(self) -> Tensor | None:
        """The bias ``(out,)``, or None."""
        return self.projection.stored_bias(self.owner) if self.with_bias else None

    @torch.no_grad()
    def write_(self, weight: Tensor) -> None:
        """Set the weight, given outputs first."""
        self.weight.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projection digitally."""
        return F.linear(x, self.weight, self.bias)


@final
class ConvView(Part):
    """The product in a convolution whose own forward runs around it."""

    @property
    def weight(self) -> Tensor:
        """The kernel."""
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
class TapsView(Part):
    """The product in a transposed convolution: each input position with the taps of all its outputs, ``groups * cols``."""

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
        """The taps as a convolution of width 1, ``(groups * cols, rows, 1, ...)``."""
        layout = self.projection
        taps = layout.stored_weight(self.owner).reshape(layout.groups, layout.rows, layout.cols).transpose(1, 2)
        return taps.reshape(layout.groups * layout.cols, layout.rows, *self.kernel_size)

    @torch.no_grad()
    def write_(self, weight: Tensor) -> None:
        """Set the weight, given as `weight`."""
        layout, stored = self.projection, self.projection.stored_weight(self.owner)
        taps = weight.reshape(layout.groups, layout.cols, layout.rows).transpose(1, 2)
        stored.copy_(taps.reshape(stored.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the taps digitally."""
        return cast(Tensor, CONVOLVE[len(self.kernel_size)](x, self.weight, groups=self.groups))


class ProjectionView:
    """Takes weight and bias from a part instead of owning them."""

    digital: Part

    @property
    def weight(self) -> Tensor:
        """The weight as the part shows it."""
        return self.digital.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias as the part shows it."""
        return self.digital.bias

    def weight_key(self) -> tuple[int, tuple[int, int] | None]:
        """Return what layers of one and the same weight have in common."""
        projection = self.digital.projection
        return id(find_tensor(self.digital.owner, projection.weight)), projection.outputs

    def _take_parameters(self, digital: nn.Module) -> None:
        """Own nothing."""

    def _write_weight_(self, weight: Tensor) -> None:
        self.digital.write_(weight)


@final
class AnalogLinearView(ProjectionView, AnalogLinear):  # type: ignore[misc]
    """A linear projection that is part of a module, on tiles."""


@final
class AnalogConvView(ProjectionView, AnalogConv):  # type: ignore[misc]
    """A convolution inside a module's own forward, or the taps of a transposed one, on tiles."""


def part_of(module: nn.Module, owner: nn.Module, projection: Projection, *, with_bias: bool) -> Part:
    """Return a projection of `module`, whose parameters `owner` has too, as a layer of its own."""
    if is_transposed_convolution(module):
        return TapsView(owner, projection, with_bias=False)
    if is_convolution(module):
        return ConvView(owner, projection, with_bias=False)
    return Part(owner, projection, with_bias=with_bias)


def analog_view(part: Part, tile: TileSpec, noise: NoiseSource) -> AnalogLayer:
    """Return the analog layer of a part."""
    layout = part.projection
    partition = partition_matrix(layout.rows, layout.cols, layout.groups, tile.rows, tile.cols)
    layer = AnalogConvView if isinstance(part, (ConvView, TapsView)) else AnalogLinearView
    return layer(part, partition, tile, noise)


def add_up_taps(taps: Tensor, conv: nn.ConvTranspose2d, output_padding: tuple[int, ...]) -> Tensor:
    """Add the taps ``(batch, channels * taps, *positions)`` of a transposed convolution up where they fall.

    Args:
        taps: For each output channel all places of the kernel, row-major.
        conv: Gives the geometry.
        output_padding: Of this call.
    """
    n_taps, channels = math.prod(conv.kernel_size), conv.out_channels
    place = torch.eye(n_taps, dtype=taps.dtype, device=taps.device).view(n_taps, 1, *conv.kernel_size)
    kernel = place.repeat(channels, *[1] * (place.ndim - 1))
    spread = CONVOLVE_TRANSPOSED[len(conv.kernel_size)]
    return cast(Tensor, spread(taps, kernel, None, conv.stride, conv.padding, output_padding, channels, conv.dilation))
