"""The one training loop: from scratch, or hardware-aware when the model's layers inject noise in ``train()``."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, call_model, move_batch
from lionheart.errors import ConfigError, NumericsError
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.training.devices import training_autocast
from lionheart.training.spec import TrainSpec
from lionheart.training.state import load_training_state, save_training_state

LossFunction = Callable[[Any, Any], Tensor]

_ONE_CYCLE_WARMUP = 0.2  # share of the steps in which the one-cycle schedule climbs


@final
@dataclass
class TrainTrace:
    """What a training did: mean loss of each epoch, why it ended, what it cost."""

    losses: list[float] = field(default_factory=list)
    n_steps: int = 0
    elapsed_s: float = 0.0
    outcome: str = "running"  # "flat", "cap", "budget" once ended

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


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


def is_flat(losses: list[float], patience: int | None) -> bool:
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
    before_epoch: Callable[[int], None] = lambda epoch: None,
    after_step: Callable[[], None] = lambda: None,
    should_stop: Callable[[TrainTrace], bool] = lambda trace: False,
    checkpoint: Path | None = None,
    progress: Progress = SILENT,
    label: str = "training",
) -> TrainTrace:
    """Train `model` in place until the loss is flat, the cap is reached, or `should_stop` says so.

    Args:
        model: Trained in place; left in ``train()`` mode.
        batches: Source of the training batches.
        loss_function: Maps outputs and targets to a scalar.
        spec: Learning rate, stop rule, precision.
        optimizer: Over the model's own parameters; its state goes on from where it is.
        streams: Source of the data order; epoch ``e`` always draws the same.
        before_epoch: Called with the epoch's number, for example to seed hardware noise.
        after_step: Called after each optimiser step, for example to clip weights.
        should_stop: Asked after every epoch, for a budget; asked again when training goes on from a checkpoint.
        checkpoint: Where to keep the state after each epoch. If the file exists, training goes on from it.
        progress: Where to show the bar.
        label: Text of the bar.

    Returns:
        The loss trace.

    Raises:
        NumericsError: The loss is not finite.
        ConfigError: There is no batch to train on.
    """
    trace = TrainTrace()
    if checkpoint is not None and checkpoint.exists():
        trace = TrainTrace(**load_training_state(checkpoint, model, optimizer)["trace"])
        trace.outcome = _outcome(trace, spec, should_stop)  # the cap or the budget may have been raised since
    device = next(model.parameters()).device
    steps_per_epoch = min(len(batches), spec.steps_per_epoch or len(batches))
    if steps_per_epoch == 0:
        raise ConfigError(
            f"{label}: the training data have no batch", hint="give more samples, a smaller batch or drop_last=False"
        )
    total_steps = steps_per_epoch * spec.max_epochs
    model.train()
    with progress.bar(label, total_steps) as bar:
        bar.advance(trace.n_steps)
        while trace.outcome == "running":
            epoch = len(trace.losses)
            start = time.perf_counter()
            before_epoch(epoch)
            loss_sum = torch.zeros((), device=device)
            source = batches.epoch(streams.generator("data", epoch))
            for inputs, targets in itertools.islice(source, steps_per_epoch):
                rate = learning_rate_at(spec, trace.n_steps / total_steps)
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
                after_step()
                loss_sum += loss.detach()
                trace.n_steps += 1
                bar.advance()
            mean_loss = float(loss_sum) / steps_per_epoch
            if not math.isfinite(mean_loss):
                raise NumericsError(
                    f"{label}: the training loss became {mean_loss} in epoch {epoch + 1}",
                    hint="lower the learning rate or set gradient_clip",
                )
            trace.losses.append(mean_loss)
            trace.elapsed_s += time.perf_counter() - start
            trace.outcome = _outcome(trace, spec, should_stop)
            bar.describe(f"{label}: loss {mean_loss:.3f}")
            if checkpoint is not None:
                save_training_state(checkpoint, model, optimizer, {"trace": trace.to_json()})
    return trace


def _outcome(trace: TrainTrace, spec: TrainSpec, should_stop: Callable[[TrainTrace], bool]) -> str:
    if is_flat(trace.losses, spec.patience):
        return "flat"
    if len(trace.losses) >= spec.max_epochs:
        return "cap"
    return "budget" if should_stop(trace) else "running"
