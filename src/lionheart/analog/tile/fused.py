"""The converters as single passes over memory, compiled by `torch.compile` on first use (seconds, and a C++ compiler).

The same arithmetic as `converters`, up to the rounding of the last multiplication and addition. Tensors are seen as
``(positions, outputs)``; what is not dense in that order takes the plain path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SMALLEST = 1 << 14  # elements below which a call costs more than its pass saves


def as_positions(x: Tensor) -> Tensor | None:
    """Return a view ``(positions, channels)`` of dense outputs or inputs, or None where there is none."""
    if x.numel() < SMALLEST or x.ndim < 2:
        return None
    if x.ndim in (4, 5) and x.shape[1] > 1:
        last = x.movedim(1, -1)
        return last.reshape(-1, last.shape[-1]) if last.is_contiguous() else None
    return x.reshape(-1, x.shape[-1]) if x.ndim < 4 and x.is_contiguous() else None


def _dac(x: Tensor, k: Tensor) -> Tensor:
    return (x * k[0]).round().clamp(-k[1], k[1])


def _adc_noisy(z: Tensor, noise: Tensor, k: Tensor, scale: Tensor, bias: Tensor) -> None:
    z.copy_((z + noise * k[0]).round().clamp(-k[1], k[1]) * scale + bias)


def _adc_added(total: Tensor, z: Tensor, noise: Tensor, k: Tensor, scale: Tensor) -> None:
    total.add_((z + noise * k[0]).round().clamp(-k[1], k[1]) * scale)


_compiled: dict[str, Callable[..., Any]] = {}


def _call(function: Callable[..., Any], *args: Any) -> Any:
    name = function.__name__
    if name not in _compiled:
        _compiled[name] = torch.compile(function, dynamic=True, fullgraph=True)
    return _compiled[name](*args)


def convert_inputs_fused(x: Tensor, constants: Tensor) -> Tensor | None:
    """Return integer codes of `x`, in its memory order; ``constants`` = codes for one unit of `x`, largest code."""
    flat = as_positions(x)
    if flat is None:
        return None
    codes: Tensor = _call(_dac, flat, constants)
    return codes.as_strided(x.shape, x.stride())


def read_columns_fused(
    z: Tensor, noise: Tensor, constants: Tensor, scale: Tensor, bias: Tensor, total: Tensor | None
) -> Tensor | None:
    """Return noisy, converted and scaled column sums, added to `total` or `bias`; `z` (or `total`) is overwritten.

    Args:
        z: Column sums in steps of the ADC.
        noise: Standard normal numbers in the memory order of `z`.
        constants: Standard deviation of the noise and largest code, in steps of the ADC.
        scale: ``(out,)``, what one step stands for.
        bias: ``(out,)``, added when there is no `total`.
        total: Sums of the rows of tiles before this one.
    """
    flat, flat_noise = as_positions(z), as_positions(noise)
    flat_total = None if total is None else as_positions(total)
    if flat is None or flat_noise is None or (total is not None and flat_total is None):
        return None
    if flat_total is not None:
        _call(_adc_added, flat_total, flat, flat_noise, constants, scale)
        return total
    _call(_adc_noisy, flat, flat_noise, constants, scale, bias)
    return z
