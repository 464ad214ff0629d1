"""What a job measures once on the task's own network or training data and sets in analog layers: ranges and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from lionheart.analog import AnalogLayer, analog_layers, calibrate_input_ranges_, find_spared, seed_noise_
from lionheart.copies import copy_model
from lionheart.data import call_model, device_of, move_batch, read_first
from lionheart.jobs.context import Context
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams
from lionheart.search import STRATEGIES
from lionheart.tasks import Task


def calibrate_on_training_batch_(
    model: nn.Module,
    task: Task,
    streams: RandomStreams,
    fqns: Iterable[str] | None = None,
    *,
    digitally: bool = False,
    warn_of_clipping: bool = True,
) -> dict[str, float]:
    """Calibrate the input ranges of analog layers in place with the first batch of the task's training data.

    Args:
        model: Model with analog layers.
        task: Task with the training data.
        streams: Random streams of the order of the data and of the noise.
        fqns: Fully qualified names of the analog layers to calibrate; None = all analog layers without an input range.
        digitally: Whether all analog layers compute digitally while inputs are collected.
        warn_of_clipping: Whether to warn of layers that clipping in training will change; False if no training follows.

    Returns:
        Input range of each calibrated layer by the layer's name. Layers without any input are missing.
    """
    device = device_of(model)
    inputs = read_first(task.train_batches, streams.generator("calibration"), "Task.train")[0]
    seed_noise_(model, streams.generator("calibration", "noise", device=device))
    moved = move_batch(inputs, device)
    return calibrate_input_ranges_(
        model, lambda net: call_model(net, moved), fqns, digitally=digitally, warn_of_clipping=warn_of_clipping
    )


def set_input_ranges_(layers: Mapping[str, AnalogLayer], ranges: Mapping[str, float]) -> None:
    """Set input ranges, as `calibrate_input_ranges_` has returned them, in analog layers by name, in place.

    A layer without a range has had no input in the calibration; its first inputs set the range.
    """
    for fqn, layer in layers.items():
        if fqn in ranges:
            layer.analog_input_range.detach().fill_(ranges[fqn])


def compute_weight_limits(context: Context) -> dict[str, Tensor]:
    """Return the limits of clipping that follow from the spread of the weights of the task's model, by layer name.

    The retrained weights of a search are clipped already, and the spread of clipped weights gives smaller limits. The result is
    empty if the tile settings do not clip by the spread of weights. If they spare layers whose outputs clipping would change
    too much, the limits of these layers are infinite, and a note names the layers.
    """
    tile = context.settings.tile
    fqns = [each.node.fqn for each in context.mappable]
    if not tile.hwa.clips_by_spread or not fqns:
        return {}
    everything = LayerMapping(dict.fromkeys(fqns, Placement.ANALOG))
    twin = context.backend.convert_(copy_model(context.task.model), everything, tile)
    retrains = STRATEGIES.find(context.settings.search.strategy).retrains
    if tile.hwa.weight_clip_spares and retrains:
        calibrate_on_training_batch_(twin, context.task, context.streams, digitally=True)
        if spared := find_spared(twin):
            context.progress.note(
                f"not clipped in retraining, because a few large weights carry most of the outputs: {', '.join(spared)}"
            )
    return {fqn: layer.analog_weight_limit for fqn, layer in analog_layers(twin).items()}


def set_weight_limits_(model: nn.Module, limits: Mapping[str, Tensor]) -> None:
    """Set the limits from `compute_weight_limits` in the analog layers of a model, in place."""
    for fqn, layer in analog_layers(model).items():
        if fqn in limits:
            layer.use_limit_(limits[fqn])
