"""The training loop for digital networks and for networks with analog layers.

Analog layers add simulated hardware noise to their computation in ``train()`` mode.
"""

from __future__ import annotations

import copy
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from lionheart.data import BatchSource, call_model, count_batches, move_batch
from lionheart.errors import ConfigError, LionHeartError, NumericsError
from lionheart.progress import SILENT, Bar, Progress
from lionheart.record import Record
from lionheart.rng import RandomStreams
from lionheart.runs import TrainEvaluation, TrainTrace
from lionheart.training.average import WeightAverage
from lionheart.training.devices import training_autocast
from lionheart.training.schedule import count_affordable_steps, learning_rate_at
from lionheart.training.spec import TrainSpec
from lionheart.training.state import load_copy, load_training_state, save_training_state

LossFunction = Callable[[Any, Any], Tensor]

#: Steps that are timed for a budget of minutes: at most this number, and at most this share of the budget.
_TIMED_STEPS, _TIMED_SHARE = 20, 0.05


@final
@dataclass(frozen=True)
class TrainHooks:
    """Functions that `train` calls during training.

    Args:
        before_epoch: Function called before each epoch with the index of the epoch, for example to seed the hardware noise.
        before_step: Function called before each step with the fraction of all steps that are done (0 to 1), for example to
            raise the hardware noise.
        after_step: Function called after each optimiser step, for example to clip weights.
        after_epoch: Function called after each epoch with the index of the epoch, for example to measure input ranges.
        evaluate: Function called before the training and after every ``spec.evaluate_every`` epochs, which evaluates the model
            with the weights that would be kept. It returns the drop of the metric: less is better. The model is in ``train()``
            mode before and after the call. None = no evaluation.
        should_stop: Function called with the training record after each epoch, and when training resumes from a checkpoint. If
            the function returns True, training stops.
        explain_failure: Function called with the number of the batch in the epoch, counted from 1, and its inputs and targets,
            if the forward or backward pass raises an exception. The function may raise an error that explains the failure.
    """

    before_epoch: Callable[[int], None] = lambda epoch: None
    before_step: Callable[[float], None] = lambda progress: None
    after_step: Callable[[], None] = lambda: None
    after_epoch: Callable[[int], None] = lambda epoch: None
    evaluate: Callable[[], float] | None = None
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

    Training stops when the loss has not decreased for `spec.patience` epochs, after the last step of the schedule, or when
    `hooks.should_stop` returns True. The schedule has `spec.max_epochs` epochs, or as many steps as fit into `spec.minutes`.
    The model gets the weights with the smallest drop if there are evaluations, else the averaged weights if there are any.

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
    return _Training(model, batches, loss_function, spec, optimizer, streams, hooks, session).run()


