"""The mean score of a model over batches."""

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
    """Return the mean of `metric` over all samples, in ``eval()`` mode; every module's mode is restored.

    Args:
        model: Evaluated as it is.
        batches: Read once, in an order that does not matter.
        metric: Maps outputs and targets to one score for each sample.
        on_batch: Called after each batch, for a bar.
    """
    return evaluate_metrics(model, batches, {"": metric}, on_batch=on_batch)[""]


def evaluate_metrics(
    model: nn.Module,
    batches: BatchSource,
    metrics: Mapping[str, ScoreFunction],
    *,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the mean of several metrics over all samples from one pass, by name; else as `evaluate_accuracy`."""
    scores = _score_samples(model, batches, metrics, on_batch)
    return {name: float(each.sum()) / max(len(each), 1) for name, each in scores.items()}


def score_samples(
    model: nn.Module, batches: BatchSource, metric: ScoreFunction, *, on_batch: Callable[[], None] = lambda: None
) -> Tensor:
    """Return the score of each sample, ``(samples,)`` float64 in the order of the batches; else as `evaluate_accuracy`."""
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
