"""The product of a layer's inputs with its tiles: one pass for inference and training, gradients straight through.

Only what the digital product would keep for its backward pass is kept, the inputs and the weights: codes are made again, so
training takes no more memory than in floating point.
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
    """The weights of one row of tiles as they are used in one pass.

    Args:
        first: First of its inputs.
        last: One after the last of its inputs.
        weights: ``(out, last - first)`` [tile units].
        scale: ``(out,)``, what a weight of 1 stands for.
        kernel: The weights as the product takes them, so that sums come in steps of the ADC.
        out_scale: What one such step stands for, shaped like the outputs.
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
    """One pass over the tiles of a layer: weights, converters, noise.

    Args:
        rows: Rows of tiles; their results are added digitally.
        dtype: Of inputs and outputs.
        input_range: What a full-scale input stands for, ``()``.
        dac_bits: Input converter; None = ideal.
        adc_bits: Output converter; None = ideal.
        bound: Range of the ADC; None = none.
        output_noise: Standard deviation, in full-scale inputs times a weight of 1.
    """

    rows: list[TileSlice]
    dtype: torch.dtype
    input_range: Tensor
    dac_bits: int | None
    adc_bits: int | None
    bound: float | None
    output_noise: float

    def matrix(self) -> Tensor:
        """Return the weights ``(out, in)`` in real units."""
        parts = [row.weights * row.scale.to(row.weights.dtype).unsqueeze(1) for row in self.rows]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Product(Protocol):
    """A linear map as a layer computes it."""

    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the part of the inputs that rows ``first`` to ``last`` of the im2col matrix need."""

    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Multiply the codes of a row of tiles with its weights."""

    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of codes and weights, where wanted."""

    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Shape one value for each output so that it broadcasts over `outputs`."""


def run_tiles(layer: Product, x: Tensor, bias: Tensor | None, job: MVMParams, noise: NoiseSource) -> Tensor:
    """Return the outputs of a layer for inputs `x`: DAC, crossbars, ADC, digital sums over rows of tiles and bias."""
    total: Tensor | None = None
    whole = convert_inputs(x, job.input_range, job.dac_bits) if len(job.rows) == 1 else None
    for row in job.rows:
        # of several rows of tiles each gets its own inputs converted: products are faster on dense inputs than on slices
        part = x if whole is not None else layer.rows_of(x, row.first, row.last)
        codes = whole if whole is not None else convert_inputs(part, job.input_range, job.dac_bits)
        z = layer.multiply(codes, row.kernel)
        numbers = noise.normal_like(z) if job.output_noise > 0 else None
        read_columns(z, numbers, job.output_noise, job.adc_bits, job.bound, in_steps=True)
        if total is not None:
            total.addcmul_(z, row.out_scale)
        elif bias is not None:
            total = torch.addcmul(layer.over_outputs(bias.to(z.dtype), z), z, row.out_scale)
        else:
            total = z.mul_(row.out_scale)
    assert total is not None  # noqa: S101  a partition has at least one row of tiles
    return total


def _stop_where_clipped(grad: Tensor, x: Tensor, input_range: Tensor) -> Tensor:
    """Return the gradient of inputs, 0 where the DAC clips them."""
    if x.device.type != "cpu":
        return torch.where(x.abs() <= input_range, grad, 0)
    stop = _stop_opaquely if torch.compiler.is_compiling() else _stop_on_cpu
    return stop(grad, x, input_range)


def _stop_on_cpu(grad: Tensor, x: Tensor, input_range: Tensor) -> Tensor:
    edge = float(input_range) * (1 + torch.finfo(x.dtype).eps)  # hardtanh's gradient stops at the edge, ours beyond
    stopped: Tensor = torch.ops.aten.hardtanh_backward(grad, x, -edge, edge)
    return stopped


#: The same as an operation that is not compiled: the compiler would store masks, which is slower than storing inputs.
_stop_opaquely = torch.library.custom_op(
    "lionheart::stop_where_clipped",
    _stop_on_cpu,
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor input_range) -> Tensor",  # PyTorch 2.4 cannot read annotations that are strings
)
_stop_opaquely.register_fake(lambda grad, x, input_range: torch.empty_like(grad))


class TileProduct(torch.autograd.Function):
    """`run_tiles` with gradients: of the exact product with the weights used, stopped where the DAC clips."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        input_range: Tensor,
        layer: Product,
        job: MVMParams,
        noise: NoiseSource,
    ) -> Tensor:
        """Run the tiles; keep inputs and weights."""
        ctx.save_for_backward(x, job.matrix())
        ctx.layer, ctx.input_range, ctx.dac_bits = layer, job.input_range, job.dac_bits
        ctx.weight_like = (weight.shape, weight.dtype)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return run_tiles(layer, x, bias, job, noise)

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
