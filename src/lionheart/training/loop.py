"""The training loop for digital networks and for networks with analog layers.

Analog layers add simulated hardware noise to their computation in ``train()`` mode.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, call_model, count_batches, move_batch
from lionheart.errors import ConfigError, LionHeartError, NumericsError
from lionheart.progress import SILENT, Progress
from lionheart.record import Record
from lionheart.rng import RandomStreams
from lionheart.runs import TrainTrace
from lionheart.training.devices import training_autocast
from lionheart.training.spec import TrainSpec
from lionheart.training.state import load_training_state, save_training_state

LossFunction = Callable[[Any, Any], Tensor]

_ONE_CYCLE_WARMUP = 0.2  # share of the steps in which the learning rate of the one-cycle schedule increases


@final
@dataclass(frozen=True)
class TrainHooks:
    """Functions that `train` calls during training.

    Args:
        before_epoch: Function called before each epoch with the index of the epoch, for example to seed the hardware noise.
        after_step: Function called after each optimiser step, for example to clip weights.
        should_stop: Function called with the training record after each epoch, and when training resumes from a checkpoint. If
            the function returns True, training stops.
        explain_failure: Function called with the number of the batch in the epoch, counted from 1, and its inputs and targets,
            if the forward or backward pass raises an exception. The function may raise an error that explains the failure.
    """

    before_epoch: Callable[[int], None] = lambda epoch: None
    after_step: Callable[[], None] = lambda: None
    should_stop: Callable[[TrainTrace], bool] = lambda trace: False
    explain_failure: Callable[[int, Any, Any], None] = lambda number, inputs, targets: None


@final
@dataclass(frozen=True)
class TrainSession:
    """Checkpoint file and progress display for one call of `train`.

    Args:
        checkpoint: File to which the state is written after each epoch. If the file exists, training resumes from its state.
            None = no checkpoint.
        progress: Object that displays a progress bar.
        label: Text next to the progress bar. Error messages begin with this text too.
    """

    checkpoint: Path | None = None
    progress: Progress = SILENT
    label: str = "training"


class _Stored(Record):
    """Metadata that a checkpoint contains in addition to the weights and the optimiser state."""

    trace: TrainTrace


NO_HOOKS, NO_SESSION = TrainHooks(), TrainSession()

#: Second-moment decay of AdamW, the default of PyTorch.
_ADAMW_BETA2 = 0.999


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return the optimiser that `spec` selects for all trainable parameters of a model.

    Weight decay applies only to parameters with two or more dimensions.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]] or groups[:1]  # of a frozen model: an empty one
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.momentum, _ADAMW_BETA2))
    nesterov = spec.nesterov and spec.momentum > 0
    return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=nesterov)


def require_parameters(optimizer: torch.optim.Optimizer, label: str) -> None:
    """Raise if an optimiser has nothing to train.

    Raises:
        ConfigError: No parameter of the model requires a gradient.
    """
    if not any(group["params"] for group in optimizer.param_groups):
        raise ConfigError(
            f"{label}: no parameter of the model requires a gradient, there is nothing to train",
            hint="unfreeze some parameters, or search without retraining: strategy = 'training-free'",
        )


def learning_rate_at(spec: TrainSpec, progress: float) -> float:
    """Return the learning rate after the fraction `progress` (0 to 1) of the steps in `spec.max_epochs` epochs.

    The learning rate is at most `spec.learning_rate` and follows the curve that `spec.schedule` names.
    """
    if spec.schedule == "constant":
        return spec.learning_rate
    if spec.schedule == "one_cycle":
        if progress < _ONE_CYCLE_WARMUP:
            return spec.learning_rate * max(progress / _ONE_CYCLE_WARMUP, 0.04)
        progress = (progress - _ONE_CYCLE_WARMUP) / (1 - _ONE_CYCLE_WARMUP)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def is_flat(losses: Sequence[float], patience: int | None) -> bool:
    """Return whether no loss of the last `patience` epochs is below the lowest loss of the epochs before them.

    Return False if `patience` is None or there are no epochs before them.
    """
    if patience is None or len(losses) <= patience:
        return False
    return min(losses[-patience:]) >= min(losses[:-patience])


def train(
    model: nn.Module,
    batches: BatchSource,
    loss_function: LossFunction,
    spec: TrainSpec,
    optimizer: torch.optim.Optimizer,
    *,
    streams: RandomStreams,
    hooks: TrainHooks = NO_HOOKS,
    session: TrainSession = NO_SESSION,
) -> TrainTrace:
    """Train a model in place until a stopping criterion is met.

    Training stops when the loss has not decreased for `spec.patience` epochs, after `spec.max_epochs` epochs, or when
    `hooks.should_stop` returns True.

    Args:
        model: Model, whose weights are changed. The model remains in ``train()`` mode.
        batches: Source of the training batches.
        loss_function: Function that maps outputs and targets to a scalar loss.
        spec: Training settings, such as learning rate, stopping criteria and precision.
        optimizer: Optimiser for the parameters of the model. Its current state is the initial state of the training.
        streams: Random streams that determine the order of the data; each epoch has its own stream.
        hooks: Functions that are called during training.
        session: Checkpoint file and progress display.

    Returns:
        Record with the mean loss of each epoch and the reason why training stopped.

    Raises:
        NumericsError: The mean loss of an epoch is NaN or infinite.
        ConfigError: The training data contain no batch, or no parameter of the model requires a gradient.
        ArtifactError: The checkpoint is damaged or belongs to another model.
    """
    trace, checkpoint, label = TrainTrace(outcome="running"), session.checkpoint, session.label
    if checkpoint is not None and checkpoint.exists():
        trace = _Stored.from_json(load_training_state(checkpoint, model, optimizer), str(checkpoint)).trace
        trace = _judge(trace, spec, hooks)  # the cap or the budget may have been raised since
    require_parameters(optimizer, label)
    device = next(model.parameters()).device
    steps_per_epoch = count_batches(batches, spec.steps_per_epoch)
    if steps_per_epoch == 0:
        raise ConfigError(
            f"{label}: the training data contain no batch, expected at least one",
            hint="give more samples, use a smaller batch size, or set drop_last=False in the DataLoader",
        )
    total_steps = steps_per_epoch * spec.max_epochs
    n_steps = trace.n_steps
    model.train()
    with session.progress.bar(label, total_steps) as bar:
        bar.advance(n_steps)
        while trace.outcome == "running":
            epoch = len(trace.losses)
            start = time.perf_counter()
            hooks.before_epoch(epoch)
            loss_sum = torch.zeros((), device=device)
            autocast = training_autocast(spec, device, model)  # looks at all parameters
            source = batches.epoch(streams.generator("data", epoch))
            for number, (inputs, targets) in enumerate(itertools.islice(source, steps_per_epoch), 1):
                rate = learning_rate_at(spec, n_steps / total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                try:
                    with autocast:
                        outputs = call_model(model, move_batch(inputs, device))
                        loss = loss_function(outputs, move_batch(targets, device))
                    loss.backward()  # type: ignore[no-untyped-call]
                except (LionHeartError, torch.OutOfMemoryError):
                    raise
                except Exception:
                    hooks.explain_failure(number, inputs, targets)
                    raise
                if spec.gradient_clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), spec.gradient_clip)
                optimizer.step()
                hooks.after_step()
                loss_sum += loss.detach()
                n_steps += 1
                bar.advance()
            mean_loss = float(loss_sum) / steps_per_epoch
            if not math.isfinite(mean_loss):
                raise NumericsError(
                    f"{label}: the mean training loss of epoch {epoch + 1} is {mean_loss}, expected a finite number",
                    hint="lower the learning rate, or limit the gradient norm with gradient_clip",
                )
            elapsed_s = trace.elapsed_s + (time.perf_counter() - start)
            trace = trace.replace(losses=(*trace.losses, mean_loss), n_steps=n_steps, elapsed_s=elapsed_s)
            trace = _judge(trace, spec, hooks)
            bar.describe(f"{label}: loss {mean_loss:.3f}")
            if checkpoint is not None:
                save_training_state(checkpoint, model, optimizer, _Stored(trace=trace).to_json())
    return trace


def _judge(trace: TrainTrace, spec: TrainSpec, hooks: TrainHooks) -> TrainTrace:
    """Return the training record `trace` with a new outcome, which is ``running`` if training continues.

    If training stops, the outcome is ``flat`` if the loss no longer decreases, ``cap`` after `spec.max_epochs` epochs, or
    ``budget`` if `hooks.should_stop` returns True.
    """
    if is_flat(trace.losses, spec.patience):
        outcome = "flat"
    elif len(trace.losses) >= spec.max_epochs:
        outcome = "cap"
    else:
        outcome = "budget" if hooks.should_stop(trace) else "running"
    return trace.replace(outcome=outcome)
