"""The quadrants with scores that mean something else than accuracy."""

from __future__ import annotations

import dataclasses

import quadrants
from torch import Tensor, nn

from lionheart.metrics import PERPLEXITY, Metric, accuracy_scores
from lionheart.tasks import Task


def class_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    return -nn.functional.cross_entropy(outputs.float(), targets, reduction="none")


def build_measured(metric: Metric) -> Task:
    """The quadrants, with minus the cross-entropy as score where the metric is perplexity."""
    compute = class_scores if metric == PERPLEXITY else accuracy_scores
    return dataclasses.replace(quadrants.build_task(), metric=dataclasses.replace(metric, compute=compute))


def build_perplexity_task() -> Task:
    """For the command line."""
    return build_measured(PERPLEXITY)
