"""DAC and ADC as functions. They work in place, because memory traffic dominates their cost on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor


def code_limit(bits: int) -> int:
    """Return the largest code of a symmetric signed converter, ``2^(bits-1) - 1``."""
    return (1 << (bits - 1)) - 1


def full_scale(bits: int | None) -> float:
    """Return the value of a full-scale input on the rows: the largest code, or 1 without a DAC."""
    return 1.0 if bits is None else float(code_limit(bits))


def convert_inputs(x: Tensor, input_range: Tensor | float, bits: int | None) -> Tensor:
    """Return the outputs of the DAC: integer codes as floating-point numbers, or ``x / input_range`` without a DAC.

    Codes of up to 8 bits are exact in bfloat16.

    Args:
        x: Inputs of any shape.
        input_range: Magnitude of a full-scale input, > 0, as a number or a tensor ``()``; larger inputs are clipped.
        bits: Resolution [bit]; None = neither rounding nor clipping.
    """
    if bits is None:
        return x * (1 / input_range)
    limit = code_limit(bits)
    return (x * (limit / input_range)).round_().clamp_(-limit, limit)


def adc_step(bits: int | None, bound: float | None) -> float:
    """Return the step of the ADC, in full-scale input times a weight of 1; 1 without an ADC."""
    return 1.0 if bits is None or bound is None else bound / code_limit(bits)


def read_columns(
    z: Tensor, noise: Tensor | None, sigma: float, bits: int | None, bound: float | None, *, in_steps: bool = False
) -> Tensor:
    """Add output noise to column sums and convert them, in place.

    Args:
        z: Column sums, in full-scale input times a weight of 1; overwritten.
        noise: Standard normal numbers that broadcast over `z`; None = no output noise.
        sigma: Standard deviation of the output noise, in full-scale input times a weight of 1.
        bits: Resolution of the ADC [bit]; None = no rounding.
        bound: Largest magnitude that the ADC represents, in full-scale input times a weight of 1; None = no clipping.
        in_steps: Whether `z` and the result are in steps of the ADC.

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
