"""The samples of a run: for decisions, for the hold-out test, and for calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lionheart.data import BatchSource, call_model, count_samples, cut_samples, move_batch, take_samples
from lionheart.errors import ConfigError
from lionheart.jobs.settings import MapSettings
from lionheart.tasks import Task


def split_validation(batches: BatchSource, settings: MapSettings) -> tuple[BatchSource, BatchSource | None]:
    """Return the validation samples used for decisions and, if a confidence level is set, those of the hold-out test.

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
            f"search.confidence_level: validation_samples is {n_samples}, which leaves none for the hold-out test",
            hint="lower search.validation_samples, or omit it to use half of the samples for decisions",
        )
    return deciding, rest


def calibration_pass(task: Task) -> Callable[[nn.Module], Any]:
    """Return a function that runs a model for the column calibration: always on the same batch of training samples."""
    generator = torch.Generator().manual_seed(0)

    def run(model: nn.Module) -> Any:
        generator.manual_seed(0)
        inputs = next(iter(task.train_batches.epoch(generator)))[0]
        return call_model(model, move_batch(inputs, next(model.parameters()).device))

    return run
