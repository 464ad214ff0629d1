"""Error messages for an evaluation that fails because the model, the data and the metric do not fit together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lionheart.data import BatchSource, call_model, eval_mode, move_batch
from lionheart.errors import ConfigError, LionHeartError
from lionheart.evaluation.accuracy import ScoreFunction, as_set_metric
from lionheart.metrics import Metric


def check_scores(metric: ScoreFunction, where: str) -> ScoreFunction:
    """Return a wrapper of `metric` that raises a `ConfigError` if `metric` does not return one score for each sample.

    Args:
        metric: Function that maps outputs and targets to scores of shape ``(batch,)``.
        where: Name of the caller, with which the error message begins.
    """
    of_set = as_set_metric(metric) is not None

    def score(outputs: Any, targets: Any) -> Tensor:
        scores: Any = metric(outputs, targets)
        n_samples = targets.shape[0] if isinstance(targets, Tensor) and targets.ndim else None
        is_vector = isinstance(scores, Tensor) and (scores.ndim == 1 or (of_set and scores.ndim == 2))
        if is_vector and n_samples in (None, len(scores)):
            found: Tensor = scores
            return found
        expected = "(batch,)" if n_samples is None else f"({n_samples},)"
        raise ConfigError(
            f"{where}: metric: got {_describe(scores)} for outputs {_describe(outputs)} and targets "
            f"{_describe(targets)}, expected one score for each sample, shape {expected}",
            hint="return one score for each sample instead of the mean, and check the shape of the targets",
        )

    return replace(metric, compute=score) if isinstance(metric, Metric) else score


def run_explained(
    where: str, model: nn.Module, batches: BatchSource, compute: Callable[[], Any], metric: ScoreFunction | None = None
) -> Any:
    """Return the result of `compute`. If `compute` fails, run the model on the first batch to find and explain the cause.

    Args:
        where: Name of the caller, with which the error message begins.
        model: Model that `compute` runs.
        batches: Batches on which `compute` runs the model.
        compute: Function without arguments whose result is returned.
        metric: Metric with which `compute` scores the outputs; None = no metric.

    Raises:
        ConfigError: `compute` fails, and the model or the metric fails on the first batch too. Errors of LionHeart,
            out-of-memory errors, and exceptions of `compute` that the first batch does not reproduce are raised unchanged.
    """
    try:
        return compute()
    except (LionHeartError, torch.OutOfMemoryError):
        raise
    except Exception:
        _explain(where, model, batches, metric)
        raise


@torch.no_grad()
def _explain(where: str, model: nn.Module, batches: BatchSource, metric: ScoreFunction | None) -> None:
    inputs, targets = next(iter(batches.epoch(torch.Generator().manual_seed(0))))
    device = next(model.parameters()).device
    inputs, targets = move_batch(inputs, device), move_batch(targets, device)
    try:
        with eval_mode(model):
            outputs = call_model(model, inputs)
    except Exception as error:
        raise ConfigError(
            f"{where}: {type(model).__name__} failed on the first batch, inputs {_describe(inputs)}: {_shorten(error)}",
            hint="give inputs that the model accepts: a tensor, a tuple of arguments, or a dict of keyword arguments",
        ) from error
    if metric is None:
        return
    try:
        metric(outputs, targets)
    except LionHeartError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{where}: the metric failed on outputs {_describe(outputs)} and targets {_describe(targets)}: "
            f"{_shorten(error)}",
            hint="give a metric that is a function of (outputs, targets) and returns one score for each sample",
        ) from error


def _describe(value: Any) -> str:
    """Return the shapes and data types of up to four tensors in a value as text, or the type of a value without tensors."""
    leaves = [each for each in tree_leaves(value) if isinstance(each, Tensor)]
    shown = [f"{tuple(each.shape)} {str(each.dtype).removeprefix('torch.')}" for each in leaves[:4]]
    return ", ".join(shown) + (", ..." if len(leaves) > 4 else "") if shown else type(value).__name__


def _shorten(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
