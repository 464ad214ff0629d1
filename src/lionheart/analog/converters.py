"""DAC and ADC as functions that work in place, because on a CPU memory traffic is what these steps cost."""

from __future__ import annotations

import torch
from torch import Tensor


def code_limit(bits: int) -> int:
    """Return the largest code of a symmetric signed converter, ``2^(bits-1) - 1``."""
    return (1 << (bits - 1)) - 1


def full_scale(bits: int | None) -> float:
    """Return what stands for a full-scale input on the rows: the largest code, or 1 without a DAC."""
    return 1.0 if bits is None else float(code_limit(bits))


def convert_inputs(x: Tensor, input_range: Tensor | float, bits: int | None) -> Tensor:
    """Return what the DAC puts on the rows: integer codes as floats, or ``x / input_range`` without a DAC.

    Codes up to 8 bits are exact in bfloat16.

    Args:
        x: Inputs of any shape.
        input_range: Inputs beyond it are clipped, > 0; a number or a tensor ``()``.
        bits: Resolution; None neither rounds nor clips.
    """
    if bits is None:
        return x * (1 / input_range)
    limit = code_limit(bits)
    return (x * (limit / input_range)).round_().clamp_(-limit, limit)


def adc_step(bits: int | None, bound: float | None) -> float:
    """Return what one code of the ADC stands for, in full-scale inputs times a weight of 1; 1 without an ADC."""
    return 1.0 if bits is None or bound is None else bound / code_limit(bits)


def read_columns(
    z: Tensor, noise: Tensor | None, sigma: float, bits: int | None, bound: float | None, *, in_steps: bool = False
) -> Tensor:
    """Add output noise to column sums and convert them, in place.

    Args:
        z: Column sums, in full-scale inputs times a weight of 1; overwritten.
        noise: Standard normal numbers that broadcast over `z`, or None.
        sigma: Standard deviation of the output noise, in full-scale inputs times a weight of 1.
        bits: Resolution; None = no rounding.
        bound: Range of the ADC in full-scale inputs times a weight of 1; None = no clipping.
        in_steps: `z` is, and the result is to be, in steps of the ADC.
    """
    step = adc_step(bits, bound)
    unit = 1.0
    if step != 1.0 and not in_steps:
        z.mul_(1 / step)
        unit = step
    if noise is not None:
        if torch.compiler.is_compiling():
            # PyTorch 2.13 loses `alpha` where it joins the sum with a matrix product before it
            z.add_(noise * (sigma / step))
        else:
            z.add_(noise, alpha=sigma / step)
    if bits is not None:
        z.round_()
    if bound is not None:
        z.clamp_(-bound / step, bound / step)
    return z if unit == 1.0 else z.mul_(unit)
