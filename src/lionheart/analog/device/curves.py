"""Functions of conductance: polynomials and points, evaluated on tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lionheart.devices import Curve


def evaluate_polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return ``c0 + c1 x + c2 x^2 + ...``."""
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total.mul_(x).add_(c)
    return total


def interpolate_points(x: Tensor, points: Sequence[float], values: Sequence[float]) -> Tensor:
    """Return what lies linearly between the points, ascending; beyond the ends the end values hold."""
    at, of = x.new_tensor(points), x.new_tensor(values)
    right = torch.searchsorted(at, x.contiguous()).clamp_(1, len(points) - 1)
    share = ((x - at[right - 1]) / (at[right] - at[right - 1])).clamp_(0, 1)
    return torch.lerp(of[right - 1], of[right], share)


def evaluate_curve(curve: Curve, g: Tensor, g_max: float) -> Tensor:
    """Return the values of a curve at conductances [µS]."""
    points = [point for point in curve if isinstance(point, tuple)]
    if points:
        return interpolate_points(g, [at for at, _ in points], [value for _, value in points])
    return evaluate_polynomial(g / g_max, [c for c in curve if not isinstance(c, tuple)])
