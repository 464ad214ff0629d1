"""Functions that simulate the digital-to-analog converter (DAC) and the analog-to-digital converter (ADC) of a tile.

The functions work in place where possible, because memory traffic dominates their run time on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

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


@final
@dataclass(frozen=True)
class ColumnRead:
    """Noise and conversion of the column sums of a tile.

    The numbers are relative to the product of a full-scale input and a weight of 1. With copies of the weights on further rows,
    they are in units of one copy.

    Args:
        sigma: Standard deviation of the output noise.
        step: Difference between two adjacent results; 1 without an ADC.
        rounds: Whether sums are rounded to steps.
        bound: Largest magnitude of a result; None = no bound.
        n_reads: Number of reads that are computed one by one and averaged.
        input_noise: Standard deviation of the noise of each DAC output, in full-scale inputs.
        weight_noise: Standard deviation of the noise of each weight in each product.
    """

    sigma: float = 0.0
    step: float = 1.0
    rounds: bool = False
    bound: float | None = None
    n_reads: int = 1
    input_noise: float = 0.0
    weight_noise: float = 0.0

    @property
    def variance(self) -> float:
        """Variance of a result, from output noise and rounding."""
        return self.sigma**2 / self.n_reads + (self.step**2 / 12 if self.rounds else 0.0)


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
    read = ColumnRead(sigma, adc_step(bits, bound), bits is not None, bound)
    return _convert(z, noise, read, in_steps=in_steps)


def average_reads(z: Tensor, draw: Callable[[Tensor], Tensor], read: ColumnRead, *, in_steps: bool = False) -> Tensor:
    """Return the mean of the reads of the column sums of a crossbar, as `read_columns` computes one read.

    Args:
        z: Column sums of any shape; overwritten.
        draw: Function that returns standard normal numbers in the shape of its argument.
        read: Noise, conversion and number of reads.
        in_steps: Whether `z` and the result are given in steps of `read`.
    """
    if read.n_reads == 1:
        return _convert(z, draw(z) if read.sigma > 0 else None, read, in_steps=in_steps)
    total = torch.zeros_like(z)
    for _ in range(read.n_reads):
        total.add_(_convert(z.clone(), draw(z) if read.sigma > 0 else None, read, in_steps=in_steps))
    return total.mul_(1 / read.n_reads)


def _convert(z: Tensor, noise: Tensor | None, read: ColumnRead, *, in_steps: bool) -> Tensor:
    """Return the result of one read of the column sums `z`, computed in place."""
    step, bound = read.step, read.bound
    unit = 1.0
    if step != 1.0 and not in_steps:
        z.mul_(1 / step)
        unit = step
    if noise is not None:
        if torch.compiler.is_compiling():
            # PyTorch 2.13 drops `alpha` when it fuses the sum with a preceding matrix product
            z.add_(noise * (read.sigma / step))
        else:
            z.add_(noise, alpha=read.sigma / step)
    if read.rounds:
        z.round_()
    if bound is not None:
        z.clamp_(-bound / step, bound / step)
    return z if unit == 1.0 else z.mul_(unit)
