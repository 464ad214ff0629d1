"""Pure functions that program signed weights on crossbars of memory devices and read the weights after drift.

Weights have the shape ``(..., cols, rows)`` and are in tile units, that is divided by the scale of their column. Each index of
the leading dimensions is a separate crossbar with a separate conversion to conductances. One call can therefore program many
crossbars. The device setting ``converter`` defines how one or more devices represent a weight.
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
    """The stuck devices of crossbars, and the programmed conductances.

    Each argument is a tuple with one tensor for each array of devices. If ``k`` devices represent a weight, there are ``k``
    arrays, and each array has one of these devices for every weight.

    Args:
        off: Boolean masks ``(..., cols, rows)``; True = stuck at 0 µS.
        on: Boolean masks ``(..., cols, rows)``; True = stuck at ``g_max``.
        g_programmed: Conductances ``(..., cols, rows)`` at the end of programming [µS], as if no device were stuck.
    """

    off: tuple[Tensor, ...]
    on: tuple[Tensor, ...]
    g_programmed: tuple[Tensor, ...]

    def cells(self) -> Tensor:
        """Return a boolean mask ``(..., cols, rows)`` that is True for weights with at least one stuck device."""
        return torch.stack([*self.off, *self.on]).any(dim=0)


@final
@dataclass(frozen=True)
class ProgrammedCrossbar:
    """The state of crossbars after programming.

    Args:
        weights: Weights ``(..., cols, rows)`` at the end of programming, divided by the scale of their column.
        drift_nu: Device states ``(..., cols, rows)``, such as the drift exponents [-] of PCM. Given only if a pair of devices
            represents each weight and one device of the pair stays at 0 µS; the states are those of the other device.
        states: Device states ``(..., cols, rows)`` for each array of devices, in the order that the device setting
            ``converter`` defines. Empty if `drift_nu` is given.
        scale: Conversion from weights to conductances that programming used. A read uses this conversion for weights with
            stuck devices, and for technologies with the attribute ``reads_targets``. None if `drift_nu` is given.
        stuck: Stuck devices; None if no device can be stuck.
    """

    weights: Tensor
    drift_nu: Tensor | None = None
    states: tuple[Tensor, ...] = ()
    scale: Scale | None = None
    stuck: StuckDevices | None = None


def program_crossbar(weights: Tensor, device: DeviceSpec, *, generator: torch.Generator) -> ProgrammedCrossbar:
    """Return the state of crossbars after `weights` are programmed on their devices, with newly drawn programming noise.

    Args:
        weights: Weights ``(..., cols, rows)``, divided by the scale of their column. The largest magnitude in each crossbar is
            converted to ``g_max``.
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
    """Return the weights ``(..., cols, rows)`` of crossbars after drift, with one draw of read noise.

    As in AIHWKIT, the programmed weights are converted to conductances a second time, so that the largest conductance is
    ``g_max``. Each conductance then drifts according to the state of the device. Weights with a stuck device are read from the
    programmed conductances without the second conversion.

    Args:
        crossbar: Result of `program_crossbar`.
        device: Settings of the devices.
        t_inference: Time since programming ended [s].
        generator: Source of the read noise.

    Returns:
        Weights in the units of ``crossbar.weights``.
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
    """Return whether each weight is represented by two devices, of which one stays at 0 µS and is always read as 0 µS.

    The difference of the two conductances is then sufficient to read the weight.
    """
    converter = device.converter
    single_pair = isinstance(converter, PairConverter) and len(converter.significance) == 1
    return single_pair and device.g_min == 0 and model.silent_at_zero


def _draw_stuck(conductances: list[Tensor], device: DeviceSpec, generator: torch.Generator) -> StuckDevices | None:
    """Return randomly drawn stuck devices in the arrays `conductances` [µS], or None if `device` has no stuck devices."""
    if device.stuck_off == 0 and device.stuck_on == 0:
        return None
    draws = [uniform_like(g, generator) for g in conductances]
    return StuckDevices(
        off=tuple(draw < device.stuck_off for draw in draws),
        on=tuple(draw >= 1 - device.stuck_on for draw in draws),
        g_programmed=tuple(conductances),
    )


def _hold(conductances: list[Tensor], stuck: StuckDevices, device: DeviceSpec) -> list[Tensor]:
    """Return `conductances` [µS] with 0 for devices that are stuck off and ``g_max`` for devices that are stuck on."""
    arrays = zip(conductances, stuck.off, stuck.on, strict=True)
    return [g.masked_fill(off, 0.0).masked_fill(on, device.g_max) for g, off, on in arrays]
