"""The public functions of LionHeart, which map neural networks to analog tiles and evaluate the mapped networks.

Data are given as a `DataLoader`, a list of ``(inputs, targets)`` pairs or a `BatchSource`. Times are given in seconds or as a
string such as ``"1d"``. Layers, devices, platforms and presets are given by name. Every function returns an object that
``print`` shows as text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lionheart import analog, evaluation, jobs
from lionheart.analog import ChipState, Conversion, InputRanges, analog_layers
from lionheart.arguments import (
    as_data,
    as_mapping,
    as_pass,
    as_platform,
    as_rules,
    as_seconds,
    as_tile,
    check_calibrated,
    check_converted,
    check_count,
    check_model,
    choose_read_times,
    trace_model,
)
from lionheart.data import count_batches, device_of
from lionheart.deprecated import warn_deprecated
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import ConfigError, check_type
from lionheart.graph import LayerGraph
from lionheart.graph.rules import match_rules
from lionheart.jobs import MappingResult, MapSettings
from lionheart.mapping import LayerMapping
from lionheart.metrics import ACCURACY
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Evaluation
from lionheart.search import SearchSpec
from lionheart.system import PlatformSpec, SystemEstimate, TilePlan, estimate_system
from lionheart.tasks import Task
from lionheart.tasks.task import as_metric

CALIBRATION_BATCHES = 32  # batches that calibration reads at most
INTERVAL_COVERAGE: float = SearchSpec.model_fields["interval_coverage"].default


def evaluate(
    model: nn.Module,
    data: Any,
    times: Iterable[str | float] | str | float | None = None,
    n_chips: int = 10,
    seed: int = 0,
    metric: Any = ACCURACY,
    *,
    calibration: Any = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure the accuracy of a model with analog layers on newly programmed chips, at several times after programming.

    A digital model is evaluated once, without chips. The weights of the model do not change. A chip that `program_` has
    programmed before is discarded. A mapping run with the same seed uses the same chips for its test results.

    Args:
        model: Digital model, or a model that `convert_to_analog_` has converted and `calibrate_` has calibrated.
        data: Batches to evaluate on: a `DataLoader`, a list of ``(inputs, targets)`` pairs or a `BatchSource`.
        times: One or more times after programming, each a string such as ``"1d"`` or a number of seconds. None = 1 s and 1 d,
            without a time at which the device of a layer cannot be read.
        n_chips: Number of simulated chips, >= 1. Each chip is programmed independently.
        seed: Seed of the random numbers of all chips, >= 0.
        metric: A `Metric`, or a function of ``(outputs, targets)`` that returns one score for each sample, shape ``(batch,)``.
        calibration: Batches for the column calibration (digital correction of each tile column). Only the first batch is used.
            Required if the tile setting ``column_calibration`` is not ``"none"``.
        progress: Object that displays the progress.

    Returns:
        For each time, the mean score over chips, its 95 % confidence interval, and the score of each chip.

    Raises:
        ConfigError: An argument is invalid, the model is not calibrated, or the model or the metric fails on the first batch.
    """
    check_model(model, "evaluate")
    batches, scored = as_data(data, "evaluate"), as_metric(metric, where="evaluate: metric")
    moments = choose_read_times(model, times, "evaluate: times", progress)
    check_count("evaluate: n_chips", n_chips, 1)
    streams = RandomStreams(check_count("evaluate: seed", seed, 0)).scope("test")
    count_batches(batches, None)  # an error if the data do not end
    is_analog = bool(analog_layers(model))
    if is_analog:
        check_calibrated(model, "evaluate")
    run_calibration = None if calibration is None else as_pass(as_data(calibration, "evaluate: calibration"), 1)
    points = evaluation.run_explained(
        "evaluate",
        model,
        batches,
        lambda: evaluation.evaluate_over_chips(
            model,
            batches,
            scored,
            times=moments if is_analog else [0.0],
            n_chips=n_chips if is_analog else 1,
            streams=streams,
            confidence=INTERVAL_COVERAGE,
            progress=progress,
            run_calibration=run_calibration,
        ),
        scored,
    )
    return Evaluation(
        split="data",
        metric=scored,
        n_samples=points[0].n_samples,
        n_chips=n_chips if is_analog else 0,
        seed=seed,
        backend="lionheart",
        confidence=INTERVAL_COVERAGE,
        accuracy_over_time=tuple(points),
    )


