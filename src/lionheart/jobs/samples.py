"""Selection of the samples that a run uses for decisions, for the hold-out test, and for the column calibration."""

from __future__ import annotations

import math
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
from lionheart.evaluation import count_needed
from lionheart.jobs.settings import MapSettings
from lionheart.metrics import Metric
from lionheart.tasks import Task


def split_validation(task: Task, settings: MapSettings) -> tuple[BatchSource, BatchSource | None]:
    """Split the validation samples into samples for decisions and samples for the hold-out test.

    With a `guarantee`, at least two thirds of the samples are held out. If they are too few for any hold-out test to pass, or
    if the metric has no scores of samples, none are held out, and `explain_no_test` says why.

    Args:
        task: Task with all validation samples.
        settings: Settings of the run. Samples are held out only if `confidence_level` or `guarantee` is set.

    Returns:
        The samples for decisions, and the samples for the hold-out test. The second element is None if no samples are held out.

    Raises:
        ConfigError: `confidence_level` is set, and no sample is left for the hold-out test.
    """
    search, batches = settings.search, task.validation
    if search.guarantee is not None:
        n_samples = count_samples(batches)
        if _explain_no_test(task.metric, settings, n_samples):
            return take_samples(batches, search.validation_samples), None
        return cut_samples(batches, _count_deciding(settings, n_samples))
    if search.confidence_level is None:
        return take_samples(batches, search.validation_samples), None
    wanted = search.validation_samples
    if wanted is None:
        wanted = max(1, count_samples(batches) // 2)
    deciding, rest = cut_samples(batches, wanted)
    if len(rest) == 0:
        raise ConfigError(
            f"search.validation_samples: {wanted} samples for decisions leave none for the hold-out test, "
            "because there are no more validation samples",
            hint="reduce search.validation_samples or set it to None (half of the samples), or add validation samples",
        )
    return deciding, rest


def explain_no_test(task: Task, settings: MapSettings) -> str:
    """Return a sentence on why a run with a `guarantee` can confirm no mapping at all; empty if it can.

    Args:
        task: Task with the metric and the validation samples.
        settings: Settings of the run, with a `guarantee`.
    """
    return _explain_no_test(task.metric, settings, count_samples(task.validation))


def _explain_no_test(metric: Metric, settings: MapSettings, n_samples: int) -> str:
    search = settings.search
    if metric.is_of_set:
        return (
            f"the {metric.name} is computed over the whole set, and a hold-out test needs one score for each sample; use a "
            "metric of scope 'sample'"
        )
    left = n_samples - _count_deciding(settings, n_samples)
    needed = count_needed(search.max_drop_pp or math.inf, 1 - (search.guarantee or 0.0), metric)
    if left >= needed:
        return ""
    return (
        f"{n_samples:,} validation samples leave {left:,} for the hold-out test, and no mapping can pass it with fewer than "
        f"{needed:,}; give at least {math.ceil(1.5 * needed):,} validation samples"
    )


def _count_deciding(settings: MapSettings, n_samples: int) -> int:
    """Return the number of the samples for decisions in a run with a `guarantee`: at most a third of all.

    Only the hold-out test limits how close to the bound a confirmed drop can be, so it gets most of the samples.
    """
    third, wanted = max(1, n_samples // 3), settings.search.validation_samples
    return third if wanted is None else min(wanted, third)


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
