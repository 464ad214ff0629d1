"""The training loop, for digital networks and for analog layers, which inject hardware noise in ``train()``."""

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

from lionheart.data import BatchSource, call_model, move_batch
from lionheart.errors import ConfigError, NumericsError
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
    """Functions that are called during training.

    Args:
        before_epoch: Function called with the index of the epoch before it starts, for example to seed hardware noise.
        after_step: Function called after each optimiser step, for example to clip weights.
        should_stop: Function called with the trace after every epoch and on resuming from a checkpoint; training stops if it
            returns True.
    """

    before_epoch: Callable[[int], None] = lambda epoch: None
    after_step: Callable[[], None] = lambda: None
    should_stop: Callable[[TrainTrace], bool] = lambda trace: False


@final
@dataclass(frozen=True)
class TrainSession:
    """Checkpoint file and progress display of a training.

    Args:
        checkpoint: File that stores the state after each epoch. If the file exists, training resumes from it. None = no
            checkpoint.
        progress: Display of the progress bar.
        label: Text of the progress bar and of error messages.
    """

    checkpoint: Path | None = None
    progress: Progress = SILENT
    label: str = "training"


class _Stored(Record):
    """The content of a checkpoint besides weights and optimiser state."""

    trace: TrainTrace


NO_HOOKS, NO_SESSION = TrainHooks(), TrainSession()

#: Second-moment decay of AdamW, the default of PyTorch.
_ADAMW_BETA2 = 0.999


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return the optimiser for all trainable parameters; weight decay applies to those with two or more dimensions."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(spec.momentum, _ADAMW_BETA2))
    nesterov = spec.nesterov and spec.momentum > 0
    return torch.optim.SGD(groups, lr=spec.learning_rate, momentum=spec.momentum, nesterov=nesterov)


def learning_rate_at(spec: TrainSpec, progress: float) -> float:
    """Return the learning rate after the share `progress` (0 to 1) of all steps in `max_epochs`."""
    if spec.schedule == "constant":
        return spec.learning_rate
    if spec.schedule == "one_cycle":
        if progress < _ONE_CYCLE_WARMUP:
            return spec.learning_rate * max(progress / _ONE_CYCLE_WARMUP, 0.04)
        progress = (progress - _ONE_CYCLE_WARMUP) / (1 - _ONE_CYCLE_WARMUP)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def is_flat(losses: Sequence[float], patience: int | None) -> bool:
    """Return whether no loss of the last `patience` epochs is below the lowest loss before; None = never."""
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
    """Train a model in place until the loss is flat, `max_epochs` is reached, or `hooks.should_stop` returns True.

    Args:
        model: Model, trained in place and left in ``train()``.
        batches: Source of the training batches.
        loss_function: Function that maps outputs and targets to a scalar loss.
        spec: Learning rate, stopping criteria and precision.
        optimizer: Optimiser of the model's parameters; its current state is used.
        streams: Source of the data order; each epoch has its own stream.
        hooks: Functions called during training.
        session: Checkpoint file and progress display.

    Returns:
        Trace with the mean loss of each epoch and the reason why training stopped.

    Raises:
        NumericsError: The mean loss of an epoch is not finite.
        ConfigError: The training data have no batch.
        ArtifactError: The checkpoint is damaged or belongs to another model.
    """
    trace, checkpoint, label = TrainTrace(outcome="running"), session.checkpoint, session.label
    if checkpoint is not None and checkpoint.exists():
        trace = _Stored.from_json(load_training_state(checkpoint, model, optimizer), str(checkpoint)).trace
        trace = _judge(trace, spec, hooks)  # the cap or the budget may have been raised since
    device = next(model.parameters()).device
    steps_per_epoch = min(len(batches), spec.steps_per_epoch or len(batches))
    if steps_per_epoch == 0:
        raise ConfigError(
            f"{label}: the training data have no batch, expected at least one",
            hint="give more samples, a smaller batch size or drop_last=False",
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
            source = batches.epoch(streams.generator("data", epoch))
            for inputs, targets in itertools.islice(source, steps_per_epoch):
                rate = learning_rate_at(spec, n_steps / total_steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with training_autocast(spec, device):
                    outputs = call_model(model, move_batch(inputs, device))
                    loss = loss_function(outputs, move_batch(targets, device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
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
                    f"{label}: the training loss became {mean_loss} in epoch {epoch + 1}",
                    hint="lower the learning rate or set gradient_clip",
                )
            elapsed_s = trace.elapsed_s + (time.perf_counter() - start)
            trace = trace.replace(losses=(*trace.losses, mean_loss), n_steps=n_steps, elapsed_s=elapsed_s)
            trace = _judge(trace, spec, hooks)
            bar.describe(f"{label}: loss {mean_loss:.3f}")
            if checkpoint is not None:
                save_training_state(checkpoint, model, optimizer, _Stored(trace=trace).to_json())
    return trace


def _judge(trace: TrainTrace, spec: TrainSpec, hooks: TrainHooks) -> TrainTrace:
    """Return the trace with the current outcome: ``flat``, ``cap`` or ``budget`` if training stops, else ``running``."""
    if is_flat(trace.losses, spec.patience):
        outcome = "flat"
    elif len(trace.losses) >= spec.max_epochs:
        outcome = "cap"
    else:
        outcome = "budget" if hooks.should_stop(trace) else "running"
    return trace.replace(outcome=outcome)
