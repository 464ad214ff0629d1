"""Export of a network or a finished run as a program in one call."""

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
    """Write a C++ program that computes a network in int8, with the analog projections of `mapping` on tiles.

    Args:
        model: Network in floating point.
        samples: Calibration inputs ``(n, channels, height, width)``, ``(n, tokens, features)`` or ``(n, features)``, which
            determine the scales.
        folder: New or empty folder.
        mapping: Placements of the projections; None for all digital.
        tile_rows: Inputs of a tile.
        tile_cols: Outputs of a tile.
        stored: Inputs to store with the program and its expected outputs; None for the first few samples.

    Returns:
        Manifest of the program.

    Raises:
        UnsupportedLayerError: The network has an operation that cannot be exported.
        ConfigError: The mapping belongs to another network, or the stored inputs have another shape.
        ArtifactError: The folder is not empty, or cannot be written.
    """
    program = trace_program(model, samples)
    quantised = quantise_program(program, mapping, tile_rows=tile_rows, tile_cols=tile_cols)
    if stored is None:
        return emit_program(quantised, folder, program.samples[:N_STORED])
    if stored.shape[1:] != samples.shape[1:]:
        raise ConfigError(
            f"export: got stored inputs of shape {tuple(stored.shape[1:])}, expected {tuple(samples.shape[1:])}",
            hint="stored inputs must have the shape of the calibration samples",
        )
    return emit_program(quantised, folder, channels_last(stored))


def export_run(
    task: Task, run_dir: Path | str, folder: Path | str, *, n_calibration: int = N_CALIBRATION, n_stored: int = N_STORED
) -> Manifest:
    """Write the network of a finished run, with the weights and the mapping of the run, as a C++ program.

    Training samples determine the scales; the stored inputs are validation samples.

    Args:
        task: Task of the run.
        run_dir: Directory of a finished run.
        folder: New or empty folder.
        n_calibration: Number of training samples that determine the scales.
        n_stored: Number of validation samples to store with the program.

    Returns:
        Manifest of the program.

    Raises:
        ArtifactError, ConfigError, UnsupportedLayerError: See `export_model`.
    """
    for name, number in (("calibration", n_calibration), ("stored", n_stored)):
        if number < 1:
            raise ConfigError(
                f"export: got {number} {name} samples, expected a number > 0", hint="omit the option for the default"
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
    """Run a program on this machine and for AArch64, and compare its outputs with the expected outputs.

    Args:
        folder: Folder written by `emit_program`.

    Returns:
        For each target ``identical``, ``different``, or the reason why the program was not run.
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
    """Return the first `n` inputs of a batch source in a fixed order.

    Raises:
        ConfigError: The inputs are not a single tensor.
    """
    found: list[Tensor] = []
    for inputs, _ in batches.epoch(torch.Generator().manual_seed(0)):
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ConfigError(
                f"export: the task's inputs are {type(inputs).__name__}, expected one floating-point tensor",
                hint="only networks with one input tensor can be exported",
            )
        found.append(inputs)
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n]
