"""Judgement of inputs, outputs and scores, and error messages for models, data and metrics that do not fit together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lionheart.data import BatchSource, batch_length, call_model, device_of, eval_mode, move_batch, read_first
from lionheart.errors import ConfigError, LionHeartError, NumericsError
from lionheart.loaders import shorten_error
from lionheart.logits import find_logits
from lionheart.metrics import Metric

ScoreFunction = Callable[[Any, Any], Tensor]
_DATA_HINT = "remove or repair the samples with these values"
_MOST_SEARCHED = 100_000  # batches of a split in which invalid values are searched at most


def as_set_metric(metric: ScoreFunction) -> Metric | None:
    """Return `metric` if it is a metric that is computed over a whole set; None if it gives one score for each sample."""
    return metric if isinstance(metric, Metric) and metric.is_of_set else None


def compute_scores(metric: ScoreFunction, outputs: Any, targets: Any, where: str = "evaluation") -> Tensor:
    """Return the scores of a batch as float64. If `metric` is a `Metric`, check that it returns one score for each sample.

    For a metric of scope ``set``, return the statistics of the samples, shape ``(batch, statistics)``.

    Args:
        metric: Function that maps outputs and targets to scores, shape ``(batch,)``.
        outputs: Outputs of the model.
        targets: Targets of the batch.
        where: Name of the caller, with which error messages begin.

    Raises:
        ConfigError: The `Metric` fails, or does not return one score for each sample.
    """
    if not isinstance(metric, Metric):
        return metric(outputs, targets).double().flatten()
    try:
        scores: Any = metric(outputs, targets)
    except torch.OutOfMemoryError:
        raise
    except LionHeartError as error:
        raise ConfigError(f"{where}: metric: {error.message}", hint=error.hint) from error
    except Exception as error:
        raise ConfigError(
            f"{where}: the metric failed on outputs {describe(outputs)} and targets {describe(targets)}: "
            f"{shorten_error(error)}",
            hint="give a metric that is a function of (outputs, targets) and returns one score for each sample",
        ) from error
    n_samples = batch_length(targets)
    is_tensor = isinstance(scores, Tensor) and not scores.is_complex()
    if is_tensor and scores.ndim in ((1, 2) if metric.is_of_set else (1,)) and n_samples in (None, len(scores)):
        found: Tensor = scores.double()
        return found.reshape(len(found), -1) if metric.is_of_set else found
    n = "batch" if n_samples is None else f"{n_samples}"
    expected = f"one score for each sample, shape ({n},)"
    hint = "return one score for each sample instead of the mean, and check the shape of the targets"
    if metric.is_of_set:
        expected = f"a row of statistics for each sample, shape ({n}, statistics)"
        hint = "return the statistics of each sample, and compute the value of the set in Metric.finish"
    raise ConfigError(
        f"{where}: metric: got {describe(scores)} for outputs {describe(outputs)} and targets "
        f"{describe(targets)}, expected {expected}",
        hint=hint,
    )


def require_finite(inputs: Any, where: str = "evaluation") -> None:
    """Check that the inputs of a batch are finite.

    Raises:
        NumericsError: An input is NaN or infinite.
    """
    found = find_invalid(inputs)
    if found is not None:
        raise NumericsError(f"{where}: inputs: {found}, expected finite numbers", hint=_DATA_HINT)


def require_samples(n_samples: int, where: str = "evaluation") -> None:
    """Check that an evaluation had samples.

    Raises:
        ConfigError: There is no sample.
    """
    if n_samples == 0:
        raise ConfigError(f"{where}: got no samples, expected at least one", hint="give data with at least one sample")


def find_invalid(value: Any) -> str | None:
    """Return text that describes the first tensor in `value` with values that are NaN or infinite, or None.

    A tensor of zeros and minus infinity is valid, because it is an additive attention mask.
    """
    for leaf in _float_tensors(value):
        if bool(torch.isfinite(leaf).all()):
            continue
        finite = leaf[torch.isfinite(leaf)]
        n_nan, n_above = int(leaf.isnan().sum()), int((leaf == torch.inf).sum())
        if n_nan == n_above == 0 and leaf.ndim > 1 and not bool(finite.any()):
            continue
        n_invalid = leaf.numel() - finite.numel()
        kind = "NaN" if n_nan == n_invalid else "infinite" if n_nan == 0 else "NaN or infinite"
        return f"got {n_invalid} of {leaf.numel()} values {kind} in {describe(leaf)}"
    return None


def has_invalid_outputs(outputs: Any) -> Tensor | None:
    """Return whether the outputs of a model contain NaN or plus infinity, as a tensor without dimensions; None = no tensors.

    Minus infinity is valid, because models mask logits with it. Only the logits are judged if they can be told.
    """
    found = [~(leaf < torch.inf).all() for leaf in _float_tensors(find_logits(outputs))]
    return torch.stack([each.to(found[0].device) for each in found]).any() if found else None


def is_equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same shape and values. NaN equals NaN."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _float_tensors(value: Any) -> list[Tensor]:
    leaves = tree_leaves(value)
    return [each for each in leaves if isinstance(each, Tensor) and each.is_floating_point() and not each.is_meta]


@contextmanager
def naming_data(splits: Mapping[str, BatchSource], where: str = "Task") -> Iterator[None]:
    """Within the context, add to a `NumericsError` the split and the batch whose values are invalid, if there are any.

    Args:
        splits: Sources of batches by the name of the split.
        where: Name of the object whose attributes the splits are, for the message.

    Raises:
        NumericsError: The same error, with the name of the split and the number of the batch in its message.
    """
    try:
        yield
    except NumericsError as error:
        found = _find_invalid_batch(splits)
        if found is None:
            raise
        name, number, text = found
        raise NumericsError(
            f"{where}.{name}: batch {number}: {text}, expected finite numbers",
            hint=f"{_DATA_HINT}; a run that has started can then be resumed",
        ) from error


def _find_invalid_batch(splits: Mapping[str, BatchSource]) -> tuple[str, int, str] | None:
    for name, source in splits.items():
        batches = itertools.islice(source.epoch(torch.Generator().manual_seed(0)), _MOST_SEARCHED)
        for number, (inputs, targets) in enumerate(batches, 1):
            for kind, value in (("inputs", inputs), ("targets", targets)):
                found = find_invalid(value)
                if found is not None:
                    return name, number, f"{kind}: {found}"
    return None


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
        NumericsError: A value in the data is NaN or infinite.
    """
    try:
        with naming_data({"data": batches}, where):
            return compute()
    except (LionHeartError, torch.OutOfMemoryError):
        raise
    except Exception:
        inputs, targets = read_first(batches, where=where)
        outputs = run_model(model, inputs, where)
        if metric is not None:
            compute_scores(metric, outputs, move_batch(targets, device_of(model)), where)
        raise


