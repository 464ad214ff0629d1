"""The public functions of LionHeart. Each checks its arguments, brings them into one form and calls the packages.

Data are a `DataLoader`, a list of ``(inputs, targets)`` pairs or a `BatchSource`. Times are seconds or a text such as ``"1d"``.
Layers, devices, platforms and presets are given by name. Every function returns a record that ``print`` shows as a table.
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
    as_times,
    check_calibrated,
    check_converted,
    check_count,
    check_model,
    device_of,
    trace_model,
)
from lionheart.candidates import match_rules
from lionheart.deprecated import warn_deprecated
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph
from lionheart.jobs import MappingResult, MapSettings
from lionheart.mapping import LayerMapping
from lionheart.metrics import ACCURACY
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Evaluation
from lionheart.system import PlatformSpec, SystemEstimate, estimate_system
from lionheart.tasks import Task
from lionheart.tasks.task import as_metric

FIRST_READ_S = 1.0  # when a programmed chip is read first [s]; some devices have no model of an earlier time
CALIBRATION_BATCHES = 32  # batches that calibration reads at most
INTERVAL_COVERAGE = 0.95


def evaluate(
    model: nn.Module,
    data: Any,
    times: Iterable[str | float] | str | float = ("1s", "1d"),
    n_chips: int = 10,
    seed: int = 0,
    metric: Any = ACCURACY,
    *,
    calibration: Any = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure the accuracy of a model on freshly programmed chips over time; a digital model gives its one accuracy.

    The model's weights stay as they are; a chip that `program_` programmed is cleared. A seed has the same chips as the test
    figures of a mapping run with this seed.

    Args:
        model: Converted by `convert_to_analog_` and calibrated by `calibrate_`, or digital.
        data: Batches: a `DataLoader`, a list of ``(inputs, targets)`` pairs or a `BatchSource`.
        times: Times after programming, each a text such as ``"1d"`` or seconds.
        n_chips: Number of chips, each programmed separately, >= 1.
        seed: Root of the chips' random numbers.
        metric: A `Metric`, or a function of ``(outputs, targets)`` that returns one score for each sample, shape ``(batch,)``.
        calibration: Batches for the column calibration, needed where the tile has one; the first batch is used.
        progress: Receiver of progress reports.

    Returns:
        Mean, confidence interval and the score of each chip, for each time.

    Raises:
        ConfigError: An argument is wrong, the model is not calibrated, or it fails on the first batch.
    """
    check_model(model, "evaluate")
    batches, scored = as_data(data, "evaluate"), as_metric(metric, where="evaluate: metric")
    moments = as_times(times, "evaluate")
    check_count("evaluate: n_chips", n_chips, 1)
    streams = RandomStreams(check_count("evaluate: seed", seed, 0)).scope("test")
    score = evaluation.check_scores(scored, "evaluate")
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
            score,
            times=moments if is_analog else [0.0],
            n_chips=n_chips if is_analog else 1,
            streams=streams,
            confidence=INTERVAL_COVERAGE,
            progress=progress,
            run_calibration=run_calibration,
        ),
        score,
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
    """Choose the input range of each analog layer from data, in place, with all layers computing digitally.

    Args:
        model: Converted by `convert_to_analog_`.
        data: Representative batches, such as training data. The first 32 batches are read; targets are not used.
        layers: ``"all"``, or names and rules as in `convert_to_analog_`.

    Returns:
        The range of each layer, in units of its input.

    Raises:
        ConfigError: The model has no analog layers, a layer did not run, or an argument is wrong.
    """
    check_converted(model, "calibrate_")
    batches = as_data(data, "calibrate_")
    present = analog_layers(model)
    rules = as_rules(layers, "calibrate_: layers")
    choices = [choice for choice in analog.list_choices(model) if choice.fqn in present]
    chosen = match_rules("calibrate_: layers", rules, choices) if rules else tuple(present)
    dynamic = tuple(fqn for fqn in chosen if present[fqn].tile.input_range == "dynamic")
    static = [fqn for fqn in chosen if fqn not in dynamic and present[fqn].tile.has_input_range]
    run = as_pass(batches, CALIBRATION_BATCHES)
    ranges = evaluation.run_explained(
        "calibrate_",
        model,
        batches,
        lambda: analog.calibrate_input_ranges_(model, run, static, digitally=True) if static else {},
    )
    return InputRanges(ranges, dynamic, min(len(batches), CALIBRATION_BATCHES))


