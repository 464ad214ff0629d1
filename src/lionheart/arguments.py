"""Functions that check the arguments of the public functions and convert them to the types that the library uses.

The parameter `where` is the beginning of error messages: the name of the public function, sometimes followed by the name of
the argument. Invalid arguments raise a `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lionheart.analog import analog_layers, convert_to_digital_, find_uncalibrated
from lionheart.copies import copy_model
from lionheart.data import (
    BatchSource,
    as_batches,
    call_model,
    count_batches,
    device_of,
    first_sample,
    move_batch,
    read_first,
)
from lionheart.devices import DEVICES, DeviceSpec, TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, trace_graph
from lionheart.graph.rules import match_rules
from lionheart.jobs.times import choose_times
from lionheart.mapping import LayerMapping
from lionheart.progress import SILENT, Progress
from lionheart.system import PlatformSpec, load_platform, platform_names
from lionheart.tasks import Task
from lionheart.units import parse_durations

_CONVERT_HINT = "convert the model first: lionheart.convert_to_analog_(model)"
_DATA_HINT = "give a DataLoader, a list of (inputs, targets) pairs or a BatchSource"


def as_tile(tile: Any, where: str) -> TileSpec:
    """Return the `TileSpec` for an argument `tile`: a `TileSpec`, a `DeviceSpec`, a device name, a file path, or None.

    A device is combined with the default settings of `TileSpec`. None = the tile of `TileSpec.pcm`. `where` is the beginning of
    error messages.
    """
    if tile is None:
        return TileSpec.pcm()
    if isinstance(tile, TileSpec):
        return tile
    if isinstance(tile, DeviceSpec):
        return TileSpec(device=tile)
    if isinstance(tile, Path) or (isinstance(tile, str) and tile.endswith((".toml", ".csv"))):
        read = DeviceSpec.from_samples if str(tile).endswith(".csv") else DeviceSpec.from_toml
        return TileSpec(device=read(tile))
    if not isinstance(tile, str):
        raise ConfigError(
            f"{where}: tile: got {type(tile).__name__}, expected a device name, the path of a TOML or CSV file, a TileSpec "
            "or a DeviceSpec",
            hint=f"device names: {', '.join(DEVICES.names())}",
        )
    if tile not in DEVICES:
        raise ConfigError(
            f"{where}: tile: got {tile!r}, expected the name of a device",
            hint=suggest(tile, DEVICES.names(), label="devices"),
        )
    return TileSpec.ideal() if tile == "ideal" else TileSpec(device=DeviceSpec(technology=tile))


def as_platform(platform: Any, where: str) -> PlatformSpec:
    """Return the `PlatformSpec` for an argument `platform`: a platform name, the path of a TOML file, or a `PlatformSpec`.

    `where` is the beginning of error messages.
    """
    if isinstance(platform, PlatformSpec):
        return platform
    if isinstance(platform, (str, Path)):
        return load_platform(platform)
    raise ConfigError(
        f"{where}: platform: got {type(platform).__name__}, expected a platform name, the path of a TOML file or "
        "a PlatformSpec",
        hint=f"platform names: {', '.join(platform_names())}",
    )


def as_mapping(mapping: Any, graph: LayerGraph, where: str) -> tuple[LayerMapping, tuple[str, ...]]:
    """Return the `LayerMapping` for an argument `mapping`, and a note on each chosen layer that cannot run on tiles.

    Args:
        mapping: A `LayerMapping` (returned without notes), ``"all"``, ``"none"``, or rules that choose the layers for tiles.
            None = ``"all"``.
        graph: Network whose layers the rules choose.
        where: Name of the public function, for error messages.
    """
    if isinstance(mapping, LayerMapping):
        return mapping, ()
    unsupported = {node.fqn: node.unsupported_reason for node in graph.nodes if node.unsupported_reason}
    if mapping == "none":
        return LayerMapping.all_digital(graph), ()
    rules = as_rules("all" if mapping is None else mapping, f"{where}: mapping")
    chosen = match_rules(f"{where}: mapping", rules, graph.nodes) if rules else graph.fqns
    notes = tuple(f"digital: {fqn}: {unsupported[fqn]}" for fqn in chosen if fqn in unsupported)
    return LayerMapping.from_analog(graph, [fqn for fqn in chosen if fqn not in unsupported]), notes


def as_rules(rules: Any, where: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Return a tuple of the strings in `rules`, one or more rules that choose layers. ``"all"`` gives an empty tuple.

    `where` is the beginning of error messages. `may_be_empty` tells whether an empty list is allowed.
    """
    listed = (rules,) if isinstance(rules, str) else tuple(rules) if isinstance(rules, Iterable) else None
    if listed is None or isinstance(rules, Mapping) or not all(isinstance(rule, str) for rule in listed):
        raise ConfigError(
            f"{where}: got {type(rules).__name__}, expected a string or a list of strings",
            hint="each string is a layer name, a shell pattern, re:REGEX or type:LAYER_TYPE; 'all' chooses every layer",
        )
    if not listed and not may_be_empty:
        raise ConfigError(
            f"{where}: got an empty list, expected at least one rule",
            hint="give layer names or patterns, or 'all' to choose every layer",
        )
    return () if listed == ("all",) else listed


