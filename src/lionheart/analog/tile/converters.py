"""DAC and ADC as functions with straight-through gradients.

Both work on whole tensors, in place on memory of their own, because on a CPU memory traffic is what these steps cost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def code_limit(bits: int) -> int:
    """Return the largest code of a symmetric signed converter, ``2^(bits-1) - 1``."""
    return (1 << (bits - 1)) - 1


class _ToCodes(torch.autograd.Function):
    """Round to integer codes and clip; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, input_range: float, limit: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.input_range, ctx.limit = input_range, limit
        return (x * (limit / input_range)).round_().clamp_(-limit, limit)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        edge = ctx.input_range * (1 + torch.finfo(x.dtype).eps)  # hardtanh's gradient stops at the edge, ours beyond
        passed = torch.ops.aten.hardtanh_backward(grads[0].to(x.dtype), x, -edge, edge)
        return passed.mul_(ctx.limit / ctx.input_range), None, None


class _ReadOut(torch.autograd.Function):
    """Add output noise, quantise, clip, scale; the gradient sees the scale alone, as in AIHWKIT."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, noise: Tensor | None, sigma: float, step: float | None, bound: float | None, scale: Tensor
    ) -> Tensor:
        ctx.save_for_backward(scale)
        out = z.to(scale.dtype, copy=True) if noise is None else torch.add(z, noise, alpha=sigma)
        if step is not None:
            out.mul_(1 / step).round_()
            scale, bound = scale * step, None if bound is None else bound / step
        if bound is not None:
            out.clamp_(-bound, bound)
        return out.mul_(scale).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        return grads[0] * ctx.saved_tensors[0].to(grads[0].dtype), None, None, None, None, None


def convert_inputs(x: Tensor, input_range: float, bits: int | None) -> tuple[Tensor, float]:
    """Return what the DAC puts on the rows, and the code that stands for a full-scale input.

    Args:
        x: Inputs of any shape.
        input_range: Inputs beyond it are clipped, > 0.
        bits: Resolution; None passes ``x / input_range`` without rounding or clipping.

    Returns:
        Integer codes as floats and their full-scale value; codes up to 8 bits are exact in bfloat16.
    """
    if bits is None:
        return x / input_range, 1.0
    limit = code_limit(bits)
    codes: Tensor = _ToCodes.apply(x, input_range, limit)  # type: ignore[no-untyped-call]
    return codes, float(limit)


def convert_outputs(
    z: Tensor,
    noise: Tensor | None,
    scale: Tensor,
    *,
    sigma: float,
    full_scale: float,
    bits: int | None,
    bound: float | None,
) -> Tensor:
    """Return what the ADC reads from the columns, in real units.

    Args:
        z: Column sums, in units of `full_scale` codes times tile-unit weights.
        noise: Standard normal numbers shaped like `z`, or None.
        scale: Real units of one full-scale input times a weight of 1, broadcast over `z`.
        sigma: Standard deviation of the output noise, in full-scale inputs times a weight of 1.
        full_scale: The code that stands for a full-scale input.
        bits: Resolution; None = no rounding.
        bound: Range of the ADC in full-scale inputs times a weight of 1; None = no clipping.
    """
    step = None if bits is None or bound is None else bound * full_scale / code_limit(bits)
    limit = None if bound is None else bound * full_scale
    out: Tensor = _ReadOut.apply(z, noise, sigma * full_scale, step, limit, scale / full_scale)  # type: ignore[no-untyped-call]
    return out