def calibrate_(model: nn.Module, data: Any, layers: str | Iterable[str] = "all") -> InputRanges:
    """Set the static input range (largest input of the DAC) of analog layers in place, computed from each layer's inputs.

    All analog layers compute digitally while their inputs are recorded. Layers with a dynamic input range need no calibration
    and do not change.

    Args:
        model: Model that `convert_to_analog_` has converted.
        data: Representative batches, such as training data. At most the first 32 batches are read; targets are not used.
        layers: ``"all"``, or names and rules of the layers to calibrate, as in `convert_to_analog_`.

    Returns:
        The new input range of each calibrated layer, in units of the layer's input, and the names of the layers that need none.

    Raises:
        ConfigError: The model has no analog layers, a layer does not run on the data, or an argument is invalid.
    """
    check_converted(model, "calibrate_")
    batches = as_data(data, "calibrate_")
    present = analog_layers(model)
    rules = as_rules(layers, "calibrate_: layers")
    choices = [choice for choice in analog.list_choices(model) if choice.fqn in present]
    chosen = match_rules("calibrate_: layers", rules, choices) if rules else tuple(present)
    dynamic, sample = (
        tuple(fqn for fqn in chosen if present[fqn].tile.input_range == kind) for kind in ("dynamic", "sample")
    )
    static = [fqn for fqn in chosen if fqn not in {*dynamic, *sample} and present[fqn].tile.has_input_range]
    run = as_pass(batches, CALIBRATION_BATCHES)
    ranges = evaluation.run_explained(
        "calibrate_",
        model,
        batches,
        lambda: analog.calibrate_input_ranges_(model, run, static, digitally=True) if static else {},
    )
    return InputRanges(ranges, dynamic, count_batches(batches, CALIBRATION_BATCHES), sample)


def program_(model: nn.Module, seed: int = 0) -> ChipState:
    """Program the weights of all analog layers on a new simulated chip, in place, and read the chip 1 s after programming.

    A device that cannot be read after 1 s is read at the nearest known time.

    In ``eval()`` mode, the model then computes with the weights read from this chip. Another call of `program_`, an evaluation
    or a conversion discards the chip.

    Args:
        model: Model that `convert_to_analog_` has converted and `calibrate_` has calibrated.
        seed: Seed of the random numbers of the chip, >= 0. The same seed gives the same chip.

    Returns:
        The number of tiles of each layer on the chip, and the time since programming [s].

    Raises:
        ConfigError: The model has no analog layers or is not calibrated, or the seed is invalid.
    """
    check_converted(model, "program_")
    check_calibrated(model, "program_")
    generator = RandomStreams(check_count("program_: seed", seed, 0)).generator("chip", device=device_of(model))
    [first] = choose_read_times(model, None, "program_: first read", default=("1s",))
    analog.program_chip_(model, generator)
    analog.drift_chip_(model, first, generator)
    return analog.describe_chip(model, first, seed)


def drift_(model: nn.Module, t_inference: str | float, seed: int = 0) -> ChipState:
    """Simulate the drift of a programmed chip until a time after programming, in place, and read the chip at this time.

    Args:
        model: Model that `program_` has programmed.
        t_inference: Time since programming ended, as a string such as ``"1d"`` or in seconds. The time may be earlier than
            in the previous call, because each call computes the drift from the state after programming.
        seed: Seed of the read noise, >= 0. The same seed and time give the same noise.

    Returns:
        The number of tiles of each layer on the chip, and the time since programming [s].

    Raises:
        ConfigError: The model has no analog layers, no chip is programmed, an argument is invalid, or the device of a layer
            cannot be read at this time. The chip then stays as it was.
    """
    check_converted(model, "drift_")
    unprogrammed = analog.find_unprogrammed(model)
    if unprogrammed:
        raise ConfigError(
            f"drift_: layer {unprogrammed[0]!r} is not programmed, expected a programmed model",
            hint="program the model first: lionheart.program_(model)",
        )
    t = as_seconds(t_inference, "drift_: t_inference")
    choose_read_times(model, t, "drift_: t_inference")
    streams = RandomStreams(check_count("drift_: seed", seed, 0))
    analog.drift_chip_(model, t, streams.generator("read", repr(t), device=device_of(model)))
    return analog.describe_chip(model, t, seed)


