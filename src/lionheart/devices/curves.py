"""Curves, which are functions of a conductance.

A curve is a polynomial, or a linear interpolation between points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from lionheart.extras import lazy_import

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")

#: A function of conductance: coefficients of a polynomial in x = g / g_max, or points (g [µS], value), linear between them.
Curve: TypeAlias = tuple[tuple[float, float], ...] | tuple[float, ...]


def evaluate_polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return the polynomial ``c0 + c1 x + c2 x^2 + ...`` at each element of `x`; ``c0, c1, ...`` are the `coefficients`."""
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total.mul_(x).add_(c)
    return total


def interpolate_points(x: Tensor, points: Sequence[float], values: Sequence[float]) -> Tensor:
    """Return the linear interpolation between the given points at each element of `x`, shaped like `x`.

    Args:
        x: Positions at which the interpolation is evaluated, of any shape.
        points: Positions of the given points, in strictly ascending order; at least two.
        values: Value at each of the `points`. Outside the range of the points, the value at the nearest point is returned.
    """
    at, of = x.new_tensor(points), x.new_tensor(values)
    right = torch.searchsorted(at, x.contiguous()).clamp_(1, len(points) - 1)
    share = ((x - at[right - 1]) / (at[right] - at[right - 1])).clamp_(0, 1)
    return torch.lerp(of[right - 1], of[right], share)


def evaluate_curve(curve: Curve, g: Tensor, g_max: float) -> Tensor:
    """Return the value of a curve at each conductance in `g`, shaped like `g`.

    Args:
        curve: Coefficients of a polynomial in ``x = g / g_max``, lowest power first, or points ``(g [µS], value)``.
        g: Conductances [µS].
        g_max: Largest conductance of a device [µS].
    """
    points = [point for point in curve if isinstance(point, tuple)]
    if points:
        return interpolate_points(g, [at for at, _ in points], [value for _, value in points])
    return evaluate_polynomial(g / g_max, [c for c in curve if not isinstance(c, tuple)])


def curve_value(curve: Curve, g: float, g_max: float) -> float:
    """Return the value of a curve at one conductance, computed without PyTorch.

    Args:
        curve: Coefficients of a polynomial in ``x = g / g_max``, lowest power first, or points ``(g [µS], value)``.
        g: Conductance [µS].
        g_max: Largest conductance of a device [µS].
    """
    points = [point for point in curve if isinstance(point, tuple)]
    if not points:
        coefficients = [c for c in curve if not isinstance(c, tuple)]
        return math.fsum(c * (g / g_max) ** power for power, c in enumerate(coefficients))
    if g <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in itertools.pairwise(points):
        if g <= right:
            return low + (high - low) * (g - left) / (right - left)
    return points[-1][1]


def require_ascending(name: str, values: list[float], at_least: int = 2) -> None:
    """Raise a `ValueError` unless `values` contains at least `at_least` numbers in strictly ascending order.

    `name` is the name of the setting that contains the numbers, for the message of the error.
    """
    if len(values) < at_least:
        raise ValueError(f"the number of entries of {name} must be at least {at_least}, got {len(values)}")
    for one, other in itertools.pairwise(values):
        if other <= one:
            raise ValueError(f"{name} must be in strictly ascending order, got {one} before {other}")
