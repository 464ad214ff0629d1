"""Converters, which define how memory devices represent a weight, and functions that convert weights to conductances and back.

A weight is represented by a pair of devices, by several pairs with different significance, by pairs of devices whose
conductances are given by tables, or by a single device. Weights have the shape ``(..., cols, rows)`` and any unit. Every index
of the leading dimensions selects a separate crossbar with its own scale.

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
    """Converter that represents a signed weight by one pair of devices, or by several pairs with different significance.

    One device of a pair represents positive weights, the other device represents negative weights. The unused device is at
    ``g_min``. The significance of a pair is the factor by which the current of the pair is multiplied. If there are several
    pairs, the least significant pair is used first. Each further pair represents the part of a weight that exceeds the range of
    all previous pairs. One pair of significance 1 corresponds to AIHWKIT's single-pair converter. Several pairs correspond to
    AIHWKIT's dual-pair and N-pair converters.
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
    """Converter that represents a weight by pairs of devices whose conductances are given by tables.

    The entries of a table are the conductances for equidistant weights from -max to max, where max is the largest magnitude of
    the weights on a crossbar. Between two entries, the conductance is interpolated linearly in the weight.
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
                f"g_plus and g_minus must each have {len(self.significance)} table(s), one for each entry of significance, "
                f"got {len(self.g_plus)} table(s) in g_plus and {len(self.g_minus)} in g_minus"
            )
        if len(lengths) != 1 or min(lengths) < 2:
            raise ValueError(
                f"all tables in g_plus and g_minus must have the same length of at least 2, got lengths {sorted(lengths)}"
            )
        if any(g < 0 for table in (*self.g_plus, *self.g_minus) for g in table):
            raise ValueError(
                f"conductances in g_plus and g_minus must not be negative, the smallest is "
                f"{min(g for table in (*self.g_plus, *self.g_minus) for g in table)} µS"
            )
        net = self.net()
        largest, steps = max(abs(g) for g in net), len(net) - 1
        if largest == 0 or any(
            abs(g - largest * (2 * i / steps - 1)) > _LARGEST_BEND * largest for i, g in enumerate(net)
        ):
            raise ValueError(
                f"the net conductance, significance * (g_plus - g_minus) summed over the pairs, must increase linearly along "
                f"the tables from -m to m for some m > 0 µS, got {net}"
            )
        return self

    def net(self) -> tuple[float, ...]:
        """Return the net conductance at each index of the tables [µS].

        The net conductance is ``significance * (g_plus - g_minus)``, summed over the pairs of devices.
        """
        pairs = [
            [factor * (plus - minus) for plus, minus in zip(p, m, strict=True)]
            for factor, p, m in zip(self.significance, self.g_plus, self.g_minus, strict=True)
        ]
        return tuple(sum(column) for column in zip(*pairs, strict=True))


class SingleConverter(Spec):
    """Converter that represents a weight by one device.

    The smallest weight of a crossbar is mapped to ``g_min``, the largest weight to ``g_max``.
    """

    kind: Literal["single"] = Field("single", description="type of converter")


Converter: TypeAlias = Annotated[PairConverter | CustomPairConverter | SingleConverter, Field(discriminator="kind")]


def _require_positive(significance: tuple[float, ...]) -> None:
    if min(significance) <= 0:
        raise ValueError(f"all entries of significance must be greater than 0, got {significance}")


class WeightHolder(Protocol):
    """Protocol of settings that define how memory devices represent a weight, for example a `DeviceSpec`."""

    @property
    def g_max(self) -> float:
        """Largest conductance [µS]."""

    @property
    def g_min(self) -> float:
        """Smallest conductance [µS]."""

    @property
    def converter(self) -> Converter:
        """Converter, which defines how devices represent a weight."""


@final
@dataclass(frozen=True)
class Scale:
    """Linear map from weights to conductances, with a separate factor and offset for each crossbar.

    Args:
        factor: Conductance per unit of weight [µS], ``(..., 1, 1)``. If pairs of devices represent a weight, the conductance
            is the positive minus the negative conductance of a pair, times its significance, summed over the pairs.
        offset: Weight that is mapped to ``g_min`` if one device represents a weight, ``(..., 1, 1)``. None if pairs of devices
            represent a weight.
    """

    factor: Tensor
    offset: Tensor | None = None


def convert_to_conductances(weights: Tensor, device: WeightHolder) -> tuple[list[Tensor], Scale]:
    """Return the target conductances [µS] that represent weights, and the scale that converts conductances back to weights.

    Args:
        weights: Weights ``(..., cols, rows)`` in any unit.
        device: Settings with the conductance range and the converter.

    Returns:
        List of target conductances, each ``(..., cols, rows)``, and the scale. For pairs, the list contains the targets of the
        positive devices and of the negative devices of the first pair, then of the next pair, and so on. For single devices,
        the list has one element.
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
    """Return the magnitude of the net conductance that represents each weight on one pair of devices, and a `Scale`.

    The net conductance is the difference of the conductances of the positive and the negative device [µS], shaped like
    `weights`. The scale converts signed net conductances back to weights.

    Args:
        weights: Weights ``(..., cols, rows)`` in any unit.
        device: Settings with the conductance range.
    """
    scale = Scale((device.g_max - device.g_min) / _largest(weights))
    return weights.abs().mul_(scale.factor), scale


def convert_to_weights(conductances: Sequence[Tensor], scale: Scale, device: WeightHolder) -> Tensor:
    """Return the weights ``(..., cols, rows)`` that conductances represent.

    This function is the inverse of `convert_to_conductances`.

    Args:
        conductances: Conductances [µS] in the order in which `convert_to_conductances` returns target conductances.
        scale: Scale that `convert_to_conductances` returned.
        device: Settings with the conductance range and the converter.
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
    """Return the entries of `table`, interpolated linearly at each `position` from 0 (first entry) to 1 (last entry)."""
    values = position.new_tensor(table)
    at = position * (len(table) - 1)
    left = at.long().clamp_(max=len(table) - 2)
    return torch.lerp(values[left], values[left + 1], at - left)