class _Training:
    """One training: the model and the state that a checkpoint holds. Each method continues from this state."""

    def __init__(
        self,
        model: nn.Module,
        batches: BatchSource,
        loss_function: LossFunction,
        spec: TrainSpec,
        optimizer: torch.optim.Optimizer,
        streams: RandomStreams,
        hooks: TrainHooks,
        session: TrainSession,
    ) -> None:
        self.model, self.batches, self.loss_function, self.spec = model, batches, loss_function, spec
        self.optimizer, self.streams, self.hooks, self.session = optimizer, streams, hooks, session
        self.device = next(model.parameters()).device
        self.trace = TrainTrace(outcome="running")
        self.average = None if spec.ema_decay is None else WeightAverage(model, spec.ema_decay)
        self.best: dict[str, Tensor] | None = None  # weights with the smallest drop
        self.steps_per_epoch = count_batches(batches, spec.steps_per_epoch)
        self._evaluation_s = 0.0  # duration of one evaluation

    @property
    def total_steps(self) -> int:
        """Number of steps of the whole schedule."""
        if self.spec.minutes is not None and self.trace.planned_steps is not None:
            return self.trace.planned_steps
        return self.steps_per_epoch * self.spec.max_epochs

    def run(self) -> TrainTrace:
        """Train from the checkpoint or from the start to the end, and return the record."""
        begin = time.perf_counter()
        checkpoint, label = self.session.checkpoint, self.session.label
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)
        require_parameters(self.optimizer, label)
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"{label}: the training data contain no batch, expected at least one",
                hint="give more samples, use a smaller batch size, or set drop_last=False in the DataLoader",
            )
        self.model.train()
        self._prepare(begin)
        with self.session.progress.bar(label, self.total_steps) as bar:
            bar.advance(self.trace.n_steps)
            while self.trace.outcome == "running":
                self._run_epoch(bar)
        return self._keep()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _prepare(self, begin: float) -> None:
        """Evaluate the weights before the training, and plan the number of steps, unless this was done before a resume."""
        is_new = self.trace.n_steps == 0
        evaluates = is_new and self._evaluates and not self.trace.evaluations
        plans = is_new and self.spec.minutes is not None and self.trace.planned_steps is None
        if evaluates:
            self._evaluate()
        if plans:
            self._plan(begin)
        if evaluates or plans:
            self.trace = self.trace.replace(elapsed_s=self.trace.elapsed_s + time.perf_counter() - begin)
            self._save()

    def _run_epoch(self, bar: Bar) -> None:
        epoch, start, n_steps = len(self.trace.losses), time.perf_counter(), self.trace.n_steps
        n_left = min(self.steps_per_epoch, max(1, self.total_steps - n_steps))
        loss_sum = torch.zeros((), device=self.device)
        for loss in self._steps(epoch, n_left):
            loss_sum += loss
            n_steps += 1
            bar.advance()
        mean_loss = float(loss_sum) / n_left
        if not math.isfinite(mean_loss):
            raise NumericsError(
                f"{self.session.label}: the mean training loss of epoch {epoch + 1} is {mean_loss}, expected a finite number",
                hint="lower the learning rate, or limit the gradient norm with gradient_clip",
            )
        self.hooks.after_epoch(epoch)
        elapsed_s = self.trace.elapsed_s + (time.perf_counter() - start)
        self.trace = self.trace.replace(losses=(*self.trace.losses, mean_loss), n_steps=n_steps, elapsed_s=elapsed_s)
        self._judge()
        text = f"{self.session.label}: loss {mean_loss:.3f}"
        is_due = (epoch + 1) % (self.spec.evaluate_every or 1) == 0 or self.trace.outcome != "running"
        if self._evaluates and is_due:
            begin = time.perf_counter()
            text += f", drop {self._evaluate():.2f}"
            self.trace = self.trace.replace(elapsed_s=elapsed_s + time.perf_counter() - begin)
        bar.describe(text)
        self._save()

    def _steps(self, epoch: int, n_steps: int) -> Iterator[Tensor]:
        """Make the first steps of an epoch, and yield the loss of each."""
        done, total = self.trace.n_steps, self.total_steps
        self.hooks.before_epoch(epoch)
        autocast = training_autocast(self.spec, self.device, self.model)  # looks at all parameters
        source = self.batches.epoch(self.streams.generator("data", epoch))
        for number, (inputs, targets) in enumerate(itertools.islice(source, n_steps), 1):
            self.hooks.before_step(done / total)
            yield self._step(number, inputs, targets, learning_rate_at(self.spec, done / total), autocast)
            done += 1
            if self.average is not None:
                self.average.update_(self.model, done)

    def _step(self, number: int, inputs: Any, targets: Any, rate: float, autocast: torch.autocast) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        try:
            with autocast:
                outputs = call_model(self.model, move_batch(inputs, self.device))
                loss = self.loss_function(outputs, move_batch(targets, self.device))
            loss.backward()  # type: ignore[no-untyped-call]
        except (LionHeartError, torch.OutOfMemoryError):
            raise
        except Exception:
            self.hooks.explain_failure(number, inputs, targets)
            raise
        if self.spec.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.gradient_clip)
        self.optimizer.step()
        self.hooks.after_step()
        return loss.detach()

    def _judge(self) -> None:
        """Set the outcome of the training record, which is ``running`` if training continues.

        If training stops, the outcome is ``flat`` if the loss no longer decreases, ``cap`` after the last step of the schedule,
        or ``budget`` if `hooks.should_stop` returns True.
        """
        n_epochs = math.ceil(self.total_steps / max(self.steps_per_epoch, 1))
        patience = self.spec.patience if self.spec.minutes is None else None
        n_rising = math.ceil(self.spec.noise_warmup * n_epochs)  # the loss may rise with the noise
        if is_flat(self.trace.losses[n_rising:], patience):
            outcome = "flat"
        elif len(self.trace.losses) >= n_epochs:
            outcome = "cap"
        else:
            outcome = "budget" if self.hooks.should_stop(self.trace) else "running"
        self.trace = self.trace.replace(outcome=outcome)

    def _plan(self, begin: float) -> None:
        """Time some steps, undo them, and fix the number of steps that fit into the minutes of the settings."""
        budget_s = 60 * cast(float, self.spec.minutes)
        state = {name: each.detach().clone() for name, each in self.model.state_dict().items()}
        moments = copy.deepcopy(self.optimizer.state_dict())
        times, last = [], time.perf_counter()
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            for _ in self._steps(0, min(_TIMED_STEPS, self.steps_per_epoch)):
                now = time.perf_counter()
                times.append(now - last)
                last = now
                if len(times) > 1 and now - begin > _TIMED_SHARE * budget_s:
                    break
        self.model.load_state_dict(state)
        self.optimizer.load_state_dict(moments)
        if self.average is not None:
            self.average.load_(state)
        step_s = statistics.fmean(times[1:] or times)  # the first step allocates memory, or compiles
        epoch_s = self._evaluation_s / (self.spec.evaluate_every or 1)
        left_s = budget_s - (time.perf_counter() - begin)
        n_steps = count_affordable_steps(left_s, step_s, epoch_s, self.steps_per_epoch)
        self.trace = self.trace.replace(planned_steps=n_steps)
        self.session.progress.note(
            f"{self.session.label}: {n_steps} steps of {step_s:.2g} s fit into {self.spec.minutes:g} minutes"
        )

    # -- weights that are kept -----------------------------------------------------------------------------------------

    @property
    def _evaluates(self) -> bool:
        return self.hooks.evaluate is not None and self.spec.evaluate_every is not None

    def _evaluate(self) -> float:
        """Return the drop with the weights that would be kept; keep these weights if no earlier ones are better."""
        evaluate = cast(Callable[[], float], self.hooks.evaluate)
        begin = time.perf_counter()
        with nullcontext() if self.average is None else self.average.used_by(self.model):
            drop = evaluate()
            if all(drop <= each.drop_pp for each in self.trace.evaluations):
                self.best = {name: each.detach().clone() for name, each in self.model.state_dict().items()}
        self._evaluation_s = time.perf_counter() - begin
        found = TrainEvaluation(epoch=len(self.trace.losses), drop_pp=drop)
        self.trace = self.trace.replace(evaluations=(*self.trace.evaluations, found))
        return drop

    def _keep(self) -> TrainTrace:
        """Put the best or the averaged weights into the model, and return the record of the training."""
        if self.best is not None:
            best = min(each.drop_pp for each in self.trace.evaluations)
            kept = [each.epoch for each in self.trace.evaluations if each.drop_pp == best][-1]
            self.model.load_state_dict(self.best)
            if kept != len(self.trace.losses):
                self.optimizer.state.clear()  # its moments are those of other weights
            self.trace = self.trace.replace(kept_epoch=kept)
        elif self.average is not None:
            self.average.put_(self.model)
        return self.trace

    def _save(self) -> None:
        if self.session.checkpoint is None:
            return
        copies = {} if self.average is None else {"average": self.average.state}
        copies |= {} if self.best is None else {"best": self.best}
        metadata = _Stored(trace=self.trace).to_json()
        save_training_state(self.session.checkpoint, self.model, self.optimizer, metadata, copies=copies)

    def _load(self, checkpoint: Path) -> None:
        data = load_training_state(checkpoint, self.model, self.optimizer)
        self.trace = _Stored.from_json(data, str(checkpoint)).trace
        average = None if self.average is None else load_copy(checkpoint, "average", self.average.state)
        if self.average is not None and average is not None:
            self.average.load_(average)
        if self.trace.evaluations:
            self.best = load_copy(checkpoint, "best", self.model.state_dict())
        if self.trace.losses:
            self._judge()  # the cap or the budget may have been raised since
