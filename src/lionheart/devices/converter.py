"""How devices represent a weight: settings of each converter, and the conversion between weights and conductances.

Converters are pairs of devices, several pairs with different significance, pairs with conductance tables, and single devices.
Weights are ``(..., cols, rows)`` in any unit. Every index of the leading dimensions is a separate crossbar with its own scale.

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

_LARGEST_BEND = 1e-4  # largest deviation of the net conductance of tables from a straight line, relative to its maximum
_SMALLEST_WEIGHT = 1e-7  # lower bound of the largest weight, as in AIHWKIT; avoids a division by 0


class PairConverter(Spec):
    """Signed weights on pairs of devices, of which one is at ``g_min``; several pairs may represent one weight together.

    The least significant pair is used first. One pair of significance 1 is AIHWKIT's single pair; several pairs are its dual
    pair and N pair.
    """

    kind: Literal["pair"] = Field("pair", description="type of converter")
    significance: tuple[float, ...] = Field(
        (1.0,), min_length=1, description="factor of each pair's current, least significant first [-]"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_positive(self.significance)
        return self


class CustomPairConverter(Spec):
    """Pairs of devices with tables of conductance over weight.

    The entries of a table belong to equidistant weights from -max to max, where max is the largest magnitude of the crossbar.
    Between entries the conductance is linear.
    """

    kind: Literal["custom_pair"] = Field("custom_pair", description="type of converter")
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
            raise ValueError(
                "g_plus and g_minus must have one table for each significance, got "
                f"{len(self.g_plus)} and {len(self.g_minus)} tables for {len(self.significance)}"
            )
        if len(lengths) != 1 or min(lengths) < 2:
            raise ValueError(f"all tables must have the same length of at least 2, got the lengths {sorted(lengths)}")
        if any(g < 0 for table in (*self.g_plus, *self.g_minus) for g in table):
            raise ValueError("g_plus and g_minus must not contain a negative conductance")
        net = self.net()
        largest, steps = max(abs(g) for g in net), len(net) - 1
        if largest == 0 or any(
            abs(g - largest * (2 * i / steps - 1)) > _LARGEST_BEND * largest for i, g in enumerate(net)
        ):
            raise ValueError(
                f"the sum of significance * (g_plus - g_minus) must increase linearly from -max to max, got {net}"
            )
        return self

    def net(self) -> tuple[float, ...]:
        """Return the net conductance at each entry of the tables [µS]: the sum of significance * (g_plus - g_minus)."""
        pairs = [
            [factor * (plus - minus) for plus, minus in zip(p, m, strict=True)]
            for factor, p, m in zip(self.significance, self.g_plus, self.g_minus, strict=True)
        ]
        return tuple(sum(column) for column in zip(*pairs, strict=True))


class SingleConverter(Spec):
    """One device per weight: the smallest weight of a crossbar is at ``g_min``, the largest at ``g_max``."""

    kind: Literal["single"] = Field("single", description="type of converter")


Converter: TypeAlias = Annotated[PairConverter | CustomPairConverter | SingleConverter, Field(discriminator="kind")]


def _require_positive(significance: tuple[float, ...]) -> None:
    if min(significance) <= 0:
        raise ValueError(f"every significance must be positive, got {significance}")


class WeightHolder(Protocol):
    """The settings of a device that define how it represents a weight; `DeviceSpec` has them."""

    @property
    def g_max(self) -> float:
        """Largest conductance [µS]."""

    @property
    def g_min(self) -> float:
        """Smallest conductance [µS]."""

    @property
    def converter(self) -> Converter:
        """How devices represent a weight."""


@final
@dataclass(frozen=True)
class Scale:
    """The linear map from weights to conductances of one programming.

    Args:
        factor: Conductance per unit of weight [µS], ``(..., 1, 1)``.
        offset: Weight at ``g_min`` for single devices, ``(..., 1, 1)``; None for pairs.
    """

    factor: Tensor
    offset: Tensor | None = None


def convert_to_conductances(weights: Tensor, device: WeightHolder) -> tuple[list[Tensor], Scale]:
    """Return the target conductances of weights [µS], and the scale of the conversion.

    Args:
        weights: Weights ``(..., cols, rows)`` in any unit.
        device: Conductance range and converter.

    Returns:
        Targets ``(..., cols, rows)`` for each array of devices: positive and negative device of each pair in turn, or one array
        of single devices.
    """
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
        position = (weights / largest).add_(1).div_(2).clamp_(0, 1)
        tables = zip(converter.g_plus, converter.g_minus, strict=True)
        return [_look_up(position, table) for pair in tables for table in pair], scale
    scale = Scale(sum(converter.significance) * g_range / largest)
    conductances, taken = [], 0.0
    for index, factor in enumerate(converter.significance):
        last = index == len(converter.significance) - 1  # the remainder is within its range
        for sign in (1, -1):
            g = (weights * (sign * scale.factor)).clamp_(min=0)
            g = g.sub_(taken).div_(factor).clamp_(min=0, max=None if last else g_range)
            conductances.append(g.add_(device.g_min) if device.g_min else g)
        taken += factor * g_range
    return conductances, scale


def convert_to_net(weights: Tensor, device: WeightHolder) -> tuple[Tensor, Scale]:
    """Return the magnitude of the net conductance of single pairs [µS], ``(..., cols, rows)``, and its scale."""
    scale = Scale((device.g_max - device.g_min) / _largest(weights))
    return weights.abs().mul_(scale.factor), scale


def convert_to_weights(conductances: Sequence[Tensor], scale: Scale, device: WeightHolder) -> Tensor:
    """Return the weights ``(..., cols, rows)`` that conductances represent.

    Args:
        conductances: Conductances of each array of devices [µS], in the order of `convert_to_conductances`.
        scale: Scale of the conversion to conductances.
        device: Conductance range and converter.
    """
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


def _look_up(position: Tensor, table: Sequence[float]) -> Tensor:
    """Return the values of a table at positions from 0 (first entry) to 1 (last entry), linear between entries."""
    values = position.new_tensor(table)
    at = position * (len(table) - 1)
    left = at.long().clamp_(max=len(table) - 2)
    return torch.lerp(values[left], values[left + 1], at - left)
