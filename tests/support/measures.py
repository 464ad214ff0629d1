"""The quadrants with scores that mean something else than accuracy."""

from __future__ import annotations

import dataclasses

import quadrants
from torch import Tensor, nn

from lionheart.metrics import PERPLEXITY, Measure
from lionheart.tasks import Task


def class_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    return -nn.functional.cross_entropy(outputs.float(), targets, reduction="none")


def build_measured(measure: Measure) -> Task:
    """The quadrants, with minus the cross-entropy as score where the measure is perplexity."""
    task = dataclasses.replace(quadrants.build_task(), measure=measure)
    return dataclasses.replace(task, metric=class_scores) if measure == PERPLEXITY else task


def build_perplexity_task() -> Task:
    """For the command line."""
    return build_measured(PERPLEXITY)
