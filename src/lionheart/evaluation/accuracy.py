"""Functions that run a model on batches and return the score of each sample or the mean score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, call_model, eval_mode, move_batch

ScoreFunction = Callable[[Any, Any], Tensor]


def evaluate_accuracy(
    model: nn.Module, batches: BatchSource, metric: ScoreFunction, *, on_batch: Callable[[], None] = lambda: None
) -> float:
    """Return the mean score of a model over all samples.

    Args:
        model: Model, which is evaluated in ``eval()`` mode; the mode of every module is restored afterwards.
        batches: Source of the samples; one epoch is read.
        metric: Function that maps outputs and targets to one score for each sample.
        on_batch: Function called after each batch, for example to advance a progress bar.
    """
    return evaluate_metrics(model, batches, {"": metric}, on_batch=on_batch)[""]


def evaluate_metrics(
    model: nn.Module,
    batches: BatchSource,
    metrics: Mapping[str, ScoreFunction],
    *,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Run a model once on all batches, and return its mean score for each metric as a dictionary by metric name.

    Args:
        model: Model, which is evaluated in ``eval()`` mode; the mode of every module is restored afterwards.
        batches: Source of the samples; one epoch is read.
        metrics: Metrics by name, each a function that maps outputs and targets to one score for each sample.
        on_batch: Function called after each batch, for example to advance a progress bar.
    """
    scores = _score_samples(model, batches, metrics, on_batch)
    return {name: float(each.sum()) / max(len(each), 1) for name, each in scores.items()}


def score_samples(
    model: nn.Module, batches: BatchSource, metric: ScoreFunction, *, on_batch: Callable[[], None] = lambda: None
) -> Tensor:
    """Return the score of each sample in the order of the batches, shape ``(samples,)``, float64.

    Args:
        model: Model, which is evaluated in ``eval()`` mode; the mode of every module is restored afterwards.
        batches: Source of the samples; one epoch is read.
        metric: Function that maps outputs and targets to one score for each sample.
        on_batch: Function called after each batch, for example to advance a progress bar.
    """
    return _score_samples(model, batches, {"": metric}, on_batch)[""]


@torch.no_grad()
def _score_samples(
    model: nn.Module, batches: BatchSource, metrics: Mapping[str, ScoreFunction], on_batch: Callable[[], None]
) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    scores: dict[str, list[Tensor]] = {name: [torch.zeros(0, dtype=torch.float64, device=device)] for name in metrics}
    with eval_mode(model):
        for inputs, targets in batches.epoch(torch.Generator().manual_seed(0)):
            outputs, truth = call_model(model, move_batch(inputs, device)), move_batch(targets, device)
            for name, metric in metrics.items():
                scores[name].append(metric(outputs, truth).double().flatten().to(device))
            on_batch()
    return {name: torch.cat(each).cpu() for name, each in scores.items()}
