"""The product of a layer's inputs with its tiles, for inference and training; gradients use the straight-through estimator.

The backward pass keeps only inputs and weights, as a digital product does, and computes the DAC codes again. So training needs
no more memory than in floating point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor

from lionheart.analog.converters import convert_inputs, full_scale, read_columns
from lionheart.analog.noise import NoiseSource


@final
@dataclass(frozen=True)
class TileSlice:
    """The weights of one row of tiles in one pass.

    Args:
        first: Index of the first input of the row of tiles.
        last: Index after the last input.
        weights: Weights ``(out, last - first)`` [tile units].
        scale: Real value of a weight of 1, for each output ``(out,)``.
        kernel: Weights scaled and reshaped for `Product.multiply`, whose sums are then in steps of the ADC.
        out_scale: Real value of one step of the ADC, for each output; broadcasts over the outputs.
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
    """Parameters of one pass over the tiles of a layer: weights, converters, noise.

    Args:
        rows: Rows of tiles; their partial sums are added digitally.
        dtype: Data type of inputs and outputs.
        input_range: Real value of a full-scale input, ``()``.
        dac_bits: Resolution of the input converter [bit]; None = ideal.
        adc_bits: Resolution of the output converter [bit]; None = ideal.
        bound: Range of the ADC, in full-scale input times a weight of 1; None = no bound.
        output_noise: Standard deviation of the output noise, in full-scale input times a weight of 1.
    """

    rows: list[TileSlice]
    dtype: torch.dtype
    input_range: Tensor
    dac_bits: int | None
    adc_bits: int | None
    bound: float | None
    output_noise: float

    def matrix(self) -> Tensor:
        """Return the weights ``(out, in)`` in the units of the digital layer."""
        slices = [row.weights * row.scale.to(row.weights.dtype).unsqueeze(1) for row in self.rows]
        return slices[0] if len(slices) == 1 else torch.cat(slices, dim=1)


class Product(Protocol):
    """The linear map of a layer, as `run_tiles` uses it; see `lionheart.analog.base.AnalogLayer`."""

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the inputs that rows ``first`` to ``last`` of the im2col matrix read."""

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Multiply the DAC codes of a row of tiles with its weights."""

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of codes and weights, or None where `wanted` is False."""

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Reshape ``values (out,)`` so that they broadcast over `outputs`."""


def run_tiles(layer: Product, x: Tensor, bias: Tensor | None, params: MVMParams, noise: NoiseSource) -> Tensor:
    """Return the outputs of a layer: DAC, crossbars, ADC, digital sum over rows of tiles, digital bias.

    Args:
        layer: Linear map of the layer.
        x: Inputs of the layer, padded.
        bias: Bias ``(out,)``, or None.
        params: Weights, converters and noise.
        noise: Source of the output noise.
    """
    total: Tensor | None = None
    whole = convert_inputs(x, params.input_range, params.dac_bits) if len(params.rows) == 1 else None
    for row in params.rows:
        # with several rows of tiles, the inputs of each are converted separately: products of dense inputs are faster
        read = x if whole is not None else layer.rows_of(x, row.first, row.last)
        codes = whole if whole is not None else convert_inputs(read, params.input_range, params.dac_bits)
        z = layer.multiply(codes, row.kernel)
        numbers = noise.normal_like(z) if params.output_noise > 0 else None
        read_columns(z, numbers, params.output_noise, params.adc_bits, params.bound, in_steps=True)
        if total is not None:
            total.addcmul_(z, row.out_scale)
        elif bias is not None:
            total = torch.addcmul(layer.over_outputs(bias.to(z.dtype), z), z, row.out_scale)
        else:
            total = z.mul_(row.out_scale)
    assert total is not None  # noqa: S101  a partition has at least one row of tiles
    return total


def _stop_where_clipped(grad: Tensor, x: Tensor, input_range: Tensor) -> Tensor:
    """Return the gradient of the inputs, set to 0 where the DAC clips the input."""
    if x.device.type != "cpu":
        return torch.where(x.abs() <= input_range, grad, 0)
    stop = _stop_opaquely if torch.compiler.is_compiling() else _stop_on_cpu
    return stop(grad, x, input_range)


def _stop_on_cpu(grad: Tensor, x: Tensor, input_range: Tensor) -> Tensor:
    edge = float(input_range) * (1 + torch.finfo(x.dtype).eps)  # hardtanh's gradient is 0 at its edge; here it is not
    stopped: Tensor = torch.ops.aten.hardtanh_backward(grad, x, -edge, edge)
    return stopped


#: `_stop_on_cpu` as an operation that the compiler does not trace. Traced code stores masks, which is slower than inputs.
_stop_opaquely = torch.library.custom_op(
    "lionheart::stop_where_clipped",
    _stop_on_cpu,
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor input_range) -> Tensor",  # PyTorch 2.4 cannot read annotations that are strings
)
_stop_opaquely.register_fake(lambda grad, x, input_range: torch.empty_like(grad))


class TileProduct(torch.autograd.Function):
    """`run_tiles` with gradients.

    The gradients are those of the exact product with the weights of the pass. The gradient of an input that the DAC clips is 0.
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
        """Run the tiles; save inputs and weights for the backward pass."""
        ctx.save_for_backward(x, params.matrix())
        ctx.layer, ctx.input_range, ctx.dac_bits = layer, params.input_range, params.dac_bits
        ctx.weight_like = (weight.shape, weight.dtype)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return run_tiles(layer, x, bias, params, noise)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of inputs, weight, bias and input range."""
        x, weights = ctx.saved_tensors
        grad = grads[0].to(x.dtype)
        wants_x, wants_weight, wants_bias, wants_range = ctx.needs_input_grad[:4]
        codes = convert_inputs(x, ctx.input_range, ctx.dac_bits) if wants_weight else x
        grad_x, grad_weight = ctx.layer.multiply_backward(grad, codes, weights, (wants_x or wants_range, wants_weight))
        grad_range = None
        if grad_weight is not None:
            unit = ctx.input_range / full_scale(ctx.dac_bits)
            shape, dtype = ctx.weight_like
            grad_weight = grad_weight.to(dtype).mul_(unit).reshape(shape)
        if grad_x is not None and ctx.dac_bits is not None:
            if wants_range:
                grad_range = (grad_x.float() * ((x >= ctx.input_range).float() - (x <= -ctx.input_range).float())).sum()
            grad_x = _stop_where_clipped(grad_x, x, ctx.input_range)
        grad_bias = None
        if wants_bias:
            channels = ctx.layer.over_outputs(weights[:, 0], grad).ndim
            axes = [axis for axis in range(grad.ndim) if axis != grad.ndim - channels]
            grad_bias = (grad.sum(axes) if axes else grad).to(ctx.bias_dtype)
        return grad_x if wants_x else None, grad_weight, grad_bias, grad_range, None, None, None
