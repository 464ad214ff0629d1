"""Weights to conductances and back, as in AIHWKIT: pairs of devices, several pairs by significance, tables, single devices.

Weights are ``(..., cols, rows)`` in any unit; every leading index is a crossbar of its own, with its own scale.

Source:
    AIHWKIT 1.1.0 inference/converter/conductance.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from lionheart.devices import CustomPairConverter, DeviceSpec, PairConverter

_SMALLEST_WEIGHT = 1e-7  # keeps an all-zero crossbar finite, as AIHWKIT does


@final
@dataclass(frozen=True)
class Scale:
    """How one programming maps weights to conductances.

    Args:
        factor: ``(..., 1, 1)``, conductance for each unit of weight [µS].
        offset: ``(..., 1, 1)``, the weight of ``g_min``, for single devices only.
    """

    factor: Tensor
    offset: Tensor | None = None


def convert_to_conductances(weights: Tensor, device: DeviceSpec) -> tuple[list[Tensor], Scale]:
    """Return target conductances [µS], positive and negative device of each pair in turn, and their scale."""
    converter = device.converter
    g_range = device.g_max - device.g_min
    if not isinstance(converter, PairConverter | CustomPairConverter):
        low = weights.amin(dim=(-2, -1), keepdim=True)
        high = weights.amax(dim=(-2, -1), keepdim=True)
        scale = Scale(g_range / (high - low).clamp_(min=_SMALLEST_WEIGHT), low)
        return [((weights - low) * scale.factor).add_(device.g_min)], scale
    largest = _largest(weights)
    if isinstance(converter, CustomPairConverter):
        scale = Scale(max(abs(g) for g in converter.net()) / largest)
        place = (weights / largest).add_(1).div_(2).clamp_(0, 1)
        tables = zip(converter.g_plus, converter.g_minus, strict=True)
        return [_look_up(place, table) for pair in tables for table in pair], scale
    scale = Scale(sum(converter.significance) * g_range / largest)
    conductances, taken = [], 0.0
    for index, factor in enumerate(converter.significance):
        last = index == len(converter.significance) - 1  # what is left is within its range
        for sign in (1, -1):
            part = (weights * (sign * scale.factor)).clamp_(min=0)
            part = part.sub_(taken).div_(factor).clamp_(min=0, max=None if last else g_range)
            conductances.append(part.add_(device.g_min) if device.g_min else part)
        taken += factor * g_range
    return conductances, scale


def convert_to_net(weights: Tensor, device: DeviceSpec) -> tuple[Tensor, Scale]:
    """Return the net conductance of single pairs [µS], without sign, and its scale."""
    scale = Scale((device.g_max - device.g_min) / _largest(weights))
    return weights.abs().mul_(scale.factor), scale


def convert_to_weights(conductances: Sequence[Tensor], scale: Scale, device: DeviceSpec) -> Tensor:
    """Return the weights that conductances [µS] stand for, in the order of `convert_to_conductances`."""
    converter = device.converter
    if isinstance(converter, PairConverter | CustomPairConverter):
        pairs = zip(converter.significance, conductances[::2], conductances[1::2], strict=True)
        total = torch.zeros((), dtype=conductances[0].dtype, device=conductances[0].device)
        for factor, plus, minus in pairs:
            total = total + (plus - minus) * factor
        return total / scale.factor
    (g,) = conductances
    weights = (g - device.g_min) / scale.factor
    return weights if scale.offset is None else weights + scale.offset


def _largest(weights: Tensor) -> Tensor:
    return weights.abs().amax(dim=(-2, -1), keepdim=True).clamp_(min=_SMALLEST_WEIGHT)


def _look_up(place: Tensor, table: Sequence[float]) -> Tensor:
    """Return a table's value at places 0 .. 1 along it, linear between its entries."""
    values = place.new_tensor(table)
    at = place * (len(table) - 1)
    left = at.long().clamp_(max=len(table) - 2)
    return torch.lerp(values[left], values[left + 1], at - left)
