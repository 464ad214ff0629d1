"""The mean score of a model over batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.training.batches import BatchSource, call_model, move_batch

Metric = Callable[[Any, Any], Tensor]


def evaluate_accuracy(
    model: nn.Module, batches: BatchSource, metric: Metric, *, on_batch: Callable[[], None] = lambda: None
) -> float:
    """Return the mean of `metric` over all samples, in ``eval()`` mode; every module's mode is restored.

    Args:
        model: Evaluated as it is.
        batches: Read once, in an order that does not matter.
        metric: Maps outputs and targets to one score for each sample.
        on_batch: Called after each batch, for a bar.
    """
    scores = score_samples(model, batches, metric, on_batch=on_batch)
    return float(scores.sum()) / max(len(scores), 1)


@torch.no_grad()
def score_samples(
    model: nn.Module, batches: BatchSource, metric: Metric, *, on_batch: Callable[[], None] = lambda: None
) -> Tensor:
    """Return the score of each sample, ``(samples,)`` float64 in the order of the batches; else as `evaluate_accuracy`."""
    was_training = {module: module.training for module in model.modules()}
    model.eval()
    device = next(model.parameters()).device
    scores = [torch.zeros(0, dtype=torch.float64, device=device)]
    try:
        for inputs, targets in batches.epoch(torch.Generator().manual_seed(0)):
            score = metric(call_model(model, move_batch(inputs, device)), move_batch(targets, device))
            scores.append(score.double().flatten())
            on_batch()
    finally:
        for module, mode in was_training.items():
            module.training = mode
    return torch.cat(scores).cpu()
