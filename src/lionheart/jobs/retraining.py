"""Retraining of a network with analog layers, in the trials of a search."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from lionheart.analog import (
    AnalogLayer,
    analog_layers,
    clip_weights_,
    running_eagerly,
    seed_noise_,
    set_noise_strength_,
)
from lionheart.copies import copy_model
from lionheart.data import BatchSource, device_of, take_samples
from lionheart.evaluation import Subject, evaluate_over_chips, explain_step, score_samples
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.calibration import calibrate_on_training_batch_, set_input_ranges_
from lionheart.jobs.measurement.chips import drop_of
from lionheart.jobs.measurement.compiling import compiling
from lionheart.jobs.samples import calibration_pass, split_validation
from lionheart.rng import RandomStreams
from lionheart.runs import TrainTrace
from lionheart.training import (
    TrainHooks,
    TrainSession,
    add_teacher_outputs,
    distillation_loss,
    noise_strength_at,
    train,
)

_WORTH_COMPILING_MINUTES = 5.0  # budget of a retraining from which compiling, about a minute, pays


def retrain(
    context: Context,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    index: int,
    checkpoint: Path,
    label: str,
    should_stop: Callable[[TrainTrace], bool],
) -> TrainTrace:
    """Retrain a model with analog layers in place, with the settings of the job.

    Args:
        context: Context of the job.
        model: Model with analog layers.
        optimizer: Optimiser for the parameters of the model.
        index: Number of the trial, which selects the random streams.
        checkpoint: File to which the state is written after each epoch, and from which an interrupted retraining resumes.
        label: Text next to the progress bar.
        should_stop: Function called with the training record after each epoch; True = the budget of the search is spent.

    Returns:
        Record of the retraining.
    """
    training, batches, loss = context.settings.train, context.task.train_batches, context.task.loss
    if training.distillation > 0:
        batches = add_teacher_outputs(batches, copy_model(context.task.model), training)
        loss = distillation_loss(loss, training)
    work = _Retraining(context, model, context.streams.scope("retraining", index))
    n_steps = _count_passes(context)
    n_macs = 3 * context.count_macs(context.task.train_batches, n_steps)  # the gradients cost two more passes
    with compiling(model, n_steps, enabled=context.settings.compile, n_macs=n_macs):
        trace = train(
            model,
            batches,
            loss,
            training,
            optimizer,
            streams=work.streams,
            hooks=TrainHooks(
                before_epoch=work.seed_noise,
                before_step=work.set_strength,
                after_step=work.clip,
                after_epoch=work.recalibrate,
                evaluate=work.evaluate,
                should_stop=should_stop,
                explain_failure=lambda *batch: explain_step(Subject(context.task.model, loss=loss), *batch),
            ),
            session=TrainSession(checkpoint=checkpoint, progress=context.progress, label=label),
        )
    work.end(label, trace)
    return trace


def _count_passes(context: Context) -> int:
    """Return the number of training steps, or one that is worth compiling for if they are planned for several minutes."""
    training = context.settings.train
    if training.minutes is not None:
        return sys.maxsize if training.minutes >= _WORTH_COMPILING_MINUTES else 0
    return training.max_epochs * (training.steps_per_epoch or len(context.task.train_batches))


@final
class _Retraining:
    """What happens to the analog layers of a model during one retraining.

    Args:
        context: Context of the job.
        model: Model with analog layers.
        streams: Random streams of this retraining.
    """

    def __init__(self, context: Context, model: nn.Module, streams: RandomStreams) -> None:
        self.context, self.model, self.streams = context, model, streams
        self.spec = context.settings.train
        self._strength = 1.0  # of the noise, and how far the bounds of the weights have fallen

    def seed_noise(self, epoch: int) -> None:
        """Seed the noise of an epoch."""
        seed_noise_(self.model, self.streams.generator("noise", epoch, device=device_of(self.model)))

    def set_strength(self, progress: float) -> None:
        """Set the strength of the noise for the next step, after the fraction `progress` (0 to 1) of all steps."""
        self._strength = noise_strength_at(self.spec, progress)
        if self.spec.noise_warmup > 0:
            set_noise_strength_(self.model, self._strength)

    def clip(self) -> None:
        """Clip the weights after a step."""
        clip_weights_(self.model, strength=self._strength)

    def recalibrate(self, epoch: int) -> None:
        """Measure the static input ranges after an epoch, if it is due, and average them with the present ranges."""
        if self.spec.recalibrate_every is None or (epoch + 1) % self.spec.recalibrate_every:
            return
        layers = self._static_layers()
        before = {fqn: float(layer.analog_input_range) for fqn, layer in layers.items()}
        now, decay = self._measure_ranges(self.streams.scope("recalibration", epoch)), self.spec.recalibration_decay
        set_input_ranges_(layers, {fqn: decay * before[fqn] + (1 - decay) * now[fqn] for fqn in now})

    def evaluate(self) -> float:
        """Return the drop against the digital network at the worst time, on chips that are the same in every call."""
        context, search, metric = self.context, self.context.settings.search, self.context.task.metric
        found = evaluate_over_chips(
            self.model,
            self._samples,
            metric,
            times=list(search.decision_times()),
            n_chips=self.spec.evaluation_chips,
            streams=self.streams.scope("evaluation"),
            run_calibration=calibration_pass(context.task),
        )
        self.model.train()
        return max(drop_of(each, self._reference, None, None, metric).drop_pp for each in found)

    def end(self, label: str, trace: TrainTrace) -> None:
        """Measure the input ranges with the weights that are kept, if the settings ask for it, and say which are kept."""
        if self.spec.noise_warmup > 0:
            set_noise_strength_(self.model, 1.0)
        if self.spec.recalibrate_every is not None:
            self._measure_ranges(self.context.streams)
        if trace.kept_epoch is not None:
            metric, drops = self.context.task.metric, {each.epoch: each.drop_pp for each in trace.evaluations}
            epoch = f"after epoch {trace.kept_epoch}" if trace.kept_epoch else "before the retraining"
            self.context.progress.note(
                f"{label}: keeps the weights {epoch} of {len(trace.losses)}; drop "
                f"{metric.format_drop(drops[trace.kept_epoch], sign=True)}, before {metric.format_drop(drops[0], sign=True)}"
            )

    @cached_property
    def _samples(self) -> BatchSource:
        deciding, _ = split_validation(self.context.task, self.context.settings)
        return take_samples(deciding, self.spec.evaluation_samples)

    @cached_property
    def _reference(self) -> Tensor:
        return score_samples(self.context.task.model, self._samples, self.context.task.metric)

    def _static_layers(self) -> dict[str, AnalogLayer]:
        return {fqn: each for fqn, each in analog_layers(self.model).items() if each.tile.input_range == "static"}

    def _measure_ranges(self, streams: RandomStreams) -> dict[str, float]:
        """Measure and set the static input ranges with a batch of training samples, and return them."""
        with running_eagerly(self.model):  # layers compute digitally, and hooks record their inputs
            return calibrate_on_training_batch_(
                self.model,
                self.context.task,
                streams,
                self._static_layers(),
                digitally=True,
                warn_of_clipping=False,
            )
