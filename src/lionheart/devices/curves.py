"""Curves, which are functions of a conductance: polynomials, and linear interpolation between points."""

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
    """Return ``c0 + c1 x + c2 x^2 + ...`` for each element of `x`, where ``c0, c1, ...`` are the `coefficients`."""
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total.mul_(x).add_(c)
    return total


def interpolate_points(x: Tensor, points: Sequence[float], values: Sequence[float]) -> Tensor:
    """Return a function that is given at some points, interpolated linearly at each element of `x`.

    Args:
        x: Positions of any shape.
        points: Positions with known values, in strictly ascending order; at least two.
        values: Value at each of the `points`. Outside the range of the points, the value at the nearest point is returned.
    """
    at, of = x.new_tensor(points), x.new_tensor(values)
    right = torch.searchsorted(at, x.contiguous()).clamp_(1, len(points) - 1)
    share = ((x - at[right - 1]) / (at[right] - at[right - 1])).clamp_(0, 1)
    return torch.lerp(of[right - 1], of[right], share)


def evaluate_curve(curve: Curve, g: Tensor, g_max: float) -> Tensor:
    """Return the values of a curve at the conductances `g` [µS], shaped like `g`; `g_max` [µS] scales ``x = g / g_max``."""
    points = [point for point in curve if isinstance(point, tuple)]
    if points:
        return interpolate_points(g, [at for at, _ in points], [value for _, value in points])
    return evaluate_polynomial(g / g_max, [c for c in curve if not isinstance(c, tuple)])


def curve_value(curve: Curve, g: float, g_max: float) -> float:
    """Return the value of a curve at one conductance `g` [µS], computed without PyTorch."""
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
    """Raise a `ValueError` that mentions `name`, unless there are at least `at_least` values in strictly ascending order."""
    if len(values) < at_least:
        raise ValueError(f"the number of entries of {name} must be at least {at_least}, got {len(values)}")
    for one, other in itertools.pairwise(values):
        if other <= one:
            raise ValueError(f"{name} must be in strictly ascending order, got {one} before {other}")
