"""Arguments of the public functions: each form that a user may give, brought into the one that the packages take.

Every function takes `where`, the name of the caller that errors begin with. It raises a `ConfigError` that says what came,
what was expected and what to do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lionheart.analog import analog_layers, convert_to_digital_, find_uncalibrated
from lionheart.candidates import match_rules
from lionheart.data import BatchSource, as_batches, call_model, first_sample, move_batch
from lionheart.devices import DEVICES, DeviceSpec, TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, trace_graph
from lionheart.mapping import LayerMapping
from lionheart.system import PlatformSpec, load_platform, platform_names
from lionheart.tasks import Task
from lionheart.units import parse_duration

_CONVERT_HINT = "convert it first: lionheart.convert_to_analog_(model)"
_DATA_HINT = "give a DataLoader, a list of (inputs, targets) pairs or a BatchSource"


def as_tile(tile: Any, where: str) -> TileSpec:
    """Return the tile that a name, a path, a device or a spec stands for."""
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
            f"{where}: tile: got {type(tile).__name__}, expected a name, a path, a TileSpec or a DeviceSpec",
            hint=f"names: {', '.join(DEVICES.names())}",
        )
    if tile not in DEVICES:
        raise ConfigError(f"{where}: tile: got {tile!r}", hint=suggest(tile, DEVICES.names(), label="devices"))
    return TileSpec.ideal() if tile == "ideal" else TileSpec(device=DeviceSpec(technology=tile))


def as_platform(platform: Any, where: str) -> PlatformSpec:
    """Return the platform that a name, a path or a spec stands for."""
    if isinstance(platform, PlatformSpec):
        return platform
    if isinstance(platform, (str, Path)):
        return load_platform(platform)
    raise ConfigError(
        f"{where}: platform: got {type(platform).__name__}, expected a name, the path of a TOML file or a PlatformSpec",
        hint=f"names: {', '.join(platform_names())}",
    )


def as_mapping(mapping: Any, graph: LayerGraph, where: str) -> tuple[LayerMapping, tuple[str, ...]]:
    """Return a mapping of a graph, and sentences on what must stay digital in it."""
    if isinstance(mapping, LayerMapping):
        return mapping, ()
    unsupported = {node.fqn: node.unsupported_reason for node in graph.nodes if node.unsupported_reason}
    if mapping == "none":
        return LayerMapping.all_digital(graph), ()
    rules = as_rules("all" if mapping is None else mapping, f"{where}: mapping")
    chosen = match_rules(f"{where}: mapping", rules, graph.nodes) if rules else graph.fqns
    notes = tuple(f"digital: {fqn}: {unsupported[fqn]}" for fqn in chosen if fqn in unsupported)
    return LayerMapping.from_analog(graph, [fqn for fqn in chosen if fqn not in unsupported]), notes


def as_rules(rules: Any, where: str) -> tuple[str, ...]:
    """Return rules as a tuple; ``"all"`` is none at all, which means everything."""
    listed = (rules,) if isinstance(rules, str) else tuple(rules) if isinstance(rules, Iterable) else None
    if listed is None or isinstance(rules, Mapping) or not all(isinstance(rule, str) for rule in listed):
        raise ConfigError(
            f"{where}: got {type(rules).__name__}, expected a name, a list of names or 'all'",
            hint="a rule is a name, a shell pattern, re:REGEX or type:LAYER_TYPE",
        )
    if not listed and where.endswith(("layers", "mapping")):
        raise ConfigError(f"{where}: got an empty list, expected at least one name", hint="'all' takes every layer")
    return () if listed == ("all",) else listed


def as_data(data: Any, where: str) -> BatchSource:
    """Return data as a source of at least one batch."""
    if isinstance(data, Task):
        raise ConfigError(f"{where}: data: got a Task, expected batches", hint="give one of its splits: task.test")
    if isinstance(data, torch.utils.data.Dataset) and not isinstance(data, BatchSource):
        raise ConfigError(
            f"{where}: data: got the data set {type(data).__name__}, expected batches",
            hint="wrap it: DataLoader(data, batch_size=100)",
        )
    try:
        batches = as_batches(data)
        n_batches = len(batches)
    except (ConfigError, TypeError) as error:
        what = f"{type(data).__name__} without a length" if isinstance(error, TypeError) else type(data).__name__
        raise ConfigError(f"{where}: data: got {what}, expected batches of known number", hint=_DATA_HINT) from error
    if n_batches == 0:
        raise ConfigError(f"{where}: data: got no batches, expected at least one", hint=_DATA_HINT)
    return batches


def as_pass(batches: BatchSource, n_batches: int) -> Callable[[nn.Module], None]:
    """Return a function that runs a model on the first batches."""

    def run(model: nn.Module) -> None:
        source = batches.epoch(torch.Generator().manual_seed(0))
        for _, (inputs, _) in zip(range(n_batches), source, strict=False):
            call_model(model, move_batch(inputs, device_of(model)))

    return run


def as_times(times: Any, where: str) -> list[float]:
    """Return one or more times after programming [s]."""
    if isinstance(times, (str, int, float)):
        times = [times]
    if not isinstance(times, Iterable):
        raise ConfigError(
            f"{where}: times: got {type(times).__name__}, expected durations", hint='write times=["1s", "1d"]'
        )
    moments = [as_seconds(each, f"{where}: times") for each in times]
    if not moments:
        raise ConfigError(f"{where}: times: got no time, expected at least one", hint='write times=["1s", "1d"]')
    return moments


def as_seconds(value: Any, where: str) -> float:
    """Return a duration [s], >= 0."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ConfigError(f"{where}: got {value!r}, expected a duration", hint='write "1d", or a number of seconds')
    try:
        return parse_duration(value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None


def trace_model(model: nn.Module, example_inputs: Any, where: str) -> LayerGraph:
    """Trace a model on the CPU with its layers digital; the model itself stays as it is."""
    if example_inputs is None:
        raise ConfigError(
            f"{where}: example_inputs: got none, expected inputs of one inference", hint="give example_inputs=x[:1]"
        )
    if isinstance(example_inputs, list) or hasattr(example_inputs, "epoch") or hasattr(example_inputs, "dataset"):
        batches = as_data(example_inputs, f"{where}: example_inputs")
        example_inputs = first_sample(next(iter(batches.epoch(torch.Generator().manual_seed(0))))[0])
    is_batch_first = all(getattr(module, "batch_first", True) for module in model.modules())
    n_samples = len(example_inputs) if isinstance(example_inputs, torch.Tensor) and example_inputs.ndim > 1 else 1
    if n_samples > 1 and is_batch_first:
        raise ConfigError(
            f"{where}: example_inputs: got {n_samples} samples, shape {tuple(example_inputs.shape)}, "
            "expected one inference (batch 1)",
            hint="give example_inputs=x[:1]",
        )
    if analog_layers(model) or device_of(model).type not in ("cpu", "meta"):
        model = convert_to_digital_(copy.deepcopy(model))
        model = model.cpu() if device_of(model).type != "meta" else model
    return trace_graph(model, move_batch(example_inputs, device_of(model)))


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter of a model."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def check_model(model: Any, where: str, expected: str = "a torch.nn.Module") -> None:
    """Make sure that a model is a network with weights."""
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{where}: model: got {type(model).__name__}, expected {expected}", hint="give the network")
    if next(model.parameters(), None) is None:
        raise ConfigError(
            f"{where}: model: got {type(model).__name__} without parameters, expected a network with weights",
            hint="give the network itself",
        )


def check_converted(model: Any, where: str) -> None:
    """Make sure that a model has analog layers."""
    check_model(model, where)
    if not analog_layers(model):
        raise ConfigError(
            f"{where}: {type(model).__name__} has no analog layers, expected a converted model", hint=_CONVERT_HINT
        )


def check_calibrated(model: nn.Module, where: str) -> None:
    """Make sure that every analog layer has its input range."""
    missing = find_uncalibrated(model)
    if missing:
        raise ConfigError(
            f"{where}: {missing[0]} has no input range ({len(missing)} layers), expected a calibrated model",
            hint="calibrate it first: lionheart.calibrate_(model, data)",
        )


def check_count(where: str, value: Any, least: int) -> int:
    """Return a whole number that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: got {value!r}, expected a whole number >= {least}", hint=f"give {max(least, 1)}")
    return value