@torch.no_grad()
def run_model(model: nn.Module, inputs: Any, where: str) -> Any:
    """Return the outputs of a model in ``eval()`` mode for the inputs of the first batch.

    Raises:
        ConfigError: The model fails.
    """
    with eval_mode(model):
        return call_explained(model, inputs, f"{where}: {type(model).__name__} failed on the first batch")


def call_explained(model: nn.Module, inputs: Any, failure: str) -> Any:
    """Return the outputs of a model for `inputs`, moved to the device of the model.

    Args:
        model: Model, which runs in its present mode.
        inputs: Inputs of a batch.
        failure: Text with which the error message begins.

    Raises:
        ConfigError: The model fails.
    """
    try:
        return call_model(model, move_batch(inputs, device_of(model)))
    except (LionHeartError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        hint = "give inputs that the model accepts: a tensor, a tuple of arguments, or a dict of keyword arguments"
        if "more than 1 value per channel" in str(error):
            hint = (
                "batch norm needs at least two samples in a training batch: use a larger batch_size, or drop_last=True"
            )
        raise ConfigError(f"{failure}, inputs {describe(inputs)}: {shorten_error(error)}", hint=hint) from error


def describe(value: Any) -> str:
    """Return the shapes and data types of up to four tensors in a value as text, or the type of a value without tensors."""
    leaves = [each for each in tree_leaves(value) if isinstance(each, Tensor)]
    shown = [
        f"{tuple(each.shape)} {str(each.dtype).removeprefix('torch.')}{' on meta' if each.is_meta else ''}"
        for each in leaves[:4]
    ]
    if not shown:
        return type(value).__name__
    kind = "" if isinstance(value, Tensor) else f"{type(value).__name__} of "
    return kind + ", ".join(shown) + (", ..." if len(leaves) > 4 else "")