def program_(model: nn.Module, seed: int = 0) -> ChipState:
    """Program a fresh chip from the model's weights, in place, and read it 1 s after programming.

    In ``eval()`` mode the model computes with this chip until it is programmed again or converted.

    Args:
        model: Converted by `convert_to_analog_` and calibrated by `calibrate_`.
        seed: Root of the chip's random numbers; the same seed gives the same chip.

    Returns:
        Layers, tiles and age of the chip.

    Raises:
        ConfigError: The model has no analog layers, is not calibrated, or the seed is wrong.
    """
    check_converted(model, "program_")
    check_calibrated(model, "program_")
    generator = RandomStreams(check_count("program_: seed", seed, 0)).generator("chip", device=device_of(model))
    analog.program_chip_(model, generator)
    analog.drift_chip_(model, FIRST_READ_S, generator)
    return analog.describe_chip(model, FIRST_READ_S, seed)


def drift_(model: nn.Module, t_inference: str | float, seed: int = 0) -> ChipState:
    """Age the programmed chip to a time after programming, in place, and read it once.

    Args:
        model: Programmed by `program_`.
        t_inference: Time since programming ended, a text such as ``"1d"`` or seconds. It may be earlier than the last one.
        seed: Root of the read noise; the same seed and time give the same read.

    Returns:
        Layers, tiles and age of the chip.

    Raises:
        ConfigError: The model has no analog layers, no chip is programmed, or an argument is wrong.
    """
    check_converted(model, "drift_")
    unprogrammed = analog.find_unprogrammed(model)
    if unprogrammed:
        raise ConfigError(
            f"drift_: {unprogrammed[0]} holds no chip, expected a programmed model",
            hint="program it first: lionheart.program_(model)",
        )
    t = as_seconds(t_inference, "drift_: t_inference")
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
    """Put layers of a model on tiles, in place.

    Parameters stay the same objects, so an optimiser goes on working. Layers that are analog already and stay so keep their
    state; layers that are not chosen are digital afterwards.

    Args:
        model: Changed in place.
        tile: A `TileSpec`; or a device, which gives the LionHeart paper's tile with that device: a `DeviceSpec`, a name such as
            ``"reram_cmo"``, or the path of a TOML or CSV file. ``"ideal"`` computes exact products. None = ``"pcm"``.
        layers: ``"all"``, a `LayerMapping`, or rules. A rule is a name, a shell pattern (``"conv*"``), ``"re:"`` and
            a regular expression, or ``"type:"`` and a layer type (``"type:linear"``).
        exclude: Rules; what one of them matches stays digital.
        example_inputs: Inputs of one inference. The trace of the model then also reports weights that are multiplied outside
            layers, and layers that did not run.
        generator: Source of the layers' noise; None = seed 0.

    Returns:
        Where each layer runs, and why layers stay digital.

    Raises:
        ConfigError: A name, a rule or a type is wrong, or no chosen layer can go analog.
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
        refused = as_rules(exclude, "convert_to_analog_: exclude")
        mapping, unsupported, by_choice = analog.select_projections(model, rules, refused, graph)
    analog.convert_to_analog_(model, mapping, spec, generator=generator)
    return analog.describe_conversion(model, unsupported=unsupported, by_choice=by_choice, tile=spec)


def convert_to_digital_(model: nn.Module) -> Conversion:
    """Put every analog layer back as the digital layer that it came from, with its present weights, in place.

    Args:
        model: Changed in place; a digital model stays as it is.

    Returns:
        The layers of the digital model.

    Raises:
        ConfigError: It is no model.
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
    """Estimate time and energy of one inference on one core with tiles, next to the all-digital network.

    Args:
        model_or_graph: A model, digital or converted, or the `LayerGraph` of one.
        mapping: A `LayerMapping`, ``"all"``, ``"none"``, or names and rules of analog projections as in `convert_to_analog_`.
            None takes the mapping of a converted model, and ``"all"`` for a digital one.
        platform: Name of a platform, path of a TOML file, or a `PlatformSpec`.
        example_inputs: Inputs of one inference (batch 1), needed for a model: a tensor, a tuple of arguments or a dict of
            keyword arguments; or data, whose first sample is taken.
        tile: The tile, as in `convert_to_analog_`; None takes a converted model's, else the platform's.

    Returns:
        Time and energy of each operation and in total.

    Raises:
        ConfigError: A name or a type is wrong, example inputs are missing, or an operation has no price.
        GraphError: The model fails on the example inputs.
    """
    where = "estimate_cost"
    spec = as_platform(platform, where)
    if isinstance(model_or_graph, LayerGraph):
        graph, present = model_or_graph, {}
    else:
        check_model(model_or_graph, where, expected="a torch.nn.Module or a LayerGraph")
        graph, present = trace_model(model_or_graph, example_inputs, where), analog_layers(model_or_graph)
    partitions, given = None, None if tile is None else as_tile(tile, where)
    if mapping is None and present:
        mapping = LayerMapping.from_analog(graph, present)
        if given is None:
            partitions = {fqn: layer.partition for fqn, layer in present.items()}
            given = next(iter(present.values())).tile
    chosen, notes = as_mapping(mapping, graph, where)
    return replace(estimate_system(graph, chosen, spec, partitions, tile=given), notes=notes)


