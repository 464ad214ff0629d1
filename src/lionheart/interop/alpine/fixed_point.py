"""NumPy versions of the arithmetic in the emitted C++ kernels, with bit-identical results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lionheart.errors import NumericsError
from lionheart.interop.alpine.operations import Window

Ints = NDArray[Any]  # of any integer type
Int8s = NDArray[np.int8]
PARTIAL_SUM_STEPS = 256  # a partial sum counts 1/256 of an ADC step, so that the bias is not rounded to whole ADC steps


def to_fixed_point(value: float) -> tuple[int, int]:
    """Return ``(multiplier, shift)`` such that ``multiplier / 2**shift`` approximates `value`.

    The multiplier is at least 0 and less than 2^31, and the shift is 1 to 62. The approximation has 31 significant bits, or
    fewer if `value` is less than 2^-32.

    Raises:
        NumericsError: `value` is negative, not finite, or at least 2^29.
    """
    if not 0 <= value < 2**29:
        raise NumericsError(
            f"export: got a ratio of {value} between two quantisation scales, expected at least 0 and less than 2^29",
            hint="check the weights and the calibration samples for values that are not finite or extremely large",
        )
    mantissa, exponent = math.frexp(value)
    multiplier, shift = round(mantissa * 2**31), 31 - exponent
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    if shift > 62:
        multiplier, shift = multiplier >> min(shift - 62, 31), 62
    return multiplier, shift


def scale_and_round(x: Ints, multiplier: Any, shift: Any) -> Ints:
    """Return ``round(x * multiplier / 2**shift)`` with halves rounded away from zero.

    The C++ function ``lh_scale`` of emitted programs returns the same integers.
    """
    product = np.asarray(x, np.int64) * np.asarray(multiplier, np.int64)
    shift = np.asarray(shift, np.int64)
    rounded: Ints = (product + (product >> 63) + (np.int64(1) << (shift - 1))) >> shift
    return rounded


def saturate(x: Ints, low: int = -128, high: int = 127) -> Int8s:
    """Clamp integers to the inclusive bounds `low` and `high`, and convert them to int8."""
    return np.clip(x, low, high).astype(np.int8)


def convert_sums(sums: Ints, adc_scale: float) -> Int8s:
    """Return the int8 ADC outputs of a tile without noise for the integer `sums` of inputs times weights.

    The outputs are ``sums * adc_scale``, rounded (halves to even) and clamped to -128 to 127.
    """
    return np.clip(np.rint(sums * adc_scale), -128, 127).astype(np.int8)


def quantise_input(x: NDArray[np.float32], inverse_scale: np.float32) -> Int8s:
    """Return ``round(x * inverse_scale)`` with halves rounded to even, clamped to -128 to 127.

    The C++ function ``lh_quantise_s8`` of emitted programs returns the same integers.
    """
    scaled = np.clip(np.asarray(x, np.float32) * inverse_scale, np.float32(-128), np.float32(127))
    steps: Int8s = np.rint(scaled).astype(np.int8)
    return steps


def gather_patches(x: Int8s, window: Window, groups: int) -> Int8s:
    """Return the input patches of a convolution, in which pixels outside an image are zero.

    Args:
        x: Images ``(n, height, width, channels)``.
        window: Size, stride, padding and dilation of the patches.
        groups: Number of channel groups.

    Returns:
        Patches ``(n, out_h * out_w, groups, kernel_h * kernel_w * channels / groups)``, one patch for each output pixel
        and channel group.
    """
    n, (out_h, out_w) = len(x), window.out
    view = slide(x, window, fill=0)  # (n, out_h, out_w, kernel_h, kernel_w, channels)
    split = view.reshape(n, out_h * out_w, *window.kernel, groups, -1)
    return split.transpose(0, 1, 4, 2, 3, 5).reshape(n, out_h * out_w, groups, -1)


def slide(x: Int8s, window: Window, *, fill: int) -> Int8s:
    """Return the pixels in each position of a sliding window.

    Args:
        x: Images ``(n, height, width, channels)``.
        window: Size, stride, padding and dilation of the window.
        fill: Value of the pixels outside an image.

    Returns:
        Windows ``(n, out_h, out_w, kernel_h, kernel_w, channels)``.
    """
    spans = [
        (out - 1) * s + (k - 1) * d + 1
        for out, s, k, d in zip(window.out, window.stride, window.kernel, window.dilation, strict=True)
    ]
    _, height, width, channels = x.shape
    (top, left), (rows, cols) = window.padding, spans
    padded = np.full((len(x), max(rows, top + height), max(cols, left + width), channels), fill, x.dtype)
    padded[:, top : top + height, left : left + width] = x
    out = np.empty((len(x), *window.out, *window.kernel, channels), x.dtype)
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            y, at = ky * window.dilation[0], kx * window.dilation[1]
            lines = slice(y, y + (window.out[0] - 1) * window.stride[0] + 1, window.stride[0])
            columns = slice(at, at + (window.out[1] - 1) * window.stride[1] + 1, window.stride[1])
            out[:, :, :, ky, kx] = padded[:, lines, columns]
    return out


def multiply(patches: Int8s, weights: Int8s) -> Ints:
    """Multiply input patches by the weight matrix of each group and return the exact sums.

    Args:
        patches: Patches ``(n, pixels, groups, rows)``, where `rows` is the number of inputs of each group's matrix.
        weights: Weights ``(groups, cols, rows)``, where `cols` is the number of outputs of each group's matrix.

    Returns:
        Sums ``(n, pixels, groups, cols)`` as int64. The computation uses float64, which represents all sums exactly.
    """
    product = np.matmul(patches.transpose(0, 2, 1, 3).astype(np.float64), weights.transpose(0, 2, 1).astype(np.float64))
    sums: Ints = product.transpose(0, 2, 1, 3).astype(np.int64)
    return sums
