"""Crossbars of memory devices: programming, drift and reading of signed weights. Pure functions.

Weights are ``(..., cols, rows)`` in tile units: the largest magnitude of each column is 1. Every index of the leading
dimensions is a separate crossbar with its own scale, so many crossbars are programmed in one call. The device's ``converter``
defines how devices represent a weight.
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
    """The stuck devices of crossbars, and the conductances to which all devices were programmed.

    Args:
        off: Boolean mask ``(..., cols, rows)`` of devices stuck at 0 µS, for each array of devices.
        on: Boolean mask ``(..., cols, rows)`` of devices stuck at ``g_max``, for each array of devices.
        g_programmed: Conductances ``(..., cols, rows)`` at the end of programming [µS], for each array of devices.
    """

    off: tuple[Tensor, ...]
    on: tuple[Tensor, ...]
    g_programmed: tuple[Tensor, ...]

    def cells(self) -> Tensor:
        """Return the boolean mask ``(..., cols, rows)`` of weights with at least one stuck device."""
        return torch.stack([*self.off, *self.on]).any(dim=0)


@final
@dataclass(frozen=True)
class ProgrammedCrossbar:
    """The state of crossbars after programming.

    Args:
        weights: Weights ``(..., cols, rows)`` at the end of programming [tile units].
        drift_nu: State of the device that carries the weight, for PCM its drift exponent [-], ``(..., cols, rows)``, if each
            pair is represented by its net conductance: single pairs whose other device stays at 0 µS. Otherwise None.
        states: State of the technology for each array of devices, in the order of the converter; empty if `drift_nu` is given.
        scale: Conversion from weights to conductances at programming, used by technologies that read from their targets and
            by weights with stuck devices. None if `drift_nu` is given.
        stuck: Stuck devices; None if no device can be stuck.
    """

    weights: Tensor
    drift_nu: Tensor | None = None
    states: tuple[Tensor, ...] = ()
    scale: Scale | None = None
    stuck: StuckDevices | None = None


def program_crossbar(weights: Tensor, device: DeviceSpec, *, generator: torch.Generator) -> ProgrammedCrossbar:
    """Program weights on devices; the programming noise of all devices is drawn array by array.

    Args:
        weights: Weights ``(..., cols, rows)`` [tile units]; the largest magnitude of each crossbar maps to ``g_max``.
        device: Settings of the devices.
        generator: Source of the programming noise, the device states and the stuck devices.
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

    As in AIHWKIT, the programmed weights are converted to conductances again, so that the largest conductance is ``g_max``.
    Each conductance drifts with the state of its device. Weights with a stuck device are read from their programmed
    conductances without this second conversion.

    Args:
        crossbar: Result of `program_crossbar`.
        device: Settings of the devices.
        t_inference: Time since programming ended [s].
        generator: Source of the read noise.
    """
    model = find_device_model(device)
    if crossbar.drift_nu is not None:  # a pair is represented by its net conductance; the other device stays at 0 µS
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
    """Return whether one device of every pair is at 0 µS and reads 0, so that the net conductance represents the pair."""
    converter = device.converter
    single_pair = isinstance(converter, PairConverter) and len(converter.significance) == 1
    return single_pair and device.g_min == 0 and model.silent_at_zero


def _draw_stuck(conductances: list[Tensor], device: DeviceSpec, generator: torch.Generator) -> StuckDevices | None:
    """Draw the stuck devices, after all other draws of programming; nothing is drawn if no device can be stuck."""
    if device.stuck_off == 0 and device.stuck_on == 0:
        return None
    draws = [uniform_like(g, generator) for g in conductances]
    return StuckDevices(
        off=tuple(draw < device.stuck_off for draw in draws),
        on=tuple(draw >= 1 - device.stuck_on for draw in draws),
        g_programmed=tuple(conductances),
    )


def _hold(conductances: list[Tensor], stuck: StuckDevices, device: DeviceSpec) -> list[Tensor]:
    """Return the conductances [µS] with stuck devices at 0 or ``g_max``."""
    arrays = zip(conductances, stuck.off, stuck.on, strict=True)
    return [g.masked_fill(off, 0.0).masked_fill(on, device.g_max) for g, off, on in arrays]
