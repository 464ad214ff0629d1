"""Functions that run a model on batches and return the score of each sample or the mean score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, call_model, eval_mode, move_batch
from lionheart.metrics import Metric

ScoreFunction = Callable[[Any, Any], Tensor]


def as_set_metric(metric: ScoreFunction) -> Metric | None:
    """Return `metric` if it is a metric that is computed over a whole set; None if it gives one score for each sample."""
    return metric if isinstance(metric, Metric) and metric.is_of_set else None


def shape_scores(metric: ScoreFunction, scores: Tensor) -> Tensor:
    """Return the scores of a batch in float64: ``(batch,)``, or ``(batch, statistics)`` for a metric of a whole set."""
    flat = scores.double()
    return flat.flatten() if as_set_metric(metric) is None else flat.reshape(len(flat), -1)


def evaluate_accuracy(
    model: nn.Module, batches: BatchSource, metric: ScoreFunction, *, on_batch: Callable[[], None] = lambda: None
) -> float:
    """Return the mean score of a model over all samples, or the score of the set for a metric of scope ``set``.

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

    The score of a metric of scope ``set`` is that of the whole set.

    Args:
        model: Model, which is evaluated in ``eval()`` mode; the mode of every module is restored afterwards.
        batches: Source of the samples; one epoch is read.
        metrics: Metrics by name, each a function that maps outputs and targets to one score for each sample.
        on_batch: Function called after each batch, for example to advance a progress bar.
    """
    scores = _score_samples(model, batches, metrics, on_batch)
    return {name: _score_whole(metrics[name], each) for name, each in scores.items()}


def score_samples(
    model: nn.Module, batches: BatchSource, metric: ScoreFunction, *, on_batch: Callable[[], None] = lambda: None
) -> Tensor:
    """Return the score of each sample in the order of the batches, shape ``(samples,)``, float64.

    For a metric of scope ``set``, return the statistics of each sample, shape ``(samples, statistics)``.

    Args:
        model: Model, which is evaluated in ``eval()`` mode; the mode of every module is restored afterwards.
        batches: Source of the samples; one epoch is read.
        metric: Function that maps outputs and targets to one score for each sample.
        on_batch: Function called after each batch, for example to advance a progress bar.
    """
    return _score_samples(model, batches, {"": metric}, on_batch)[""]


def _score_whole(metric: ScoreFunction, scores: Tensor) -> float:
    whole = as_set_metric(metric)
    return float(scores.sum()) / max(len(scores), 1) if whole is None else whole.score_set(scores)


@torch.no_grad()
def _score_samples(
    model: nn.Module, batches: BatchSource, metrics: Mapping[str, ScoreFunction], on_batch: Callable[[], None]
) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    scores: dict[str, list[Tensor]] = {name: [] for name in metrics}
    with eval_mode(model):
        for inputs, targets in batches.epoch(torch.Generator().manual_seed(0)):
            outputs, truth = call_model(model, move_batch(inputs, device)), move_batch(targets, device)
            for name, metric in metrics.items():
                scores[name].append(shape_scores(metric, metric(outputs, truth)).to(device))
            on_batch()
    return {
        name: torch.cat(each).cpu() if each else torch.zeros(0, dtype=torch.float64) for name, each in scores.items()
    }
