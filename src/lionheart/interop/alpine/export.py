"""Functions that export a network, or the network of a finished mapping run, as a C++ program for ALPINE in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from lionheart.analog import analog_layers, convert_to_digital_
from lionheart.copies import copy_model
from lionheart.data import BatchSource, take_samples
from lionheart.errors import ConfigError, LionHeartError
from lionheart.interop.alpine.converters import describe_differences, read_converters
from lionheart.interop.alpine.emit import emit_program, require_empty
from lionheart.interop.alpine.manifest import Manifest, ProgramScore
from lionheart.interop.alpine.qemu import missing_packages
from lionheart.interop.alpine.quantise import quantise_program
from lionheart.interop.alpine.quantised import QuantisedProgram
from lionheart.interop.alpine.run import run_program
from lionheart.interop.alpine.trace import channels_last, trace_program
from lionheart.jobs.measurement.chips import digital_accuracy
from lionheart.jobs.result import load_result, open_finished
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping, Placement
from lionheart.progress import SILENT, Progress
from lionheart.runs import Results
from lionheart.tasks import Task

N_CALIBRATION = 64
N_STORED = 8


def export_model(
    model: nn.Module,
    samples: Tensor,
    folder: Path | str,
    *,
    mapping: LayerMapping | None = None,
    tile_rows: int = 256,
    tile_cols: int = 256,
    stored: Tensor | None = None,
) -> Manifest:
    """Write a C++ program that computes a network in int8. Projections that are analog run on tiles.

    The program of a network with analog layers, such as the model of a `MappingResult`, has the tiles and converters of these
    layers. All of them must have tiles of one size.

    Args:
        model: Floating-point network, or network with analog layers.
        samples: Calibration inputs ``(n, channels, height, width)``, ``(n, tokens, features)`` or ``(n, features)``. The
            quantisation scales are computed from these inputs.
        folder: New or empty folder for the program.
        mapping: Placements of the projections (weight matrices) of a floating-point network; None makes all projections
            digital.
        tile_rows: Number of inputs of a tile, for a floating-point network.
        tile_cols: Number of outputs of a tile, for a floating-point network.
        stored: Inputs to store in the folder together with the expected outputs; None stores the first 8 of `samples`.

    Returns:
        Manifest of the program.

    Raises:
        UnsupportedLayerError: An operation cannot be exported, or an analog projection runs more than once per inference.
        GraphError: The network cannot be traced, or the output of an operation is not finite for the samples.
        NumericsError: The weights or the scales of the network exceed the range of the integer arithmetic.
        ConfigError: An analog projection in `mapping` is not in the network, the network has analog layers and `mapping` is
            given, an analog layer has no input range, or `samples` or `stored` have a wrong shape.
        ArtifactError: The folder is not empty or cannot be written.
    """
    require_empty(Path(folder))
    if stored is not None and stored.shape[1:] != samples.shape[1:]:
        raise ConfigError(
            f"export: stored: got inputs of shape {tuple(stored.shape[1:])}, expected {tuple(samples.shape[1:])}",
            hint="pass stored inputs whose shape without the batch dimension is that of the calibration samples",
        )
    inputs = samples[:N_STORED] if stored is None else stored
    tiles = {fqn: layer.tile for fqn, layer in analog_layers(model).items()}
    if not tiles:
        program = trace_program(model, samples)
        quantised = quantise_program(program, mapping, tile_rows=tile_rows, tile_cols=tile_cols)
    elif mapping is not None:
        raise ConfigError(
            "export: mapping: got a mapping for a network with analog layers, expected None",
            hint="omit the mapping: the analog layers of the network run on tiles",
        )
    else:
        quantised = quantise_analog(model, samples)
    return emit_program(quantised, folder, channels_last(inputs), notes=describe_differences(tiles))


def quantise_analog(model: nn.Module, samples: Tensor, tile_size: tuple[int, int] = (256, 256)) -> QuantisedProgram:
    """Return the integer program of a network with analog layers, with the converters of these layers.

    `tile_size` is the number of rows and columns of the tiles if the network has no analog layer.

    Raises:
        ConfigError: The analog layers have tiles of several sizes, or an analog layer has no input range.
    """
    layers = analog_layers(model)
    sizes = sorted({(layer.partition.tile_rows, layer.partition.tile_cols) for layer in layers.values()})
    if len(sizes) > 1:
        raise ConfigError(
            f"export: got analog layers with tiles of {' and '.join(f'{rows} x {cols}' for rows, cols in sizes)}, "
            "expected one size",
            hint="convert all layers with the same tile.rows and tile.cols",
        )
    rows, cols = sizes[0] if sizes else tile_size
    converters = read_converters(model)
    mapping = LayerMapping(dict.fromkeys(layers, Placement.ANALOG))
    program = trace_program(convert_to_digital_(copy_model(model)), samples)
    return quantise_program(program, mapping, tile_rows=rows, tile_cols=cols, converters=converters)


def export_run(
    task: Task,
    run_dir: Path | str,
    folder: Path | str,
    *,
    n_calibration: int = N_CALIBRATION,
    n_stored: int = N_STORED,
    n_scored: int | None = None,
    progress: Progress = SILENT,
) -> Manifest:
    """Write the network of a finished mapping run as a C++ program, with the weights, mapping and converters of the run.

    The quantisation scales are computed from training samples. The inputs that are stored with the program are validation
    samples. Before the program is written, its quantised reference, whose outputs the program reproduces bit for bit, is scored
    on the validation samples of the run's final results.

    Args:
        task: Task with which the run was started.
        run_dir: Directory of the finished mapping run.
        folder: New or empty folder for the program.
        n_calibration: Number of training samples from which the scales are computed.
        n_stored: Number of validation samples to store with the program.
        n_scored: Number of validation samples on which the program is scored, from the start; None = those of the run's final
            results.
        progress: Receiver of progress bars.

    Returns:
        Manifest of the program, with its score.

    Raises:
        ArtifactError: The run has not finished or cannot be read, or `folder` is not empty or cannot be written.
        ConfigError: A number of samples is less than 1, or an input of the task is not a single floating-point tensor.
        UnsupportedLayerError: An operation cannot be exported, or an analog projection (weight matrix) runs more than once.
        GraphError: The network cannot be traced, or the output of an operation is not finite for the training samples.
        NumericsError: The weights or the scales of the network exceed the range of the integer arithmetic.
    """
    for name, number in (("calibration", n_calibration), ("stored", n_stored), ("scored", n_scored)):
        if number is not None and number < 1:
            raise ConfigError(
                f"export: got {number} {name} samples, expected at least 1",
                hint="pass a positive number, or omit the option to use the default",
            )
    run = open_finished(run_dir)
    require_empty(Path(folder))
    result = load_result(task, run, backend="lionheart")
    stored = _first_inputs(task.validation, n_stored)
    tile = MapSettings.from_json(run.description().settings).tile
    samples = _first_inputs(task.train_batches, n_calibration)
    quantised = quantise_analog(result.model, samples, (tile.rows, tile.cols))
    score = _score(task, quantised, result.results, n_scored, progress)
    notes = describe_differences({fqn: layer.tile for fqn, layer in analog_layers(result.model).items()})
    return emit_program(quantised, folder, channels_last(stored), notes=notes, score=score)


@final
class QuantisedNetwork(nn.Module):
    """Network whose outputs are those of a quantised program, as floating-point numbers.

    Args:
        program: Quantised program that computes the outputs.
    """

    def __init__(self, program: QuantisedProgram) -> None:
        super().__init__()
        self.program, self.n_samples = program, 0
        self.anchor = nn.Parameter(torch.zeros(0))  # an evaluation reads the device of the first parameter

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the program for the inputs `x`, in the shape of the outputs of the exported network.

        The attribute `n_samples` counts the samples of all calls.
        """
        self.n_samples += len(x)
        return torch.from_numpy(np.ascontiguousarray(self.program.compute(channels_last(x))))


