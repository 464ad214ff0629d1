"""Knowledge distillation: training of a network on the labels and on the outputs of another network, the teacher."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.data import Batch, BatchSource, MappedBatches, call_model, move_batch
from lionheart.errors import ConfigError
from lionheart.logits import find_logits
from lionheart.training.devices import training_autocast
from lionheart.training.loop import LossFunction
from lionheart.training.spec import TrainSpec


def add_teacher_outputs(source: BatchSource, teacher: nn.Module, spec: TrainSpec) -> BatchSource:
    """Return a source of batches ``(inputs, (targets, outputs))``, where `outputs` are the outputs of the teacher.

    Args:
        source: Source of batches ``(inputs, targets)``.
        teacher: Teacher network, which is set to ``eval()`` mode and runs on the torch device of its parameters.
        spec: Training settings. The teacher computes its outputs with the precision in these settings.

    Raises:
        ConfigError: The teacher does not return a tensor. The error is raised when batches are read.
    """
    device = next(teacher.eval().parameters()).device

    def add(inputs: Any, targets: Any) -> Batch:
        with torch.no_grad(), training_autocast(spec, device, teacher):
            outputs = find_logits(call_model(teacher, move_batch(inputs, device)))
        if not isinstance(outputs, Tensor):
            raise ConfigError(
                f"train.distillation: the teacher returns {type(outputs).__name__}, expected a tensor of logits",
                hint="let the model return only its logits, or set train.distillation to 0",
            )
        return inputs, (targets, outputs)

    return MappedBatches(source, add)


def distillation_loss(loss: LossFunction, spec: TrainSpec) -> LossFunction:
    """Return a loss function that adds a distillation loss to `loss`, for targets ``(targets, teacher_outputs)``.

    The distillation loss is the Kullback-Leibler divergence between the class probabilities of teacher and student. The
    probabilities are the softmax of the outputs (logits) divided by ``spec.temperature``. The divergence is
    averaged over all dimensions but the last, and multiplied by the squared temperature. The total loss is the sum of both
    losses with weights ``spec.distillation`` for the distillation loss and ``1 - spec.distillation`` for `loss`.

    Args:
        loss: Function that maps outputs and targets to a scalar loss.
        spec: Training settings, which contain the distillation weight and the temperature.

    Source:
        Hinton et al., arXiv:1503.02531.
    """
    share, temperature = spec.distillation, spec.temperature

    def weigh(outputs: Any, both: Any) -> Tensor:
        targets, taught = both
        student = F.log_softmax(find_logits(outputs).float() / temperature, dim=-1)
        teacher = F.log_softmax(taught.float() / temperature, dim=-1)
        divergence = (teacher.exp() * (teacher - student)).sum(dim=-1).mean() * temperature**2
        if share == 1:
            return divergence
        return (1 - share) * loss(outputs, targets) + share * divergence

    return weigh
