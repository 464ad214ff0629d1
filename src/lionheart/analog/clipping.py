"""How far weights may be from zero in hardware-aware training. Limits are fixed once: clipping again changes nothing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.analog.likeness import Likeness
from lionheart.devices import HWASpec, TileSpec

_RANGE, _BOUND, _LIMIT = "analog_input_range", "analog_weight_bound", "analog_weight_limit"
_OURS = (_RANGE, _BOUND, _LIMIT)  # what an analog layer adds to the parameters and buffers of the digital one
_MEMORY = "_analog_memory"  # of a digital module: what its next conversion needs of those before
_ROUNDING = 1e-6
_SMALLEST_SHARE = 0.5  # weights whose largest is a smaller share of a limit were not clipped to it


def clips_by_spread(hwa: HWASpec) -> bool:
    """Return whether one limit for all weights of a layer follows from how they are spread."""
    return hwa.weight_clip_sigma is not None or hwa.weight_clip_average is not None


def spread_limit(
    matrix: Tensor,  # (out, in)
    hwa: HWASpec,
) -> Tensor:  # ()
    """Return the limit that the spread of a layer's weights gives; infinite for weights that are all zero or one number."""
    limits = []
    if hwa.weight_clip_sigma is not None:
        limits.append(matrix.var(correction=int(matrix.numel() > 1)).sqrt() * hwa.weight_clip_sigma)
    if hwa.weight_clip_average is not None:
        limits.append(matrix.abs().amax(dim=1).mean() * hwa.weight_clip_average)
    limit = torch.stack(limits).amin()
    return torch.where(limit > 0, limit, math.inf)


def column_limits(
    bound: Tensor,  # (out,)
    limit: Tensor | None,  # ()
    hwa: HWASpec,
) -> Tensor | None:  # (out,)
    """Return how large the weights of each column may be; None if they may have any size.

    Args:
        bound: The largest weight of each column when limits were fixed.
        limit: Of the layer, from `spread_limit`, where it is clipped by its spread.
        hwa: The settings.
    """
    limits = None
    if hwa.weight_clip is not None:
        limits = torch.where(bound > 0, bound * hwa.weight_clip, math.inf)  # a column of zeros may learn
    if limit is not None and clips_by_spread(hwa):
        limits = limit.expand_as(bound) if limits is None else torch.minimum(limits, limit)
    return limits


def was_clipped(
    matrix: Tensor,  # (out, in)
    limits: Tensor,  # (out,) or ()
) -> bool:
    """Return whether weights look as if they had been clipped to these limits: within them, and not much smaller."""
    column_max = matrix.abs().amax(dim=1)
    limits = limits.to(column_max.device)
    is_within = bool((column_max <= limits * (1 + _ROUNDING)).all())
    return is_within and bool((column_max >= _SMALLEST_SHARE * limits).any())


class ClippedWeight(Likeness):
    """An analog layer's weight, the limits that training keeps it within, and how both are saved and loaded."""

    weight: Tensor
    tile: TileSpec
    analog_weight_bound: Tensor
    analog_weight_limit: Tensor

    def matrix(self) -> Tensor:
        """Return the weight as ``(out, in)``, inputs in im2col order."""
        return self.weight.reshape(self.weight.shape[0], -1)

    def release(self) -> nn.Module:
        """Return the digital layer with what it has become."""
        digital = self.leave_()
        for name in _OURS:
            digital._parameters.pop(name, None)
            digital._buffers.pop(name, None)
        return digital

    def register_limits_(self) -> None:
        """Fix the limits of a layer that has just been made."""
        self.register_buffer(_BOUND, None)
        if clips_by_spread(self.tile.hwa):
            self.register_buffer(_LIMIT, None)
        self.fix_limits_(again=True)

    def memory(self) -> dict[str, Any]:
        """Return what the digital module keeps of this conversion and those before, for the next one."""
        found: dict[str, Any] = self.__dict__["digital"].__dict__.setdefault(_MEMORY, {})
        return found

    def has_frozen_weight(self) -> bool:
        """Return whether nothing may change the weight."""
        return not self.weight.requires_grad

    @torch.no_grad()
    def fix_limits_(self, *, again: bool = False) -> None:
        """Fix what weights are clipped to by the present weights.

        Args:
            again: Keep the limits of an earlier conversion where weights were clipped to them: the spread of clipped weights
                would give smaller ones each time.
        """
        hwa, matrix, past = self.tile.hwa, self.matrix().detach(), self.memory() if again else {}
        settings = (hwa.weight_clip, hwa.weight_clip_sigma, hwa.weight_clip_average)
        bound, limit = matrix.abs().amax(dim=1), spread_limit(matrix, hwa) if clips_by_spread(hwa) else None
        if past.get("settings") == settings:
            before = column_limits(past["bound"].to(bound), past["limit"], hwa)
            if before is not None and was_clipped(matrix, before):
                bound = past["bound"].to(bound) if hwa.weight_clip is not None and hwa.weight_clip < 1 else bound
                limit = None if limit is None else past["limit"].to(limit)
        self.analog_weight_bound = bound
        if limit is not None:
            self.analog_weight_limit = limit
        self.memory().update(settings=settings, bound=bound, limit=limit)

    def use_limit_(self, limit: Tensor) -> None:
        """Clip by the spread that other weights of this layer had, as `analog_weight_limit` of their layer says it."""
        self.analog_weight_limit = limit.to(self.analog_weight_bound, copy=True)
        self.memory()["limit"] = self.analog_weight_limit

    def column_limits(self) -> Tensor | None:
        """Return how large the weights of each column ``(out,)`` may be; None if they may have any size or none may change."""
        if self.has_frozen_weight():
            return None
        return column_limits(self.analog_weight_bound, self._buffers.get(_LIMIT), self.tile.hwa)

    @torch.no_grad()
    def clip_weights_(self) -> None:
        """Keep the exact weights within the limits of the HWA settings, frozen ones apart; called after each optimiser step."""
        limits = self.column_limits()
        if limits is not None:
            limits = limits.view(-1, *[1] * (self.weight.ndim - 1))
            self._write_weight_(torch.clamp(self.weight, -limits, limits))

    def _write_weight_(self, weight: Tensor) -> None:
        """Set the weight, shaped like it."""
        self.weight.copy_(weight)

    def _loads_weight(self, state_dict: dict[str, Any], prefix: str) -> bool:
        return prefix + "weight" in state_dict

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load; limits that a ``state_dict`` lacks, as a digital one does, follow from the weights that it has."""
        present = [name for name in _OURS if name in self._buffers or name in self._parameters]
        for name in _OURS:
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
            self.fix_limits_()
            for name, value in given.items():
                getattr(self, name).copy_(value)
