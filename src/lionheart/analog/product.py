"""Products of the inputs and weights of a layer, computed on tiles, for inference and training.

Gradients use the straight-through estimator: the backward pass ignores the rounding in converters and the output noise. Only
inputs and weights are saved for the backward pass, which computes the DAC codes a second time. An analog layer therefore
needs no more memory in training than a digital layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, library

from lionheart.analog.converters import ColumnRead, average_reads, convert_inputs, full_scale
from lionheart.analog.noise import NoiseSource
from lionheart.errors import UnsupportedLayerError


@final
@dataclass(frozen=True)
class TileSlice:
    """The weights that one row of tiles uses in one forward pass. All tiles in a row receive the same inputs.

    Copies of the weights on other columns that are read separately have a slice each, whose `scale` includes the share of one
    copy in their mean.

    Args:
        first: Index of the first input that the row of tiles receives.
        last: Index after the last input that the row of tiles receives.
        weights: Weights ``(out, last - first)``, divided by `scale`.
        scale: Factor for each output ``(out,)`` that converts `weights` to the units of the digital layer's weight.
        kernel: Weights in the shape that `Product.multiply` expects, scaled so that one step of the ADC is 1 in the products.
        out_scale: Factor for each output that converts ADC steps to layer outputs, in a shape that broadcasts over the outputs.
    """

    first: int
    last: int
    weights: Tensor
    scale: Tensor
    kernel: Tensor
    out_scale: Tensor


@final
@dataclass(frozen=True)
class MVMParams:
    """Weights, converter settings and noise that a layer uses on its tiles in one forward pass.

    Args:
        rows: Weights of each row of tiles. The partial sums of the rows are added digitally.
        dtype: Data type of inputs and outputs.
        input_range: Input of the layer that the DAC converts to full scale, as a tensor ``()``. With ranges of samples, its
            shape broadcasts over inputs and outputs.
        dac_bits: Resolution of the input converter (DAC) [bit]; None = ideal.
        read: Output noise and conversion of the column sums (ADC), and number of reads.
        is_of_samples: Whether `input_range` is that of each sample, which the ``out_scale`` of the rows does not contain.
    """

    rows: list[TileSlice]
    dtype: torch.dtype
    input_range: Tensor
    dac_bits: int | None
    read: ColumnRead
    is_of_samples: bool = False

    def for_samples(self, input_range: Tensor) -> MVMParams:
        """Return a copy with the range of each sample. The present input range must be 1."""
        return MVMParams(self.rows, self.dtype, input_range, self.dac_bits, self.read, is_of_samples=True)

    def matrix(self) -> Tensor:
        """Return the weights of all rows of tiles as one matrix ``(out, in)``, in the units of the digital layer's weight."""
        parts: dict[int, Tensor] = {}
        for row in self.rows:
            part = row.weights * row.scale.to(row.weights.dtype).unsqueeze(1)
            parts[row.first] = parts[row.first] + part if row.first in parts else part
        slices = list(parts.values())
        return slices[0] if len(slices) == 1 else torch.cat(slices, dim=1)


class Product(Protocol):
    """Interface of a layer that `run_tiles` computes on tiles. `lionheart.analog.base.AnalogLayer` implements it."""

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the part of the layer inputs `x` that crossbar rows `first` to `last` (exclusive) receive."""

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Return the partial sums of the layer outputs that one row of tiles computes, shaped like the layer outputs.

        Args:
            codes: DAC codes of the layer inputs that the row of tiles receives.
            kernel: Weights of the row of tiles, in the shape that the method `kernel` returns.
        """

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the loss gradients for `codes` and `weights` ``(out, in)``, or None where the flag in `wanted` is False."""

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Return `values` ``(out,)`` in a shape that broadcasts over the layer outputs `outputs`."""


def run_tiles(layer: Product, x: Tensor, bias: Tensor | None, params: MVMParams, noise: NoiseSource) -> Tensor:
    """Return the outputs of a layer for the inputs `x`, with the product computed on tiles.

    Inputs pass the DAC, the crossbars and the ADC. The partial sums of the rows of tiles and the bias are added digitally.

    Args:
        layer: Layer whose method `multiply` computes the product with the weights of one row of tiles.
        x: Inputs of the layer, with all padding that `multiply` does not add.
        bias: Bias ``(out,)``; None = no bias.
        params: Weights, converter settings and noise of the forward pass.
        noise: Source of the output noise.
    """
    total: Tensor | None = None
    whole = convert_inputs(x, params.input_range, params.dac_bits) if len(params.rows) == 1 else None
    for row in params.rows:
        # with several rows of tiles, the inputs of each are converted separately: products of dense inputs are faster
        read = x if whole is not None else layer.rows_of(x, row.first, row.last)
        codes = whole if whole is not None else convert_inputs(read, params.input_range, params.dac_bits)
        z = layer.multiply(codes, row.kernel)
        z = average_reads(z, noise.normal_like, params.read, in_steps=True)
        z, out_scale = _scale_back(z, row.out_scale, params)
        if total is not None:
            total.addcmul_(z, out_scale)
        elif bias is not None:
            total = torch.addcmul(layer.over_outputs(bias.to(z.dtype), z), z, out_scale)
        else:
            total = z.mul_(out_scale)
    assert total is not None  # noqa: S101  a partition has at least one row of tiles
    return total