def as_data(data: Any, where: str) -> BatchSource:
    """Return `data` (loader, list of batches or `BatchSource`) as a `BatchSource` with at least one batch.

    `where` is the beginning of error messages.
    """
    if isinstance(data, Task):
        raise ConfigError(f"{where}: data: got a Task, expected batches", hint="give one split of the task: task.test")
    batches = as_batches(data, f"{where}: data")
    if count_batches(batches, 1) == 0:
        raise ConfigError(f"{where}: data: got no batches, expected at least one", hint=_DATA_HINT)
    return batches


def as_pass(batches: BatchSource, n_batches: int) -> Callable[[nn.Module], None]:
    """Return a function that runs a model on the inputs of the first `n_batches` of `batches`, or of all if there are fewer."""

    def run(model: nn.Module) -> None:
        source = batches.epoch(torch.Generator().manual_seed(0))
        for _, (inputs, _) in zip(range(n_batches), source, strict=False):
            call_model(model, move_batch(inputs, device_of(model)))

    return run


def choose_read_times(
    model: nn.Module, times: Any, where: str, progress: Progress = SILENT, default: tuple[str, ...] = ("1s", "1d")
) -> list[float]:
    """Return an argument `times` (one or more times after programming) as a list of numbers [s] with at least one element.

    Args:
        model: Model with analog layers, whose devices must be readable at the times. A digital model allows all times.
        times: The argument; None = `default`, without the times at which a device of the model cannot be read.
        where: Name of the public function and of the argument, for error messages.
        progress: Receiver of a note on default times that are left out.
        default: Default times.
    """
    tiles = [layer.tile for layer in analog_layers(model).values()]
    return choose_times(times, default, tiles, where, progress)


def as_seconds(value: Any, where: str) -> float:
    """Return the duration `value` in seconds, >= 0. `value` is a number of seconds or a string such as ``"1d"``.

    `where` is the beginning of error messages.
    """
    [seconds] = parse_durations([value], where)
    return seconds


def trace_model(model: nn.Module, example_inputs: Any, where: str) -> LayerGraph:
    """Return the `LayerGraph` of a model. If the model has analog layers, a copy with only digital layers is traced.

    Args:
        model: Model, which is not changed. A model with analog layers, or on an accelerator, is copied to the CPU first.
        example_inputs: Inputs of one inference, or batches from which the first sample is used.
        where: Name of the public function, for error messages.
    """
    if example_inputs is None:
        raise ConfigError(
            f"{where}: example_inputs: got None, expected the inputs of one inference",
            hint="give example_inputs=x[:1] for inputs x of shape (batch, ...)",
        )
    if isinstance(example_inputs, list) or hasattr(example_inputs, "epoch") or hasattr(example_inputs, "dataset"):
        batches = as_data(example_inputs, f"{where}: example_inputs")
        example_inputs = first_sample(read_first(batches)[0])
    is_batch_first = all(getattr(module, "batch_first", True) for module in model.modules())
    n_samples = len(example_inputs) if isinstance(example_inputs, torch.Tensor) and example_inputs.ndim > 1 else 1
    if n_samples > 1 and is_batch_first:
        raise ConfigError(
            f"{where}: example_inputs: got {n_samples} samples, shape {tuple(example_inputs.shape)}, "
            "expected one sample (batch size 1)",
            hint="give only the first sample: example_inputs=x[:1]",
        )
    if analog_layers(model) or device_of(model).type not in ("cpu", "meta"):
        model = convert_to_digital_(copy_model(model))
        model = model.cpu() if device_of(model).type != "meta" else model
    return trace_graph(model, move_batch(example_inputs, device_of(model)))


def check_model(model: Any, where: str, expected: str = "a torch.nn.Module") -> None:
    """Raise a `ConfigError` unless `model` is a ``torch.nn.Module`` with parameters. `expected` names the valid types."""
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{where}: model: got {type(model).__name__}, expected {expected}",
            hint="pass the network object itself, not its class, name or state_dict",
        )
    if next(model.parameters(), None) is None:
        raise ConfigError(
            f"{where}: model: got {type(model).__name__} without parameters, expected a network with weights",
            hint="give the network that contains the weights, not one of its activation or container modules",
        )


def check_converted(model: Any, where: str) -> None:
    """Raise a `ConfigError` unless `model` is a network with at least one analog layer."""
    check_model(model, where)
    if not analog_layers(model):
        raise ConfigError(
            f"{where}: {type(model).__name__} has no analog layers, expected a converted model", hint=_CONVERT_HINT
        )


def check_calibrated(model: nn.Module, where: str) -> None:
    """Raise a `ConfigError` unless every analog layer of `model` that needs a static input range has a calibrated range."""
    missing = find_uncalibrated(model)
    if missing:
        raise ConfigError(
            f"{where}: layer {missing[0]!r} has no input range ({len(missing)} such layers in total), expected a calibrated "
            "model",
            hint="calibrate the model first: lionheart.calibrate_(model, data)",
        )


def check_count(where: str, value: Any, least: int) -> int:
    """Return `value` if it is a whole number >= `least`, else raise a `ConfigError` whose message begins with `where`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(
            f"{where}: got {value!r}, expected a whole number >= {least}",
            hint=f"give a whole number such as {max(least, 1)}",
        )
    return value
