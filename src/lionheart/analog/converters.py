"""Functions that simulate the digital-to-analog converter (DAC) and the analog-to-digital converter (ADC) of a tile.

The functions work in place where possible, because memory traffic dominates their run time on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor


def code_limit(bits: int) -> int:
    """Return ``2^(bits-1) - 1``, the largest code of a symmetric signed converter with a resolution of `bits` [bit]."""
    return (1 << (bits - 1)) - 1


def full_scale(bits: int | None) -> float:
    """Return the DAC code of a full-scale input: the largest code for a resolution of `bits` [bit], or 1 if `bits` is None."""
    return 1.0 if bits is None else float(code_limit(bits))


def convert_inputs(x: Tensor, input_range: Tensor | float, bits: int | None) -> Tensor:
    """Return the DAC codes of the inputs `x`.

    Args:
        x: Inputs of any shape.
        input_range: Input that gives the largest code, > 0, as a number or a tensor ``()``. The DAC clips larger magnitudes.
        bits: Resolution of the DAC [bit]; None = no DAC, so that inputs are neither rounded nor clipped.

    Returns:
        Integer codes as floating-point numbers, or ``x / input_range`` without a DAC. Codes with up to 8 bits are exact in
        bfloat16.
    """
    if bits is None:
        return x * (1 / input_range)
    limit = code_limit(bits)
    return (x * (limit / input_range)).round_().clamp_(-limit, limit)


def adc_step(bits: int | None, bound: float | None) -> float:
    """Return the difference between two adjacent ADC values, or 1 if `bits` (the resolution [bit]) or `bound` is None.

    The result and `bound`, the largest magnitude that the ADC represents, are in the same units.
    """
    return 1.0 if bits is None or bound is None else bound / code_limit(bits)


def read_columns(
    z: Tensor, noise: Tensor | None, sigma: float, bits: int | None, bound: float | None, *, in_steps: bool = False
) -> Tensor:
    """Add output noise to the column sums of a crossbar, and round and clip the sums in an ADC, in place.

    The column sums, `sigma` and `bound` are given relative to the product of a full-scale input and a weight of 1. Weights are
    divided by the scale of their column.

    Args:
        z: Column sums of any shape; overwritten with the result.
        noise: Standard normal numbers that broadcast over `z`; None = no output noise.
        sigma: Standard deviation of the output noise.
        bits: Resolution of the ADC [bit]; None = no rounding.
        bound: Largest magnitude that the ADC represents; None = no clipping.
        in_steps: Whether `z` and the result are given in ADC steps. The units of `sigma` and `bound` do not change.

    Returns:
        The tensor `z` with the converted sums.
    """
    step = adc_step(bits, bound)
    unit = 1.0
    if step != 1.0 and not in_steps:
        z.mul_(1 / step)
        unit = step
    if noise is not None:
        if torch.compiler.is_compiling():
            # PyTorch 2.13 drops `alpha` when it fuses the sum with a preceding matrix product
            z.add_(noise * (sigma / step))
        else:
            z.add_(noise, alpha=sigma / step)
    if bits is not None:
        z.round_()
    if bound is not None:
        z.clamp_(-bound / step, bound / step)
    return z if unit == 1.0 else z.mul_(unit)