def _score(
    task: Task, program: QuantisedProgram, results: Results, n_samples: int | None, progress: Progress
) -> ProgramScore:
    """Return the scores of a program and of the digital network on the same validation samples."""
    n_final = results.final_samples
    chosen = n_final if n_samples is None else n_samples
    batches = take_samples(task.validation, chosen)
    digital = results.baseline.validation_accuracy
    if chosen != n_final:
        digital = digital_accuracy(task.model, batches, task, progress, "digital network, validation")
    network = QuantisedNetwork(program)
    score = digital_accuracy(network, batches, task, progress, "exported program, validation")
    return ProgramScore(
        metric=task.metric,
        n_samples=network.n_samples,
        program_score=score,
        digital_score=digital,
        chips_score=results.validation.mean,
        max_drop_pp=results.max_drop_pp,
    )


def check_program(folder: Path | str) -> dict[str, str]:
    """Run an emitted program on this machine and for AArch64 under QEMU, and compare the outputs with the expected outputs.

    Args:
        folder: Folder written by `emit_program`.

    Returns:
        Dictionary with one result for ``host`` (this machine) and one for ``aarch64``. A result is ``identical``, ``different``
        or ``not run:`` followed by the reason.
    """
    found = {"host": _compare(folder, "host")}
    missing = missing_packages()
    found["aarch64"] = f"not run: install {' '.join(missing)}" if missing else _compare(folder, "aarch64")
    return found


def _compare(folder: Path | str, target: Any) -> str:
    try:
        return "identical" if run_program(folder, target).matches else "different"
    except LionHeartError as error:
        return f"not run: {error.message}"


def _first_inputs(batches: BatchSource, n: int) -> Tensor:
    """Return the first `n` inputs of a batch source, concatenated along the batch dimension.

    The order of the inputs is the same in every call, because the random seed is fixed.

    Raises:
        ConfigError: An input is not a single floating-point tensor.
    """
    found: list[Tensor] = []
    for inputs, _ in batches.epoch(torch.Generator().manual_seed(0)):
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ConfigError(
                f"export: got task inputs of type {type(inputs).__name__!r}, expected one floating-point tensor",
                hint="use a task whose network has one floating-point input tensor; other networks cannot be exported",
            )
        found.append(inputs)
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n]
