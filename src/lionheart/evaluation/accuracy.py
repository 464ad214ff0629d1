"""Functions that run a model on batches and return the score of each sample or the mean score."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, call_model, device_of, eval_mode, move_batch
from lionheart.errors import NumericsError
from lionheart.evaluation.checks import (
    ScoreFunction,
    as_set_metric,
    compute_scores,
    has_invalid_outputs,
    require_finite,
    require_samples,
)


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

    Raises:
        ConfigError: There are no samples, or a `Metric` fails or does not return one score for each sample.
        NumericsError: An input, an output or a score is NaN or infinite.
    """
    scores = _score_samples(model, batches, metrics, on_batch)
    return {name: score_whole(metrics[name], each) for name, each in scores.items()}


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


def score_whole(metric: ScoreFunction, scores: Tensor) -> float:
    """Return the score of a set: the mean of the samples' scores, or the score of the set for a metric of scope ``set``.

    Args:
        metric: Metric, or function that maps outputs and targets to one score for each sample.
        scores: Result of `score_samples`.
    """
    whole = as_set_metric(metric)
    return float(scores.sum()) / len(scores) if whole is None else whole.score_set(scores)


@torch.no_grad()
def _score_samples(
    model: nn.Module, batches: BatchSource, metrics: Mapping[str, ScoreFunction], on_batch: Callable[[], None]
) -> dict[str, Tensor]:
    device = device_of(model)
    scores: dict[str, list[Tensor]] = {name: [] for name in metrics}
    with eval_mode(model):
        for number, (inputs, targets) in enumerate(batches.epoch(torch.Generator().manual_seed(0)), 1):
            where = f"evaluation: batch {number}"
            require_finite(inputs, where)
            outputs, truth = call_model(model, move_batch(inputs, device)), move_batch(targets, device)
            if (is_invalid := has_invalid_outputs(outputs)) is not None and bool(is_invalid):
                raise NumericsError(
                    f"{where}: the outputs of the network contain NaN or infinity, expected finite numbers",
                    hint="check the weights, and that the network computes finite outputs for all its inputs",
                )
            for name, metric in metrics.items():
                found = compute_scores(metric, outputs, truth, where).to(device)
                _require_finite_scores(found, where)
                scores[name].append(found)
            on_batch()
    require_samples(min(sum(map(len, each)) for each in scores.values()))
    return {name: torch.cat(each).cpu() for name, each in scores.items()}


def _require_finite_scores(scores: Tensor, where: str) -> None:
    """Check that the scores of a batch are finite.

    Raises:
        NumericsError: A score is NaN or infinite.
    """
    if not bool(torch.isfinite(scores).all()):
        raise NumericsError(
            f"{where}: metric: got {int((~torch.isfinite(scores)).sum())} of {len(scores)} scores that are NaN or infinite, "
            "expected finite scores",
            hint="change the metric so that every sample has a finite score, and check the samples and the weights",
        )
