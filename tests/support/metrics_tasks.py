"""The quadrants with scores that mean something else than accuracy."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import quadrants
import torch
from torch import Tensor, nn

from lionheart.metrics import PERPLEXITY, Metric, accuracy_scores, root_mean_squared_error
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


def build_regression_task() -> Task:
    """Return a task whose network finds three numbers [K] for each picture of the quadrants, and their RMSE."""
    plain = quadrants.build_task()
    weights = nn.functional.one_hot(torch.arange(4), 4)[:, :3].float()

    def relabel(batches: Any) -> list[tuple[Tensor, Tensor]]:
        return [(x, weights[y] + 0.5) for x, y in batches.epoch(torch.Generator().manual_seed(0))]

    model = copy.deepcopy(plain.model)
    model.append(nn.Softmax(-1))
    model.append(_FirstThree())
    splits = {name: relabel(getattr(plain, name)) for name in ("train", "validation", "test")}
    return Task(model, **splits, metric=root_mean_squared_error("K"), loss=nn.functional.mse_loss, name="temperatures")


class _FirstThree(nn.Module):
    def forward(self, shares: Tensor) -> Tensor:
        return shares[:, :3] + 0.5
