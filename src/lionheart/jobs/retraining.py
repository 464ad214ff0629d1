"""Retraining of a network with analog layers, in the trials of a search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from lionheart.analog import clip_weights_, seed_noise_
from lionheart.copies import copy_model
from lionheart.data import device_of
from lionheart.evaluation import Subject, explain_step
from lionheart.jobs.context import Context
from lionheart.jobs.measurement.chips import compiling
from lionheart.runs import TrainTrace
from lionheart.training import TrainHooks, TrainSession, add_teacher_outputs, distillation_loss, train


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
    streams, device = context.streams.scope("retraining", index), device_of(model)

    def seed_epoch(epoch: int) -> None:
        seed_noise_(model, streams.generator("noise", epoch, device=device))

    training, batches, loss = context.settings.train, context.task.train_batches, context.task.loss
    n_steps = training.max_epochs * (training.steps_per_epoch or len(batches))
    if training.distillation > 0:
        batches = add_teacher_outputs(batches, copy_model(context.task.model), training)
        loss = distillation_loss(loss, training)
    with compiling(model, n_steps, enabled=context.settings.compile):
        return train(
            model,
            batches,
            loss,
            training,
            optimizer,
            streams=streams,
            hooks=TrainHooks(
                before_epoch=seed_epoch,
                after_step=lambda: clip_weights_(model),
                should_stop=should_stop,
                explain_failure=lambda *batch: explain_step(Subject(context.task.model, loss=loss), *batch),
            ),
            session=TrainSession(checkpoint=checkpoint, progress=context.progress, label=label),
        )
