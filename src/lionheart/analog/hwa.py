"""Weight noise and quantisation in the forward passes of hardware-aware (HWA) training.

All weights are in tile units, that is divided by the scale of their output column.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lionheart.analog.crossbar import program_crossbar, read_crossbar
from lionheart.analog.noise import NoiseSource
from lionheart.analog.policy import average_copies, count_devices, repeat_copies
from lionheart.analog.readout import SMALLEST_READOUT
from lionheart.analog.reference import choose_reference, exact_gain
from lionheart.devices import TileSpec


def modify_weights(weights: Tensor, tile: TileSpec, source: NoiseSource, *, drop_below: float) -> Tensor:
    """Return the weights of a row of tiles with quantisation, noise and DropConnect for one pass of hardware-aware training.

    With copies of the weights or several device pairs, the standard deviation of Gaussian noise is divided by the root of their
    number. Simulated devices are drawn for each copy and averaged. Quantisation and DropConnect are not changed by copies.
    The strength of the source, 0 to 1, is a factor of the noise: of the deviation of each weight from its exact value.

    Args:
        weights: Exact weights ``(out, rows)``, divided by the scale of their output column.
        tile: Tile settings, including those for hardware-aware (HWA) training.
        source: Source of the noise.
        drop_below: Threshold for DropConnect. A standard normal number is drawn for each weight, and the weight becomes 0 if
            the number is below the threshold.
    """
    hwa = tile.hwa
    if hwa.weight_levels is not None:
        step = 2 / (hwa.weight_levels - 1)
        middle = 0.0 if hwa.weight_levels % 2 else 0.5  # an odd number of levels includes 0, an even one does not
        weights = (weights / step).sub_(middle).round_().add_(middle).mul_(step).clamp_(-1, 1)
    if hwa.weight_noise_kind in ("device", "programming"):
        noisy = _put_on_devices(weights, tile, source)
        weights = noisy if source.strength is None else torch.lerp(weights, noisy, source.strength.to(noisy.dtype))
    elif hwa.weight_noise > 0:
        noise = source.normal(weights.shape).to(weights.dtype)
        factor = weights if hwa.weight_noise_kind == "multiplicative" else torch.ones_like(weights[:1, :1])
        weights = torch.addcmul(weights, noise, factor, value=hwa.weight_noise / math.sqrt(count_devices(tile)))
    if hwa.drop_connect > 0:
        kept = source.standard_normal(weights.shape) >= drop_below
        weights = weights * (kept if source.strength is None else torch.where(kept, 1, 1 - source.strength))
    return weights


def draw_age(tile: TileSpec, source: NoiseSource) -> float:
    """Return a random age of a chip for one training step [s], log-uniform from 1 s to the setting ``tile.hwa.t_longest``.

    The age is a time at which the device can be read: at most the last known time, or the nearest of a few known times.
    """
    known = tile.device.read_times
    longest = min(tile.hwa.t_longest, known.longest)
    return known.find_nearest(source.draw_time(longest), at_most=longest)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _put_on_devices(weights: Tensor, tile: TileSpec, source: NoiseSource) -> Tensor:
    """Return the weights ``(out, rows)`` of a row of tiles after `weights` are programmed on simulated memory devices.

    If ``weight_noise_kind="device"``, the weights also drift for a random time, and the drift is compensated.
    """
    chip = program_crossbar(repeat_copies(weights, tile), tile.device, generator=source.generator)
    programmed = average_copies(chip.weights, tile)
    if tile.hwa.weight_noise_kind == "programming":
        return programmed
    read = read_crossbar(chip, tile.device, t_inference=draw_age(tile, source), generator=source.generator)
    read = average_copies(read, tile)
    if tile.drift_compensation == "none":
        return read
    if choose_reference(weights, tile) == "signs":
        read /= exact_gain(read, weights, tile)
    elif tile.drift_compensation == "global":
        read *= programmed.abs().mean() / read.abs().mean().clamp(min=SMALLEST_READOUT)
    else:
        young, aged = (each.abs().mean(dim=-1, keepdim=True) for each in (programmed, read))
        read *= young / aged.clamp(min=SMALLEST_READOUT)
    return read