def convert_to_analog_(
    model: nn.Module,
    tile: TileSpec | DeviceSpec | str | Path | LayerMapping | None = None,
    layers: str | Iterable[str] | LayerMapping | TileSpec = "all",
    *,
    exclude: str | Iterable[str] = (),
    example_inputs: Any = None,
    generator: torch.Generator | None = None,
) -> Conversion:
    """Replace the chosen layers of a model in place by analog layers, which simulate in-memory computing on tiles.

    Parameters remain the same objects, so an existing optimiser stays valid. An analog layer that is chosen again keeps its
    tile and its state. An analog layer that is not chosen becomes digital.

    Args:
        model: Model to convert.
        tile: Tile (crossbar with its converters) to simulate: a `TileSpec`, or a device. A device is a `DeviceSpec`, a name
            such as ``"reram_cmo"``, or the path of a TOML or CSV file; the other settings are then those of the LionHeart
            paper. ``"ideal"`` computes exact products. None = ``"pcm"``.
        layers: ``"all"``, a `LayerMapping`, or one or more rules. A rule is a layer name, a shell pattern (``"conv*"``),
            ``"re:"`` followed by a regular expression, or ``"type:"`` followed by a layer type (``"type:linear"``).
        exclude: One or more rules that choose layers to keep digital, even if `layers` includes them.
        example_inputs: Inputs of one inference, with which the model is traced. The result then also lists weights that are
            multiplied outside of layers, and layers that do not run in this inference.
        generator: Random generator from which the analog layers draw noise; None = a new generator with seed 0.

    Returns:
        Whether each layer is analog or digital, and the reason for each digital layer.

    Raises:
        ConfigError: An argument is invalid, a rule matches no layer, or no chosen layer can be converted.
    """
    check_model(model, "convert_to_analog_")
    if isinstance(tile, LayerMapping):  # the order of the previous version: mapping, tile
        warn_deprecated("convert_to_analog_(model, mapping, tile)", "convert_to_analog_(model, tile, mapping)")
        analog.convert_to_analog_(model, tile, cast(TileSpec, layers), generator=generator)
        return cast(Conversion, model)
    spec = as_tile(tile, "convert_to_analog_")
    graph = None if example_inputs is None else trace_model(model, example_inputs, "convert_to_analog_")
    unsupported: dict[str, str] = {}
    if isinstance(layers, LayerMapping):
        mapping, by_choice = layers, dict.fromkeys(layers.placements, "digital in the mapping")
    else:
        rules = as_rules(layers, "convert_to_analog_: layers")
        refused = as_rules(exclude, "convert_to_analog_: exclude", may_be_empty=True)
        mapping, unsupported, by_choice = analog.select_projections(model, rules, refused, graph)
    analog.convert_to_analog_(model, mapping, spec, generator=generator)
    return analog.describe_conversion(model, unsupported=unsupported, by_choice=by_choice, tile=spec)


def convert_to_digital_(model: nn.Module) -> Conversion:
    """Replace every analog layer of a model in place by the digital layer that it was converted from.

    The digital layers have the current weights of the analog layers.

    Args:
        model: Model to convert; a digital model does not change.

    Returns:
        The layers of the model, which are all digital.

    Raises:
        ConfigError: `model` is not a ``torch.nn.Module`` with parameters.
    """
    check_model(model, "convert_to_digital_")
    analog.convert_to_digital_(model)
    return analog.describe_conversion(model)