def map_layers(
    task: Task,
    settings: MapSettings | None = None,
    *,
    max_drop_pp: float | None = None,
    preset: str | None = None,
    run_dir: Path | str | None = None,
    command: str = "",
    progress: Progress = SILENT,
    **changes: Any,
) -> MappingResult:
    """Map a task's network under a bound on its accuracy drop: the search of ``lionheart map``.

    Args:
        task: Model, data and metric.
        settings: All settings; None takes those of `preset` with `max_drop_pp` and `changes`.
        max_drop_pp: Bound on the drop [pp], or in the metric's own unit; None takes the preset's.
        preset: ``"quick"``, ``"robust"`` or ``"paper"``; None = ``"quick"``, as on the command line.
        run_dir: A new folder for the run; None makes one below ``./runs``.
        command: Command line that repeats the run, stored in it.
        progress: Receiver of progress reports.
        **changes: Settings by name, as in `MapSettings.preset`: ``t_inference="1d"``, ``seed=3``, ``train={"max_epochs": 3}``.

    Returns:
        The mapping, the retrained model and all figures; the run directory holds the same.

    Raises:
        ConfigError: An argument is wrong; nothing is left behind.
    """
    if not isinstance(task, Task):
        raise ConfigError(
            f"map_layers: task: got {type(task).__name__}, expected a lionheart.Task",
            hint="Task(model=..., train=..., validation=..., test=...), or build_task(name) for a built-in one",
        )
    if max_drop_pp is not None:
        changes["max_drop_pp"] = max_drop_pp
    if settings is None:
        settings = MapSettings.preset(preset or "quick", **changes)
    elif not isinstance(settings, MapSettings):
        raise ConfigError(
            f"map_layers: settings: got {type(settings).__name__}, expected MapSettings",
            hint='settings by name are keyword arguments: map_layers(task, max_drop_pp=1, preset="quick")',
        )
    else:
        backend = changes.pop("backend", None)  # the one setting that the previous version took next to others
        if changes or preset is not None:
            names = ", ".join([*(["preset"] if preset is not None else []), *changes])
            raise ConfigError(
                f"map_layers: got settings and {names}, expected one of them",
                hint=f'leave settings out, or make them of a preset: MapSettings.preset("quick", {names}=...)',
            )
        settings = settings if backend is None else settings.replace(backend=backend)
    return jobs.map_layers(task, settings, run_dir=run_dir, command=command, progress=progress)


def load_run(path: Path | str, model: nn.Module, *, backend: str | None = None) -> MappingResult:
    """Open a finished mapping run with the network that it began with: no task and no data.

    Args:
        path: Folder of the run.
        model: The network. It is copied; its weights do not matter.
        backend: What computes analog layers; None takes the run's.

    Returns:
        The mapping, the results, and the mapped network: trained weights and analog layers, in ``eval()`` mode.

    Raises:
        ArtifactError: There is no finished run, a file is damaged, or the run belongs to another network.
        ConfigError: It is no model.
    """
    check_model(model, "load_run")
    return jobs.load_run(path, model, backend=backend)
