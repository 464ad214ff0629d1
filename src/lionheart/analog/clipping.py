"""Limits of the weight magnitudes in hardware-aware (HWA) training.

Limits are computed once, at conversion. Limits from clipped weights would shrink with every step.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.analog.likeness import Likeness
from lionheart.devices import HWASpec, TileSpec
from lionheart.errors import UnsupportedLayerError

_RANGE, _BOUND, _LIMIT = "analog_input_range", "analog_weight_bound", "analog_weight_limit"
_DIGITAL = "analog_digital_places"
_ADDED = (
    _RANGE,
    _BOUND,
    _LIMIT,
    _DIGITAL,
)  # parameters and buffers that an analog layer has and the digital layer has not
_MEMORY = "_analog_memory"  # attribute of a digital module with values of its last conversion, such as the limits
_ROUNDING = 1e-6
_SMALLEST_SHARE = 0.5  # if no weight reaches this fraction of its limit, the weights were not clipped to the limits


def spread_limit(
    matrix: Tensor,  # (out, in)
    hwa: HWASpec,
) -> Tensor:  # () or (out,)
    """Return the limit that the spread of a layer's weights defines.

    Args:
        matrix: Weights of the layer.
        hwa: Settings with a limit by the spread of the weights.

    Returns:
        The limit of the layer, or of each column if the settings ask for limits in tile units, in units of the weights.
        Infinite where the spread is 0.
    """
    limits = []
    if hwa.weight_clip_sigma is not None:
        limits.append(_deviation(matrix) * hwa.weight_clip_sigma)
    if hwa.weight_clip_average is not None:
        limits.append(matrix.abs().amax(dim=1).mean() * hwa.weight_clip_average)
    if hwa.weight_clip_column_sigma is not None:
        largest = matrix.abs().amax(dim=1)
        on_tile = matrix / torch.where(largest > 0, largest, torch.ones_like(largest)).unsqueeze(1)
        limits.append(largest * _deviation(on_tile) * hwa.weight_clip_column_sigma)
    limit = functools.reduce(torch.minimum, limits)
    return torch.where(limit > 0, limit, math.inf)


def _deviation(matrix: Tensor) -> Tensor:
    return matrix.var(correction=int(matrix.numel() > 1)).sqrt()


def column_limits(
    bound: Tensor,  # (out,)
    limit: Tensor | None,  # () or (out,)
    hwa: HWASpec,
) -> Tensor | None:  # (out,)
    """Return the largest allowed weight magnitude of each column, or None if the settings define no limit.

    Args:
        bound: Largest weight magnitude of each column at the time when the limits were computed.
        limit: Limit of the layer or of each column from `spread_limit`; None = no limit by the spread.
        hwa: Settings of HWA training.
    """
    limits = None
    if hwa.weight_clip is not None:
        limits = torch.where(bound > 0, bound * hwa.weight_clip, math.inf)  # a column of zeros may learn
    if limit is not None and hwa.clips_by_spread:
        limits = limit.expand_as(bound) if limits is None else torch.minimum(limits, limit)
    return limits


def was_clipped(
    matrix: Tensor,  # (out, in)
    limits: Tensor,  # (out,) or ()
) -> bool:
    """Return whether weights may have been clipped to `limits`: all are within the limits, and some are not much smaller."""
    column_max = matrix.abs().amax(dim=1)
    limits = limits.to(column_max.device)
    is_within = bool((column_max <= limits * (1 + _ROUNDING)).all())
    return is_within and bool((column_max >= _SMALLEST_SHARE * limits).any())


def choose_largest(
    matrix: Tensor,  # (out, in)
    n: int,
) -> Tensor:  # (2, n)
    """Return the places of the `n` weights with the largest magnitude, or of all weights if there are fewer.

    The first row has the output of each weight, the second its input.
    """
    places = matrix.abs().flatten().topk(min(n, matrix.numel())).indices.sort().values
    return torch.stack([places // matrix.shape[1], places % matrix.shape[1]])


def memory_of(digital: nn.Module) -> dict[str, Any]:
    """Return a dictionary in a digital module with values of its conversions, which the next conversion reads."""
    found: dict[str, Any] = digital.__dict__.setdefault(_MEMORY, {})
    return found


def _without_added_(digital: nn.Module) -> nn.Module:
    """Remove the parameters and buffers of an analog layer from a digital layer, which has shared them, and return it."""
    for name in _ADDED:
        digital._parameters.pop(name, None)
        digital._buffers.pop(name, None)
    return digital


class ClippedWeight(Likeness):
    """Base class of analog layers: the weight, its limits in HWA training, and saving and loading of both.

    The largest weights, as many as the tile setting ``digital_weights``, are not on tiles. They are chosen at the conversion,
    and the buffer ``analog_digital_places`` keeps their places. Limits and scales do not count them.
    """

    weight: Tensor
    tile: TileSpec
    analog_weight_bound: Tensor
    analog_weight_limit: Tensor

    def matrix(self) -> Tensor:
        """Return the weight as a matrix ``(out, in)``. For a convolution, the inputs are in the order of an im2col vector."""
        return self.weight.reshape(self.weight.shape[0], -1)

    def tile_matrix(self) -> Tensor:
        """Return the weights on tiles as a matrix ``(out, in)``, with 0 in place of the digital weights."""
        matrix, places = self.matrix(), self.digital_places()
        return matrix if places is None else matrix.index_put(places, matrix.new_zeros(()))

    def digital_places(self) -> tuple[Tensor, Tensor] | None:
        """Return the output ``(n,)`` and the input ``(n,)`` of each digital weight; None = all weights are on tiles."""
        places = self._buffers.get(_DIGITAL)
        return None if places is None else (places[0], places[1])

    def release(self) -> nn.Module:
        """Return the digital layer with the current weights, hooks and attributes."""
        return _without_added_(self.leave_())

    def copy_digital(self) -> nn.Module:
        """Return a copy of the digital layer with the current weights. This layer stays analog."""
        return _without_added_(copy.deepcopy(self.__dict__["digital"]))

    def register_limits_(self) -> None:
        """Register the buffers of the limits and compute their values. Called once, when the layer is created."""
        self.register_digital_()
        self.register_buffer(_BOUND, None)
        if self.tile.hwa.clips_by_spread:
            self.register_buffer(_LIMIT, None)
        self.fix_limits_(again=True)

    @torch.no_grad()
    def register_digital_(self) -> None:
        """Choose the digital weights from the current weights, and register the buffer of their places if there are any."""
        self._buffers.pop(_DIGITAL, None)
        if self.tile.digital_weights > 0:
            self.register_buffer(_DIGITAL, choose_largest(self.matrix().detach(), self.tile.digital_weights))

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter. The limits of a new weight are computed from this weight.

        Raises:
            UnsupportedLayerError: The weight has another shape than the present weight.
        """
        present = self._parameters.get(name) if name == "weight" else None
        if param is not None and present is not None and param.shape != present.shape:
            raise UnsupportedLayerError(
                f"{type(self).__name__}: got a weight of shape {tuple(param.shape)}, expected {tuple(present.shape)}",
                hint="convert the layer to digital first; the tiles are those of the present shape",
            )
        super().register_parameter(name, param)
        if present is not None and param is not None:
            self.register_digital_()
            self.fix_limits_()

    def memory(self) -> dict[str, Any]:
        """Return a dictionary in the digital module with values of this conversion, which the next conversion reads."""
        return memory_of(self.__dict__["digital"])

    def has_frozen_weight(self) -> bool:
        """Return whether the weight requires no gradient and must not change."""
        return not self.weight.requires_grad

    @torch.no_grad()
    def fix_limits_(self, *, again: bool = False) -> None:
        """Compute the limits from the current weights.

        Args:
            again: Whether to keep the limits of an earlier conversion if the weights may have been clipped to them. The spread
                of clipped weights would give a smaller limit at every conversion.
        """
        hwa, matrix, past = self.tile.hwa, self.tile_matrix().detach(), self.memory() if again else {}
        settings = (hwa.weight_clip, hwa.weight_clip_sigma, hwa.weight_clip_average, hwa.weight_clip_column_sigma)
        bound, limit = matrix.abs().amax(dim=1), spread_limit(matrix, hwa) if hwa.clips_by_spread else None
        if past.get("settings") == settings:
            before = column_limits(past["bound"].to(bound), past["limit"], hwa)
            if before is not None and was_clipped(matrix, before):
                bound = past["bound"].to(bound) if hwa.weight_clip is not None and hwa.weight_clip < 1 else bound
                limit = None if limit is None else past["limit"].to(limit)
        is_spared = limit is not None and past.get("settings") == settings and past.get("spared", False)
        if limit is not None and is_spared:
            limit = torch.full_like(limit, math.inf)
        self.analog_weight_bound = bound
        if limit is not None:
            self.analog_weight_limit = limit
        self.memory().update(settings=settings, bound=bound, limit=limit, spared=is_spared)

    def spare_weights_(self) -> None:
        """Remove the limit that the spread of the weights defines, as ``tile.hwa.weight_clip_spares`` asks for.

        The layer keeps no such limit after later conversions with the same settings.
        """
        if self.tile.hwa.clips_by_spread:
            self.use_limit_(torch.full_like(self.analog_weight_limit, math.inf))
            self.memory()["spared"] = True

    @property
    def is_spared(self) -> bool:
        """Whether `spare_weights_` has removed the limit that the spread of the weights defines."""
        return bool(self.memory().get("spared", False))

    def use_limit_(self, limit: Tensor) -> None:
        """Set the limit of the layer ``()``, or of its columns ``(out,)``, computed from other weights of the same layer."""
        self.analog_weight_limit = limit.to(self.analog_weight_bound, copy=True)
        self.memory()["limit"] = self.analog_weight_limit

    def column_limits(self) -> Tensor | None:
        """Return the largest allowed weight magnitude of each column ``(out,)``; None = no limit, or the weight is frozen."""
        if self.has_frozen_weight():
            return None
        return column_limits(self.analog_weight_bound, self._buffers.get(_LIMIT), self.tile.hwa)

    @torch.no_grad()
    def clip_weights_(self, *, strength: float = 1.0) -> None:
        """Clip the exact weights in place to the limits that the settings ``tile.hwa.weight_clip*`` define.

        Call this method after each optimiser step. A weight that requires no gradient does not change, nor do digital weights.

        Args:
            strength: How far the limits have fallen from the largest weight of each column at conversion to their final
                value, 0 to 1.
        """
        limits = self.column_limits()
        if limits is not None:
            if strength < 1:
                limits = limits + (self.analog_weight_bound - limits).clamp(min=0) * (1 - strength)
            limits = limits.view(-1, *[1] * (self.weight.ndim - 1))
            clipped = torch.clamp(self.weight, -limits, limits)
            places = self.digital_places()
            if places is not None:
                matrix = clipped.reshape(len(clipped), -1).index_put(places, self.matrix()[places])
                clipped = matrix.view_as(clipped)
            self._write_weight_(clipped)

    def _write_weight_(self, weight: Tensor) -> None:
        """Copy `weight`, a tensor with the shape of the layer's weight, into the weight parameter."""
        self.weight.copy_(weight)

    def _loads_weight(self, state_dict: dict[str, Any], prefix: str) -> bool:
        return prefix + "weight" in state_dict

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load the state; limits and digital weights that the ``state_dict`` lacks are computed from its weights."""
        present = [name for name in _ADDED if name in self._buffers or name in self._parameters]
        for name in _ADDED:
            if name not in present:
                state_dict.pop(prefix + name, None)
        limits = [name for name in present if name != _RANGE]
        is_new = self._loads_weight(state_dict, prefix) and any(prefix + name not in state_dict for name in limits)
        given = {name: state_dict[prefix + name] for name in limits if prefix + name in state_dict}
        for name in present:
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._has_range = False
        if is_new:
            if _DIGITAL not in given:
                self.register_digital_()
            self.fix_limits_()
            for name, value in given.items():
                getattr(self, name).copy_(value)
