"""Which samples decide, which are held out, and which calibrate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, final

import torch
from torch import nn

from lionheart.data import BatchSource, DivisibleSource, call_model, move_batch
from lionheart.errors import ConfigError
from lionheart.jobs.settings import MapSettings
from lionheart.tasks import Task


def take_samples(batches: BatchSource, n_samples: int | None) -> BatchSource:
    """Return the first samples of a source, whole batches where it cannot be cut; None = the source itself.

    Raises:
        ConfigError: Less than one sample is asked for.
    """
    return batches if n_samples is None else cut_samples(batches, n_samples)[0]


def cut_samples(batches: BatchSource, n_samples: int) -> tuple[BatchSource, BatchSource]:
    """Return the first samples of a source and the rest, in whole batches where it cannot be cut.

    Raises:
        ConfigError: Less than one sample is asked for.
    """
    if n_samples < 1:
        raise ConfigError(f"samples: got {n_samples}, expected a number > 0", hint="leave it out to take all samples")
    if isinstance(batches, DivisibleSource):
        return batches.take(n_samples), batches.take(None, after=n_samples)
    n_batches, seen = 0, 0
    for _, targets in batches.epoch(torch.Generator().manual_seed(0)):
        n_batches += 1
        seen += len(targets)
        if seen >= n_samples:
            break
    return SomeBatches(batches, 0, n_batches), SomeBatches(batches, n_batches, len(batches))


def count_samples(batches: BatchSource) -> int:
    """Return how many samples one epoch of a source has, by reading it."""
    return sum(len(targets) for _, targets in batches.epoch(torch.Generator().manual_seed(0)))


def split_validation(batches: BatchSource, settings: MapSettings) -> tuple[BatchSource, BatchSource | None]:
    """Return the validation samples that decide, and with a promise those that are held out to certify it.

    Raises:
        ConfigError: Nothing is left to hold out.
    """
    search = settings.search
    if search.promise is None:
        return take_samples(batches, search.validation_samples), None
    n_samples = search.validation_samples
    if n_samples is None:
        n_samples = max(1, count_samples(batches) // 2)
    deciding, rest = cut_samples(batches, n_samples)
    if len(rest) == 0:
        raise ConfigError(
            f"search.promise: all validation samples decide (validation_samples is {n_samples}), none are left to certify it",
            hint="lower search.validation_samples, or leave it out to decide with half of them",
        )
    return deciding, rest


@final
class SomeBatches:
    """The batches of a source from one number to another."""

    def __init__(self, source: BatchSource, first: int, last: int) -> None:
        self.source, self.first, self.last = source, first, max(first, last)

    def __len__(self) -> int:
        return self.last - self.first

    def epoch(self, generator: torch.Generator) -> Any:
        """Yield these batches."""
        return itertools.islice(self.source.epoch(generator), self.first, self.last)


def calibration_pass(task: Task) -> Callable[[nn.Module], Any]:
    """Return what runs a model on the inputs of the column calibration: one batch of training samples, always the same."""
    generator = torch.Generator().manual_seed(0)

    def run(model: nn.Module) -> Any:
        generator.manual_seed(0)
        inputs = next(iter(task.train_batches.epoch(generator)))[0]
        return call_model(model, move_batch(inputs, next(model.parameters()).device))

    return run
