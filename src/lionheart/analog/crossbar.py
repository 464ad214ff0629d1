"""One crossbar, or many at once: signed weights on devices, programmed, drifted, read. Pure functions.

Weights are in tile units, ``(..., cols, rows)``, the largest of each column 1. Every leading index is a crossbar of its own,
with its own scale; so a whole ensemble of chips is programmed in one call. How devices hold a weight is the device's
``converter``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from lionheart.devices import DeviceModel, DeviceSpec, PairConverter, find_device_model
from lionheart.devices.converter import Scale, convert_to_conductances, convert_to_net, convert_to_weights
from lionheart.devices.sampling import uniform_like


@final
@dataclass(frozen=True)
class StuckDevices:
    """Which devices of a chip are stuck, and what the cells that hold them were programmed to.

    Args:
        off: For each array of devices ``(..., cols, rows)``: stuck at 0.
        on: For each array of devices: stuck at ``g_max``.
        g_programmed: For each array of devices, at the end of programming [µS].
    """

    off: tuple[Tensor, ...]
    on: tuple[Tensor, ...]
    g_programmed: tuple[Tensor, ...]

    def cells(self) -> Tensor:
        """Return which weights have a stuck device, ``(..., cols, rows)``."""
        return torch.stack([*self.off, *self.on]).any(dim=0)


@final
@dataclass(frozen=True)
class ProgrammedCrossbar:
    """What programming left behind.

    Args:
        weights: ``(..., cols, rows)``, at the end of programming [tile units].
        drift_nu: ``(..., cols, rows)``, exponent of the device that holds the weight [-], where a pair is represented by
            its net conductance: single pairs whose idle device stays at 0. Otherwise None.
        states: What the technology keeps for each array of devices, in the order of the converter; else empty.
        scale: The conversion at programming, for technologies that are read from their targets, and for stuck devices.
        stuck: None when no device can be stuck.
    """

    weights: Tensor
    drift_nu: Tensor | None = None
    states: tuple[Tensor, ...] = ()
    scale: Scale | None = None
    stuck: StuckDevices | None = None


def program_crossbar(weights: Tensor, device: DeviceSpec, *, generator: torch.Generator) -> ProgrammedCrossbar:
    """Program weights on devices; all devices of a weight get programming noise, array by array.

    Args:
        weights: ``(..., cols, rows)`` [tile units]; the largest magnitude of each crossbar maps to ``g_max``.
        device: The technology.
        generator: Source of the chips' noise.
    """
    model = find_device_model(device)
    targets, scale = convert_to_conductances(weights, device)
    conductances, states = [], []
    for g_target in targets:
        g_programmed, state = model.program(g_target, device, generator=generator)
        conductances.append(g_programmed)
        states.append(state)
    stuck = _draw_stuck(conductances, device, generator)
    if stuck is not None:
        conductances = _hold(conductances, stuck, device)
    programmed = convert_to_weights(conductances, scale, device)
    if stuck is None and _is_net(model, device):
        plus, minus = states
        return ProgrammedCrossbar(programmed, torch.where(programmed >= 0, plus, minus))
    return ProgrammedCrossbar(programmed, states=tuple(states), scale=scale, stuck=stuck)


def read_crossbar(
    crossbar: ProgrammedCrossbar, device: DeviceSpec, *, t_inference: float, generator: torch.Generator
) -> Tensor:
    """Return the weights at `t_inference` [s] with one draw of read noise, ``(..., cols, rows)`` [tile units].

    As in AIHWKIT the programmed weight is converted to conductances once more, so that the largest is ``g_max``; each drifts
    with the state of its device. Weights with a stuck device keep the conductances that they were programmed to.
    """
    model = find_device_model(device)
    if crossbar.drift_nu is not None:  # a pair is its net conductance; the other device is and stays at 0
        g_net, scale = convert_to_net(crossbar.weights, device)
        g_read = model.read(g_net, crossbar.drift_nu, device, t_inference=t_inference, generator=generator)
        return torch.copysign(g_read / scale.factor, crossbar.weights)
    conductances, scale = convert_to_conductances(crossbar.weights, device)
    stuck = crossbar.stuck
    cells = stuck.cells() if stuck is not None else None
    if stuck is not None and cells is not None:
        pairs = zip(stuck.g_programmed, conductances, strict=True)
        conductances = [torch.where(cells, own, again) for own, again in pairs]
    read = [
        model.read(g, state, device, t_inference=t_inference, generator=generator)
        for g, state in zip(conductances, crossbar.states, strict=True)
    ]
    if model.reads_targets and crossbar.scale is not None:
        scale = crossbar.scale
    if stuck is None or cells is None or crossbar.scale is None:
        return convert_to_weights(read, scale, device)
    read = _hold(read, stuck, device)
    whole, held = (convert_to_weights(read, each, device) for each in (scale, crossbar.scale))
    return torch.where(cells, held, whole)


def _is_net(model: DeviceModel, device: DeviceSpec) -> bool:
    """Whether one device of every pair is at 0 and reads 0, so that the pair is as good as one device."""
    converter = device.converter
    single_pair = isinstance(converter, PairConverter) and len(converter.significance) == 1
    return single_pair and device.g_min == 0 and model.silent_at_zero


def _draw_stuck(conductances: list[Tensor], device: DeviceSpec, generator: torch.Generator) -> StuckDevices | None:
    """Draw which devices are stuck, after all other draws of programming; none are drawn when none can be stuck."""
    if device.stuck_off == 0 and device.stuck_on == 0:
        return None
    draws = [uniform_like(g, generator) for g in conductances]
    return StuckDevices(
        off=tuple(draw < device.stuck_off for draw in draws),
        on=tuple(draw >= 1 - device.stuck_on for draw in draws),
        g_programmed=tuple(conductances),
    )


def _hold(conductances: list[Tensor], stuck: StuckDevices, device: DeviceSpec) -> list[Tensor]:
    """Put stuck devices where they are stuck."""
    arrays = zip(conductances, stuck.off, stuck.on, strict=True)
    return [g.masked_fill(off, 0.0).masked_fill(on, device.g_max) for g, off, on in arrays]
