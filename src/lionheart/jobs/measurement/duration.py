"""How long the trials of a search take, estimated before the search starts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lionheart.analog import calibrate_input_ranges_
from lionheart.copies import copy_model
from lionheart.data import batch_length, call_model, device_of, move_batch, read_first
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.chips import ChipEvaluator
from lionheart.mapping import LayerMapping
from lionheart.training import build_optimizer, require_parameters, training_autocast
from lionheart.units import format_elapsed


def estimate_duration(context: Context, chips: ChipEvaluator, everything: LayerMapping, n_trials: int) -> float:
    """Return an upper estimate of the total duration of `n_trials` trials, each with retraining and evaluation [s].

    One training step and the evaluation of one batch are timed on a copy of the task's model.

    Args:
        context: Context of the job.
        chips: Evaluator of the job; its validation samples are counted.
        everything: Mapping of the copy, in which all projections that may become analog are analog.
        n_trials: Number of trials.

    Raises:
        ConfigError: No parameter of the task's model requires a gradient.
    """
    require_parameters(build_optimizer(context.task.model, context.settings.train), "retraining")
    twin = context.backend.convert_(copy_model(context.task.model), everything, context.settings.tile)
    device = device_of(twin)
    inputs, targets = read_first(context.task.train_batches, context.streams.generator("timing"))
    inputs, targets = move_batch(inputs, device), move_batch(targets, device)
    calibrate_input_ranges_(twin, lambda model: call_model(model, inputs), warn_of_clipping=False)
    training = context.settings.train
    n_steps = training.max_epochs * (training.steps_per_epoch or len(context.task.train_batches))
    if training.minutes is not None:
        n_steps = 0

    def train_step() -> None:
        with training_autocast(training, device, twin):
            loss: Any = context.task.loss(call_model(twin.train(), inputs), targets)
        loss.backward()

    @torch.no_grad()
    def evaluate_batch() -> None:
        call_model(twin.eval(), inputs)

    batch_size = batch_length(targets) or 1
    n_samples = getattr(chips.validation, "n_samples", len(chips.validation) * batch_size)
    n_batches = context.settings.search.n_chips * n_samples / batch_size
    train_s = n_steps * _median_time(train_step) + 60 * (training.minutes or 0.0)
    return n_trials * (train_s + n_batches * _median_time(evaluate_batch))


def _median_time(work: Callable[[], None], repeats: int = 3) -> float:
    """Return the median wall time of one call of `work` [s], over `repeats` calls after one call that is not timed."""
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def describe_time_left(times_s: Sequence[float], n_trials: int | None, n_done: int) -> str:
    """Return text with the number of remaining trials of a search and the expected total duration of these trials.

    Args:
        times_s: Durations of earlier trials [s].
        n_trials: Total number of trials in the search; None = unknown.
        n_done: Number of finished trials.

    Returns:
        The text, empty if the total number of trials is unknown or no trial remains.
    """
    if n_trials is None or n_done >= n_trials:
        return ""
    left_s = (n_trials - n_done) * statistics.fmean(times_s)
    return f"; {n_trials - n_done} left, about {format_elapsed(left_s)}"
