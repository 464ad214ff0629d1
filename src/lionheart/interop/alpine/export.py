"""Functions that export a network, or the network of a finished mapping run, as a C++ program for ALPINE in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.analog import convert_to_digital_
from lionheart.data import BatchSource
from lionheart.errors import ConfigError, LionHeartError
from lionheart.interop.alpine.emit import emit_program
from lionheart.interop.alpine.manifest import Manifest
from lionheart.interop.alpine.qemu import missing_packages
from lionheart.interop.alpine.quantised import quantise_program
from lionheart.interop.alpine.run import run_program
from lionheart.interop.alpine.trace import channels_last, trace_program
from lionheart.jobs.result import load_result, open_finished
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
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
    """Write a C++ program that computes a network in int8. Projections that are analog in `mapping` run on tiles.

    Args:
        model: Floating-point network.
        samples: Calibration inputs ``(n, channels, height, width)``, ``(n, tokens, features)`` or ``(n, features)``. The
            quantisation scales are computed from these inputs.
        folder: New or empty folder for the program.
        mapping: Placements of the projections (weight matrices); None makes all projections digital.
        tile_rows: Number of inputs of a tile.
        tile_cols: Number of outputs of a tile.
        stored: Inputs to store in the folder together with the expected outputs; None stores the first 8 of `samples`.

    Returns:
        Manifest of the program.

    Raises:
        UnsupportedLayerError: An operation cannot be exported, or an analog projection runs more than once per inference.
        GraphError: The network cannot be traced, or the output of an operation is not finite for the samples.
        NumericsError: The weights or the scales of the network exceed the range of the integer arithmetic.
        ConfigError: An analog projection in `mapping` is not in the network, or `samples` or `stored` have a wrong shape.
        ArtifactError: The folder is not empty or cannot be written.
    """
    program = trace_program(model, samples)
    quantised = quantise_program(program, mapping, tile_rows=tile_rows, tile_cols=tile_cols)
    if stored is None:
        return emit_program(quantised, folder, program.samples[:N_STORED])
    if stored.shape[1:] != samples.shape[1:]:
        raise ConfigError(
            f"export: stored: got inputs of shape {tuple(stored.shape[1:])}, expected {tuple(samples.shape[1:])}",
            hint="pass stored inputs whose shape without the batch dimension is that of the calibration samples",
        )
    return emit_program(quantised, folder, channels_last(stored))


def export_run(
    task: Task, run_dir: Path | str, folder: Path | str, *, n_calibration: int = N_CALIBRATION, n_stored: int = N_STORED
) -> Manifest:
    """Write the network of a finished mapping run as a C++ program, with the weights and the mapping of the run.

    The quantisation scales are computed from training samples. The inputs that are stored with the program are validation
    samples.

    Args:
        task: Task with which the run was started.
        run_dir: Directory of the finished mapping run.
        folder: New or empty folder for the program.
        n_calibration: Number of training samples from which the scales are computed.
        n_stored: Number of validation samples to store with the program.

    Returns:
        Manifest of the program.

    Raises:
        ArtifactError: The run has not finished or cannot be read, or `folder` is not empty or cannot be written.
        ConfigError: A number of samples is less than 1, or an input of the task is not a single floating-point tensor.
        UnsupportedLayerError: An operation cannot be exported, or an analog projection (weight matrix) runs more than once.
        GraphError: The network cannot be traced, or the output of an operation is not finite for the training samples.
        NumericsError: The weights or the scales of the network exceed the range of the integer arithmetic.
    """
    for name, number in (("calibration", n_calibration), ("stored", n_stored)):
        if number < 1:
            raise ConfigError(
                f"export: got {number} {name} samples, expected at least 1",
                hint="pass a positive number, or omit the option to use the default",
            )
    run = open_finished(run_dir)
    result = load_result(task, run, backend="lionheart")
    tile = MapSettings.from_json(run.description().settings).tile
    return export_model(
        convert_to_digital_(result.model),
        _first_inputs(task.train_batches, n_calibration),
        folder,
        mapping=result.mapping,
        tile_rows=tile.rows,
        tile_cols=tile.cols,
        stored=_first_inputs(task.validation, n_stored),
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