def _scale_back(z: Tensor, out_scale: Tensor, params: MVMParams) -> tuple[Tensor, Tensor]:
    """Return sums and scale whose product are the outputs: with ranges of samples, one of both is multiplied by them."""
    if not params.is_of_samples:
        return z, out_scale
    if params.input_range.numel() * out_scale.numel() < z.numel():  # one number for each image and channel
        return z, out_scale * params.input_range
    return z.mul_(params.input_range), out_scale


def _stop_where_clipped(grad: Tensor, x: Tensor, input_range: Tensor) -> Tensor:
    """Return the input gradient `grad` with 0 for each input in `x` whose magnitude exceeds `input_range`."""
    if x.device.type != "cpu":
        return torch.where(x.abs() <= input_range, grad, 0)
    stop = _stop_opaquely if torch.compiler.is_compiling() else _stop_on_cpu
    return stop(grad, x, input_range)


def _stop_on_cpu(grad: Tensor, x: Tensor, input_range: Tensor) -> Tensor:
    edge = float(input_range) * (1 + torch.finfo(x.dtype).eps)  # hardtanh's gradient is 0 at its edge; here it is not
    stopped: Tensor = torch.ops.aten.hardtanh_backward(grad, x, -edge, edge)
    return stopped


#: `_stop_on_cpu` as an operation that the compiler does not trace. Traced code stores masks, which is slower than inputs.
_stop_opaquely = library.custom_op(
    "lionheart::stop_where_clipped",
    _stop_on_cpu,
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor input_range) -> Tensor",  # PyTorch 2.4 cannot read annotations that are strings
)
_stop_opaquely.register_fake(lambda grad, x, input_range: torch.empty_like(grad))


class _Once(torch.autograd.Function):
    """Autograd function whose backward pass raises an error, for gradients that cannot be differentiated.

    The weights with noise are computed without gradients, so the second derivatives would lack the weights.
    """

    @staticmethod
    def forward(ctx: Any, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the first `n` tensors; the others only make the results part of the autograd graph."""
        return tuple(each.detach() for each in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Raise an error.

        Raises:
            UnsupportedLayerError: Always.
        """
        raise UnsupportedLayerError(
            "analog layer: second derivatives were requested, for example by a gradient penalty or a Hessian; "
            "an analog layer has first derivatives only",
            hint="compute second derivatives with the digital network, or use a loss without gradients of gradients",
        )


class TileProduct(torch.autograd.Function):
    """Differentiable version of `run_tiles`.

    The gradients are those of a product without converters and output noise, with the weights that the forward pass used. The
    gradient of an input that the DAC clips is 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        input_range: Tensor,
        layer: Product,
        params: MVMParams,
        noise: NoiseSource,
    ) -> Tensor:
        """Return the layer outputs that `run_tiles` computes for `x`, and save `x` and the weights for the backward pass."""
        ctx.save_for_backward(x, params.matrix())
        ctx.layer, ctx.input_range, ctx.dac_bits = layer, params.input_range, params.dac_bits
        ctx.is_of_samples = params.is_of_samples
        ctx.weight_like = (weight.shape, weight.dtype)
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.weight = weight  # with respect to which second derivatives would be taken
        return run_tiles(layer, x, bias, params, noise)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients for the inputs, weight, bias and input range, and None for the other arguments of `forward`.

        The gradients themselves cannot be differentiated.
        """
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return *_gradients(ctx, grads[0]), None, None, None
        with torch.no_grad():  # with ``create_graph=True``
            found = _gradients(ctx, grads[0])
        return *_refuse_gradients(found, (grads[0], ctx.saved_tensors[0], ctx.weight)), None, None, None


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients for the inputs, weight, bias and input range, given the gradient for the outputs."""
    x, weights = ctx.saved_tensors
    grad = grad.to(x.dtype)
    wants_x, wants_weight, wants_bias, wants_range = ctx.needs_input_grad[:4]
    codes = convert_inputs(x, ctx.input_range, ctx.dac_bits) if wants_weight else x
    unit = 1 / full_scale(ctx.dac_bits) if ctx.is_of_samples else ctx.input_range / full_scale(ctx.dac_bits)
    if ctx.is_of_samples and wants_weight:
        codes = codes.mul_(ctx.input_range)
    grad_x, grad_weight = ctx.layer.multiply_backward(grad, codes, weights, (wants_x or wants_range, wants_weight))
    grad_range = None
    if grad_weight is not None:
        shape, dtype = ctx.weight_like
        grad_weight = grad_weight.to(dtype).mul_(unit).reshape(shape)
    if grad_x is not None and ctx.dac_bits is not None and not ctx.is_of_samples:  # a sample's range clips nothing
        if wants_range:
            grad_range = (grad_x.float() * ((x >= ctx.input_range).float() - (x <= -ctx.input_range).float())).sum()
        grad_x = _stop_where_clipped(grad_x, x, ctx.input_range)
    grad_bias = None
    if wants_bias:
        channels = ctx.layer.over_outputs(weights[:, 0], grad).ndim
        axes = [axis for axis in range(grad.ndim) if axis != grad.ndim - channels]
        grad_bias = (grad.sum(axes) if axes else grad).to(ctx.bias_dtype)
    return grad_x if wants_x else None, grad_weight, grad_bias, grad_range


def _refuse_gradients(grads: tuple[Tensor | None, ...], sources: tuple[Tensor, ...]) -> Any:
    """Return `grads` as tensors that depend on `sources` but raise if they are differentiated."""
    given = [grad for grad in grads if grad is not None]
    made = iter(_Once.apply(len(given), *given, *sources))  # type: ignore[no-untyped-call]
    return tuple(None if grad is None else next(made) for grad in grads)
