"""Judgement of the outputs, scores, loss and gradients that a network has on one batch before a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lionheart.copies import copy_model
from lionheart.data import Batch, BatchSource, count_batches, device_of, first_sample, move_batch
from lionheart.errors import ConfigError, LionHeartError
from lionheart.evaluation.checks import (
    ScoreFunction,
    call_explained,
    compute_scores,
    describe,
    has_invalid_outputs,
    is_equal,
    run_model,
)
from lionheart.evaluation.overlap import last_batch_size
from lionheart.loaders import shorten_error
from lionheart.metrics import Metric

LossFunction = Callable[[Any, Any], Tensor]
_SAME_OUTPUTS = 1e-3  # largest difference of two equal forward passes, relative to the largest output: rounding on GPUs


@final
@dataclass(frozen=True)
class Subject:
    """What a run uses of a task.

    Args:
        model: Network; the checks run a copy.
        metric: Metric, or function that maps outputs and targets to one score for each sample; None = not used.
        loss: Function that maps outputs and targets to a scalar; None = not used.
        has_training: Whether the run trains the network, so that the loss must have a gradient.
        n_steps: Steps of one epoch of the training at most; None = all batches.
        name: Name of the object whose arguments the messages name.
    """

    model: nn.Module
    metric: ScoreFunction | None = None
    loss: LossFunction | None = None
    has_training: bool = True
    n_steps: int | None = None
    name: str = "Task"


def check_outputs(subject: Subject, twin: nn.Module, name: str, batch: Batch, *, is_first: bool) -> None:
    """Run the first batch of a split in ``eval()`` mode, and check the outputs and the scores.

    Args:
        subject: Network, metric and loss.
        twin: Copy of the network.
        name: Name of the split.
        batch: First batch of the split.
        is_first: Whether to check too that a second pass gives the same outputs.

    Raises:
        ConfigError: The network or the metric fails, or its outputs or scores cannot be used.
    """
    inputs, targets = batch
    where = f"{subject.name}.model"
    outputs = _run(subject, twin, name, inputs)
    is_invalid = has_invalid_outputs(outputs)
    if is_invalid is not None and bool(is_invalid):
        raise ConfigError(
            f"{where}: the outputs for the first batch of {subject.name}.{name} contain NaN or infinity, expected finite "
            "outputs",
            hint=f"check that the network in {where} computes finite outputs for finite inputs {describe(inputs)}",
        )
    if is_first:
        _check_repeats(subject, twin, outputs, _run(subject, twin, name, inputs))
    if subject.metric is not None:
        with torch.no_grad():
            _judge_scores(subject, name, outputs, move_batch(targets, device_of(twin)))


def _run(subject: Subject, twin: nn.Module, name: str, inputs: Any) -> Any:
    try:
        return run_model(twin, inputs, f"{subject.name}.{name}")
    except ConfigError as error:
        raise ConfigError(
            error.message, hint=f"{error.hint}; change {subject.name}.{name} or {subject.name}.model"
        ) from error


def _check_repeats(subject: Subject, twin: nn.Module, outputs: Any, again: Any) -> None:
    where = f"{subject.name}.model"
    given = subject.model.state_dict()
    changed = [
        name
        for name, value in twin.state_dict().items()
        if isinstance(value, Tensor) and not is_equal(value, given[name].to(value.device))
    ]
    if changed:
        raise ConfigError(
            f"{where}: a forward pass in eval() mode changed {changed[0]!r}, expected unchanged weights and buffers",
            hint="change weights and buffers in forward only if self.training, and register caches with persistent=False",
        )
    for one, other in zip(tree_leaves(outputs), tree_leaves(again), strict=False):
        if not (isinstance(one, Tensor) and isinstance(other, Tensor) and one.is_floating_point()):
            continue
        if one.shape == other.shape:
            finite = torch.isfinite(one) & torch.isfinite(other)
            if not bool(finite.any()):
                continue
            largest = float(one[finite].abs().max())
            difference = float((one[finite] - other[finite]).abs().max())
            if difference <= _SAME_OUTPUTS * largest:
                continue
        raise ConfigError(
            f"{where}: two forward passes in eval() mode gave different outputs for the same inputs, expected equal outputs",
            hint="let the network draw random numbers only if self.training, for example nn.Dropout instead of F.dropout",
        )


def _judge_scores(subject: Subject, name: str, outputs: Any, targets: Any) -> None:
    metric: Any = subject.metric
    where = f"{subject.name}.metric"
    try:
        scores = compute_scores(metric, outputs, targets, f"{subject.name}.{name}, first batch")
    except LionHeartError as error:
        raise ConfigError(
            error.message, hint=f"{error.hint or 'correct the metric'}; change {where} or {subject.name}.{name}"
        ) from error
    n_invalid = int((~torch.isfinite(scores)).sum())
    if n_invalid:
        raise ConfigError(
            f"{where}: got {n_invalid} of {len(scores)} scores NaN or infinite for the first batch of {subject.name}.{name}, "
            "expected finite scores",
            hint=f"change {where} so that every sample has a finite score",
        )
    if not isinstance(metric, Metric):
        return
    wrong = scores[(scores < 0) | (scores > 1)]
    if metric.is_of_set:
        _check_set_score(where, metric, scores)
    elif metric.kind == "share" and len(wrong):
        raise ConfigError(
            f"{where}: got the score {float(wrong[0]):g} for the first batch of {subject.name}.{name}, expected scores from 0 "
            "to 1",
            hint=f"return shares of 1 from {where}, for example scores / 100 for scores in percent; for values with a unit, "
            "such as errors, give Metric(name, kind='plain', unit=..., higher_is_better=..., compute=...)",
        )


def _check_set_score(where: str, metric: Metric, statistics: Tensor) -> None:
    """Check that `finish` works on the statistics of the first batch. NaN is valid, as a class may be missing in the batch."""
    try:
        metric.score_set(statistics.cpu())
    except LionHeartError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{where}: finish failed on the statistics {describe(statistics)} of the first batch: {shorten_error(error)}",
            hint=f"change {where}: finish must return one number for statistics of the shape (samples, statistics)",
        ) from error


# -- loss and gradients ------------------------------------------------------------------------------------------------


def check_training(subject: Subject, twin: nn.Module, source: BatchSource, batch: Batch) -> None:
    """Run the first training batch forward and backward, and check the loss and its gradients.

    Args:
        subject: Network, metric and loss; the loss must not be None.
        twin: Copy of the network, which is set to ``train()`` mode.
        source: Source of the training batches.
        batch: First training batch.

    Raises:
        ConfigError: The network or the loss fails, or the loss is not a finite scalar with finite gradients.
    """
    inputs, targets = batch
    twin.train()
    failure = f"{subject.name}.train: {type(twin).__name__} failed in train() mode on the first batch"
    outputs = call_explained(twin, inputs, failure)
    if device_of(twin).type == "cuda":  # a wrong label on a GPU ends all use of the GPU by this process
        _check_labels(subject, move_batch(outputs, torch.device("cpu")), targets)
    loss = compute_loss(subject, outputs, move_batch(targets, device_of(twin)), "the first batch of")
    if subject.has_training:
        _check_gradients(subject, twin, loss)
        _check_last_batch(subject, twin, source, inputs)


def explain_step(subject: Subject, number: int, inputs: Any, targets: Any) -> None:
    """Explain why a training step failed, if the network without analog layers or the loss fails on the batch too.

    Args:
        subject: Network, metric and loss; the loss must not be None. A copy of the network runs.
        number: Number of the batch in its epoch, counted from 1.
        inputs: Inputs of the batch.
        targets: Targets of the batch.

    Raises:
        ConfigError: The network or the loss fails on the batch.
    """
    twin = copy_model(subject.model).train()
    name = f"{subject.name}.train"
    outputs = call_explained(twin, inputs, f"{name}: batch {number}: {type(twin).__name__} failed in train() mode")
    compute_loss(subject, outputs, move_batch(targets, device_of(twin)), f"batch {number} of")


def compute_loss(subject: Subject, outputs: Any, targets: Any, which: str) -> Tensor:
    """Return the loss of a training batch, and check that it is a finite scalar.

    Args:
        subject: Network and loss; the loss must not be None.
        outputs: Outputs of the network.
        targets: Targets of the batch.
        which: Name of the batch in error messages.

    Raises:
        ConfigError: The loss fails, is not a scalar tensor, or is not finite.
    """
    where, function = f"{subject.name}.loss", subject.loss
    given = f"outputs {describe(outputs)} and targets {describe(targets)} of {which} {subject.name}.train"
    hint = f"set {where} to a function of (outputs, targets) that returns a scalar tensor, such as a mean over samples"
    if function is None:
        raise ConfigError(f"{where}: got None, expected a function", hint=hint)
    try:
        loss: Any = function(outputs, targets)
    except torch.OutOfMemoryError:
        raise
    except LionHeartError as error:
        raise ConfigError(
            f"{where}: {error.message}",
            hint=f"{error.hint}; change {where}, {subject.name}.model or {subject.name}.train",
        ) from error
    except Exception as error:
        raise ConfigError(f"{where}: failed on {given}: {shorten_error(error)}", hint=hint) from error
    if not isinstance(loss, Tensor) or loss.ndim or loss.is_complex():
        raise ConfigError(f"{where}: got {describe(loss)} for {given}, expected a scalar tensor", hint=hint)
    if not bool(torch.isfinite(loss)):
        raise ConfigError(
            f"{where}: got {float(loss.detach())} for {given}, expected a finite number",
            hint=f"change {where} so that it is finite for finite outputs, or check the targets of {subject.name}.train",
        )
    return loss


@torch.no_grad()
def _check_labels(subject: Subject, outputs: Any, targets: Any) -> None:
    """Compute the loss on the CPU, where a label that is no class is an error that can be explained."""
    try:
        compute_loss(subject, outputs, targets, "the first batch of")
    except ConfigError as error:
        if isinstance(error.__cause__, (ConfigError, IndexError)):
            raise


def _check_gradients(subject: Subject, twin: nn.Module, loss: Tensor) -> None:
    where = f"{subject.name}.loss"
    hint = f"compute {where} from the outputs with differentiable operations, without detach(), item(), argmax() or no_grad()"
    value = float(loss.detach())
    if not loss.requires_grad:
        raise ConfigError(
            f"{where}: got a loss without a gradient, expected one that depends on the weights", hint=hint
        )
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{where}: the backward pass failed on the first batch of {subject.name}.train: {shorten_error(error)}",
            hint=hint,
        ) from error
    gradients = {name: each.grad for name, each in twin.named_parameters() if each.grad is not None}
    if not gradients:
        raise ConfigError(
            f"{where}: got a loss that no trainable weight of the network influences, expected one with a gradient",
            hint=hint,
        )
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise ConfigError(
                f"{where}: got a gradient of {name!r} that is NaN or infinite on the first batch, expected finite gradients",
                hint=f"change {where} or the network so that no derivative is infinite, such as that of sqrt at 0",
            )
    if value != 0 and not any(bool(gradient.any()) for gradient in gradients.values()):
        raise ConfigError(
            f"{where}: got {value:g} with gradients that are all 0 on the first batch, expected a loss that depends on "
            "the weights",
            hint=hint,
        )


def _check_last_batch(subject: Subject, twin: nn.Module, source: BatchSource, inputs: Any) -> None:
    """Check that the network trains on one sample if an epoch ends with a batch of one sample."""
    if last_batch_size(source) != 1 or (
        subject.n_steps is not None and count_batches(source, subject.n_steps + 1) > subject.n_steps
    ):
        return
    name = f"{subject.name}.train"
    failure = f"{name}: the last batch has 1 sample, on which {type(twin).__name__} fails in train() mode"
    with torch.no_grad():
        call_explained(twin, first_sample(inputs), failure)
