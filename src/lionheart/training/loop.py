"""The one training loop: from scratch, or hardware-aware when the model's layers inject noise in ``train()``."""

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

_ONE_CYCLE_WARMUP = 0.2  # share of the steps in which the one-cycle schedule climbs


@final
@dataclass(frozen=True)
class TrainHooks:
    """What is called while a model is trained.

    Args:
        before_epoch: Called with the epoch's number, for example to seed hardware noise.
        after_step: Called after each optimiser step, for example to clip weights.
        should_stop: Asked after every epoch, for a budget; asked again when training goes on from a checkpoint.
    """

    before_epoch: Callable[[int], None] = lambda epoch: None
    after_step: Callable[[], None] = lambda: None
    should_stop: Callable[[TrainTrace], bool] = lambda trace: False


@final
@dataclass(frozen=True)
class TrainSession:
    """Where a training keeps its state, and where it shows itself.

    Args:
        checkpoint: File of the state after each epoch. If it exists, training goes on from it. None = none is kept.
        progress: Where the bar is shown.
        label: Text of the bar.
    """

    checkpoint: Path | None = None
    progress: Progress = SILENT
    label: str = "training"


class _Stored(Record):
    """What a checkpoint holds in addition to weights and the optimiser's state."""

    trace: TrainTrace


NO_HOOKS, NO_SESSION = TrainHooks(), TrainSession()

#: Second-moment decay of AdamW, PyTorch's default.
_ADAMW_BETA2 = 0.999


def build_optimizer(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """Return the spec's optimiser over all parameters that are trained; only those of two or more dimensions decay."""
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
    """Return the learning rate after a share `progress` (0 to 1) of `max_epochs`."""
    if spec.schedule == "constant":
        return spec.learning_rate
    if spec.schedule == "one_cycle":
        if progress < _ONE_CYCLE_WARMUP:
            return spec.learning_rate * max(progress / _ONE_CYCLE_WARMUP, 0.04)
        progress = (progress - _ONE_CYCLE_WARMUP) / (1 - _ONE_CYCLE_WARMUP)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def is_flat(losses: Sequence[float], patience: int | None) -> bool:
    """Return whether the last `patience` epochs brought no loss below the best before them."""
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
    """Train `model` in place until the loss is flat, the cap is reached, or `hooks.should_stop` says so.

    Args:
        model: Trained in place; left in ``train()`` mode.
        batches: Source of the training batches.
        loss_function: Maps outputs and targets to a scalar.
        spec: Learning rate, stop rule, precision.
        optimizer: Over the model's own parameters; its state goes on from where it is.
        streams: Source of the data order; epoch ``e`` always draws the same.
        hooks: What is called on the way.
        session: Where the state is kept and progress is shown.

    Returns:
        The loss trace.

    Raises:
        NumericsError: The loss is not finite.
        ConfigError: There is no batch to train on.
        ArtifactError: The checkpoint is damaged, or of another model.
    """
    trace, checkpoint, label = TrainTrace(outcome="running"), session.checkpoint, session.label
    if checkpoint is not None and checkpoint.exists():
        trace = _Stored.from_json(load_training_state(checkpoint, model, optimizer), str(checkpoint)).trace
        trace = _judge(trace, spec, hooks)  # the cap or the budget may have been raised since
    device = next(model.parameters()).device
    steps_per_epoch = min(len(batches), spec.steps_per_epoch or len(batches))
    if steps_per_epoch == 0:
        raise ConfigError(
            f"{label}: the training data have no batch", hint="give more samples, a smaller batch or drop_last=False"
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
    """Return a trace with why training ends, or that it goes on."""
    if is_flat(trace.losses, spec.patience):
        outcome = "flat"
    elif len(trace.losses) >= spec.max_epochs:
        outcome = "cap"
    else:
        outcome = "budget" if hooks.should_stop(trace) else "running"
    return trace.replace(outcome=outcome)
