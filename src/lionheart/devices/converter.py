"""How devices hold a weight: the settings of each converter, and weights as conductances and back, as in AIHWKIT.

Pairs of devices, several pairs by significance, tables, single devices. Weights are ``(..., cols, rows)`` in any unit; every
leading index is a crossbar of its own, with its own scale.

Source:
    AIHWKIT 1.1.0 inference/converter/conductance.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, Self, TypeAlias, final

from pydantic import Field, model_validator

from lionheart.extras import lazy_import
from lionheart.spec import Spec

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")

_LARGEST_BEND = 1e-4  # of the full range: how far from a straight line a pair of conductance tables may lead
_SMALLEST_WEIGHT = 1e-7  # keeps an all-zero crossbar finite, as AIHWKIT does


class PairConverter(Spec):
    """Signed weights on pairs of devices, one of each pair at ``g_min``; several pairs share a weight by significance.

    The least significant pair is used first. One pair of significance 1 is AIHWKIT's single pair, more are its dual and N pair.
    """

    kind: Literal["pair"] = Field("pair", description="how devices hold a weight")
    significance: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="factor of each pair's current, least significant first [-]"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_positive(self.significance)
        return self


class CustomPairConverter(Spec):
    """Pairs of devices whose conductances are tables over the weight, linear between equidistant weights -max .. max."""

    kind: Literal["custom_pair"] = Field("custom_pair", description="how devices hold a weight")
    significance: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="factor of each pair's current, in the order of the tables [-]"
    )
    g_plus: tuple[tuple[float, ...], ...] = Field(description="a table for the positive device of each pair [µS]")
    g_minus: tuple[tuple[float, ...], ...] = Field(description="a table for the negative device of each pair [µS]")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_positive(self.significance)
        lengths = {len(table) for table in (*self.g_plus, *self.g_minus)}
        if len(self.g_plus) != len(self.significance) or len(self.g_minus) != len(self.significance):
            raise ValueError("g_plus and g_minus need one table for each significance")
        if len(lengths) != 1 or min(lengths) < 2:
            raise ValueError(f"the tables must have one common length of at least 2, got the lengths {sorted(lengths)}")
        if any(g < 0 for table in (*self.g_plus, *self.g_minus) for g in table):
            raise ValueError("g_plus and g_minus hold a negative conductance")
        net = self.net()
        largest, steps = max(abs(g) for g in net), len(net) - 1
        if largest == 0 or any(
            abs(g - largest * (2 * i / steps - 1)) > _LARGEST_BEND * largest for i, g in enumerate(net)
        ):
            raise ValueError(
                f"the sum of significance * (g_plus - g_minus) must rise in a straight line from -max to max, got {net}"
            )
        return self

    def net(self) -> tuple[float, ...]:
        """Return the net conductance at each weight of the tables [µS]."""
        pairs = [
            [factor * (plus - minus) for plus, minus in zip(p, m, strict=True)]
            for factor, p, m in zip(self.significance, self.g_plus, self.g_minus, strict=True)
        ]
        return tuple(sum(column) for column in zip(*pairs, strict=True))


class SingleConverter(Spec):
    """One device a weight: the smallest weight of a crossbar is at ``g_min``, the largest at ``g_max``."""

    kind: Literal["single"] = Field("single", description="how devices hold a weight")


Converter: TypeAlias = Annotated[PairConverter | CustomPairConverter | SingleConverter, Field(discriminator="kind")]


def _require_positive(significance: tuple[float, ...]) -> None:
    if min(significance) <= 0:
        raise ValueError(f"significance must be positive, got {significance}")


class WeightHolder(Protocol):
    """What of a device's settings says how it holds a weight."""

    @property
    def g_max(self) -> float:
        """Largest conductance [µS]."""

    @property
    def g_min(self) -> float:
        """Smallest conductance [µS]."""

    @property
    def converter(self) -> Converter:
        """How devices hold a weight."""


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


def convert_to_conductances(weights: Tensor, device: WeightHolder) -> tuple[list[Tensor], Scale]:
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


def convert_to_net(weights: Tensor, device: WeightHolder) -> tuple[Tensor, Scale]:
    """Return the net conductance of single pairs [µS], without sign, and its scale."""
    scale = Scale((device.g_max - device.g_min) / _largest(weights))
    return weights.abs().mul_(scale.factor), scale


def convert_to_weights(conductances: Sequence[Tensor], scale: Scale, device: WeightHolder) -> Tensor:
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
