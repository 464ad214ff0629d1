"""Selection of the samples that a run uses for decisions, for the hold-out test, and for the column calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lionheart.data import (
    BatchSource,
    call_model,
    count_samples,
    cut_samples,
    device_of,
    move_batch,
    read_first,
    take_samples,
)
from lionheart.errors import ConfigError
from lionheart.jobs.settings import MapSettings
from lionheart.tasks import Task


def split_validation(batches: BatchSource, settings: MapSettings) -> tuple[BatchSource, BatchSource | None]:
    """Split the validation samples into samples for decisions and samples for the hold-out test.

    Args:
        batches: All validation samples.
        settings: Settings of the run. Samples are held out only if `confidence_level` is set.

    Returns:
        The samples for decisions, and the samples for the hold-out test. The second element is None if no samples are held out.

    Raises:
        ConfigError: No sample is left for the hold-out test.
    """
    search = settings.search
    if search.confidence_level is None:
        return take_samples(batches, search.validation_samples), None
    n_samples = search.validation_samples
    if n_samples is None:
        n_samples = max(1, count_samples(batches) // 2)
    deciding, rest = cut_samples(batches, n_samples)
    if len(rest) == 0:
        raise ConfigError(
            f"search.validation_samples: {n_samples} samples for decisions leave none for the hold-out test, "
            "because there are no more validation samples",
            hint="reduce search.validation_samples or set it to None (half of the samples), or add validation samples",
        )
    return deciding, rest


def calibration_pass(task: Task) -> Callable[[nn.Module], Any]:
    """Return a function that runs a model on one batch of training samples, to calibrate the outputs of tile columns.

    The returned function receives the model and returns its outputs. All calls use the same batch.
    """
    generator = torch.Generator().manual_seed(0)

    def run(model: nn.Module) -> Any:
        generator.manual_seed(0)
        inputs = read_first(task.train_batches, generator, "Task.train")[0]
        return call_model(model, move_batch(inputs, device_of(model)))

    return run