def estimate_cost(
    model_or_graph: nn.Module | LayerGraph,
    mapping: LayerMapping | str | Iterable[str] | None = None,
    platform: PlatformSpec | str | Path = "alpine-high-power",
    *,
    example_inputs: Any = None,
    tile: TileSpec | DeviceSpec | str | Path | None = None,
) -> SystemEstimate:
    """Estimate the time [s] and energy [J] of one inference on a processor core with analog tiles.

    For comparison, the result includes the time and energy of the same network on this core without tiles.

    Args:
        model_or_graph: A model, digital or converted by `convert_to_analog_`, or the `LayerGraph` of a model.
        mapping: Layers to compute on tiles: a `LayerMapping`, ``"all"``, ``"none"``, or names and rules as in
            `convert_to_analog_`. None = the analog layers of a converted model, else ``"all"``.
        platform: Hardware whose costs are estimated: the name of a built-in platform, the path of a TOML file, or a
            `PlatformSpec`.
        example_inputs: Inputs of one inference (batch size 1): a tensor, a tuple of arguments, or a dict of keyword arguments.
            If data are given as in `evaluate`, their first sample is used. Required if a model is given.
        tile: Tile to use, as in `convert_to_analog_`. None = the tile of the platform, or the tile of each layer of a
            converted model if `mapping` is also None.

    Returns:
        Time and energy of each operation and in total.

    Raises:
        ConfigError: An argument is invalid, example inputs are missing, or the platform has no cost for an operation.
        GraphError: The model fails on the example inputs.
    """
    where = "estimate_cost"
    spec = as_platform(platform, where)
    if isinstance(model_or_graph, LayerGraph):
        graph, present = model_or_graph, {}
    else:
        check_model(model_or_graph, where, expected="a torch.nn.Module or a LayerGraph")
        graph, present = trace_model(model_or_graph, example_inputs, where), analog_layers(model_or_graph)
    partitions, plan = None, TilePlan(None if tile is None else as_tile(tile, where))
    if mapping is None and present:
        mapping = LayerMapping.from_analog(graph, present)
        if tile is None:
            partitions = {fqn: layer.partition for fqn, layer in present.items()}
            plan = TilePlan(own={fqn: layer.tile for fqn, layer in present.items()})
    chosen, notes = as_mapping(mapping, graph, where)
    return replace(estimate_system(graph, chosen, spec, partitions, tile=plan), notes=notes)


def map_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    max_drop: float | str | None = None,
    preset: str | None = None,
    run_dir: Path | str | None = None,
    command: str = "",
    progress: Progress = SILENT,
    **changes: Any,
) -> MappingResult:
    """Search for the layers of a network that can run on analog tiles without exceeding a bound on the accuracy drop.

    The command ``lionheart map`` performs the same search.

    Args:
        task: Network to map, with its data and metric.
        settings: All settings of the search. None = the settings of `preset`, changed by the bound and `changes`.
        max_drop: Largest drop of the metric against the digital network: a number in the unit of the metric's drop, such as pp
            or mm; a text with this unit, ``"0.1 mm"``; or a share of the digital value, ``"2 % rel"``. None = the setting
            ``max_drop_pp`` in `changes`, or 1 pp, or 1 % of the digital value for a metric that is not in percent.
        preset: Name of a group of settings: ``"fast"`` (also None), ``"best"``, ``"paper"``, ``"quick"`` or ``"robust"``.
        run_dir: New folder for the files of the run; None = a new folder in ``./runs``.
        command: Command line that repeats the run, which is stored in the run directory.
        progress: Object that displays the progress.
        **changes: Settings by name, as in `MapSettings.preset`: ``t_inference="1d"``, ``seed=3``, ``train={"max_epochs": 3}``.
            `changes`, the bound and `preset` cannot be combined with `settings`.

    Returns:
        The mapping, the retrained model and all results. The same data are stored in the run directory.

    Raises:
        ConfigError: An argument is invalid. In this case the run directory is not created.
    """
    check_type(task, Task, "map_layers: task", hint="pass Task(model, train, validation, test), or build_task(name)")
    if max_drop is not None:
        changes["max_drop"] = max_drop
    if settings is None:
        settings = MapSettings.preset(preset or "fast", **changes)
    else:
        hint = 'give single settings as keyword arguments: map_layers(task, max_drop_pp=1, preset="fast")'
        check_type(settings, MapSettings, "map_layers: settings", hint=hint)
        backend = changes.pop("backend", None)  # the one setting that the previous version took next to others
        if changes or preset is not None:
            names = ", ".join([*(["preset"] if preset is not None else []), *changes])
            raise ConfigError(
                f"map_layers: got settings together with {names}, expected either settings or single values",
                hint='omit settings, or create settings that include the values: MapSettings.preset("fast", ...)',
            )
        settings = settings if backend is None else settings.replace(backend=backend)
    return jobs.map_layers(task, settings, run_dir=run_dir, command=command, progress=progress)
