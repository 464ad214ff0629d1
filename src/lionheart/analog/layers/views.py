"""Digital and analog layers that compute one projection (weight matrix) of a module and use the module's parameters."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.clipping import memory_of
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
    """Digital layer that computes one projection (weight matrix) of a module. The module owns the parameters.

    Args:
        owner: Module that owns the parameters.
        projection: Position and layout of the weight matrix in the parameters of `owner`.
        with_bias: Whether this layer adds the bias. If False, `owner` adds the bias.
    """

    def __init__(self, owner: nn.Module, projection: Projection, *, with_bias: bool) -> None:
        super().__init__()
        self._owner = (owner,)  # in a tuple, so that the owner is not registered as a child
        self.projection, self.with_bias = projection, with_bias

    @property
    def owner(self) -> nn.Module:
        """Module that owns the weight and bias of this layer."""
        return self._owner[0]

    @property
    def weight(self) -> Tensor:
        """Weight ``(out, in)``, as a view of the owner's parameter."""
        stored = self.projection.stored_weight(self.owner)
        return stored.t() if self.projection.inputs_first else stored

    @property
    def bias(self) -> Tensor | None:
        """Bias ``(out,)`` that this layer adds; None if the projection has no bias or the owner adds the bias."""
        return self.projection.stored_bias(self.owner) if self.with_bias else None

    @torch.no_grad()
    def write_(self, weight: Tensor) -> None:
        """Copy `weight` ``(out, in)`` into the owner's parameter."""
        self.weight.copy_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product ``(..., out)`` of the inputs ``(..., in)`` and the weight, plus the bias if `with_bias`."""
        return F.linear(x, self.weight, self.bias)


@final
class ConvView(DigitalProjection):
    """Digital layer that computes the convolution, without bias, of a module whose class overrides ``forward``."""

    @property
    def weight(self) -> Tensor:
        """Kernel of the convolution, in the shape of the owner's parameter."""
        return self.projection.stored_weight(self.owner)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the inputs `x` ``(batch, channels, *size)`` with the owner's kernel, without bias."""
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
    """Digital layer that computes the products in a transposed convolution; `add_up_taps` sums these products.

    Each input position is multiplied with the weights of all kernel positions. For each input position, there are
    ``groups * cols`` products, one for each output channel and kernel position.
    """

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
        """Weight as the kernel ``(groups * cols, rows, 1, ...)`` of a convolution with kernel size 1."""
        layout = self.projection
        taps = layout.stored_weight(self.owner).reshape(layout.groups, layout.rows, layout.cols).transpose(1, 2)
        return taps.reshape(layout.groups * layout.cols, layout.rows, *self.kernel_size)

    @torch.no_grad()
    def write_(self, weight: Tensor) -> None:
        """Copy `weight`, a tensor with the shape of `TapsView.weight`, into the owner's parameter."""
        layout, stored = self.projection, self.projection.stored_weight(self.owner)
        taps = weight.reshape(layout.groups, layout.cols, layout.rows).transpose(1, 2)
        stored.copy_(taps.reshape(stored.shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return the products ``(batch, groups * cols, *size)`` of `x` ``(batch, channels, *size)``, position by position."""
        return cast(Tensor, CONVOLVE[len(self.kernel_size)](x, self.weight, groups=self.groups))


class ProjectionView:
    """Mixin for analog layers that have no parameters and use the weight and bias of a `DigitalProjection`."""

    digital: DigitalProjection
    _shares_state: ClassVar[bool] = False  # weight and bias belong to another module

    @property
    def weight(self) -> Tensor:
        """Weight of the digital layer that this layer replaces."""
        return self.digital.weight

    @property
    def bias(self) -> Tensor | None:
        """Bias of the digital layer that this layer replaces, or None without a bias."""
        return self.digital.bias

    def weight_key(self) -> tuple[int, tuple[int, int] | None]:
        """Return a key for the layer's weight. The keys of two layers are equal if both layers use the same weight."""
        projection = self.digital.projection
        return id(find_tensor(self.digital.owner, projection.weight)), projection.outputs

    def memory(self) -> dict[str, Any]:
        """Return the values of earlier conversions of this projection that the digital module stores for the next one."""
        owner = self.digital.owner
        kept = memory_of(owner.__dict__.get("digital", owner))
        found: dict[str, Any] = kept.setdefault(self.digital.projection.name, {})
        return found

    def has_frozen_weight(self) -> bool:
        """Return whether the weight requires no gradient and must not change."""
        return not find_tensor(self.digital.owner, self.digital.projection.weight).requires_grad

    def expect_weight_(self) -> None:
        """Announce that the ``state_dict`` that is being loaded contains the weight of this layer."""
        self.__dict__["_expects_weight"] = True

    def _loads_weight(self, state_dict: dict[str, Any], prefix: str) -> bool:
        return bool(self.__dict__.pop("_expects_weight", False))

    def _write_weight_(self, weight: Tensor) -> None:
        self.digital.write_(weight)


@final
class AnalogLinearView(ProjectionView, AnalogLinear):  # type: ignore[override]
    """Analog layer that multiplies with one weight matrix of another module and has no parameters of its own."""


@final
class AnalogConvView(ProjectionView, AnalogConv):  # type: ignore[override]
    """Analog layer for convolutions whose class overrides ``forward`` and transposed convolutions, without own parameters."""


def digital_projection(
    module: nn.Module, owner: nn.Module, projection: Projection, *, with_bias: bool
) -> DigitalProjection:
    """Return a digital layer that computes one projection (weight matrix) of a module.

    Args:
        module: Digital module, whose class determines the class of the layer.
        owner: Module that owns the parameters: `module` itself or its wrapper.
        projection: Position and layout of the weight matrix in the parameters.
        with_bias: Whether the layer adds the bias; ignored for convolutions, whose layers add no bias.
    """
    if is_transposed_convolution(module):
        return TapsView(owner, projection, with_bias=False)
    if is_convolution(module):
        return ConvView(owner, projection, with_bias=False)
    return DigitalProjection(owner, projection, with_bias=with_bias)


def analog_view(view: DigitalProjection, tile: TileSpec, noise: NoiseSource) -> AnalogLayer:
    """Return a new analog layer that replaces the digital layer `view` and computes the projection on tiles."""
    layout = view.projection
    partition = partition_matrix(layout.rows, layout.cols, layout.groups, tile.rows, tile.cols)
    layer = AnalogConvView if isinstance(view, (ConvView, TapsView)) else AnalogLinearView
    return layer(view, partition, tile, noise)


def add_up_taps(taps: Tensor, conv: nn.ConvTranspose2d, output_padding: tuple[int, ...]) -> Tensor:
    """Return the outputs of a transposed convolution, given the products of each input position and kernel position.

    Args:
        taps: Products ``(batch, channels * taps, *positions)`` of each input position and each kernel position (tap). The
            kernel positions of a channel are adjacent and in row-major order.
        conv: Transposed convolution with the kernel size, stride, padding and dilation to use.
        output_padding: Output padding of this call for each spatial dimension.

    Returns:
        Outputs of the transposed convolution without bias, ``(batch, channels, *output_positions)``.
    """
    n_taps, channels = math.prod(conv.kernel_size), conv.out_channels
    one_hot = torch.eye(n_taps, dtype=taps.dtype, device=taps.device).view(n_taps, 1, *conv.kernel_size)
    kernel = one_hot.repeat(channels, *[1] * (one_hot.ndim - 1))
    spread = CONVOLVE_TRANSPOSED[len(conv.kernel_size)]
    return cast(Tensor, spread(taps, kernel, None, conv.stride, conv.padding, output_padding, channels, conv.dilation))
