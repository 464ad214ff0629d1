"""Distillation: training with the outputs of another network, the teacher, in addition to the labels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.data import Batch, BatchSource, MappedBatches, call_model, move_batch
from lionheart.errors import ConfigError
from lionheart.training.devices import training_autocast
from lionheart.training.loop import LossFunction
from lionheart.training.spec import TrainSpec


def add_teacher_outputs(source: BatchSource, teacher: nn.Module, spec: TrainSpec) -> BatchSource:
    """Return batches with the teacher's outputs in the targets: ``(inputs, (targets, outputs))``.

    Args:
        source: Source of the batches.
        teacher: Teacher network, set to ``eval()``; it runs on the torch device of its parameters.
        spec: Training settings; the teacher computes with the same precision.

    Raises:
        ConfigError: The teacher returns something other than a tensor; raised when batches are read.
    """
    device = next(teacher.eval().parameters()).device

    def add(inputs: Any, targets: Any) -> Batch:
        with torch.no_grad(), training_autocast(spec, device):
            outputs = call_model(teacher, move_batch(inputs, device))
        if not isinstance(outputs, Tensor):
            raise ConfigError(
                f"train.distillation: the network returns a {type(outputs).__name__}, expected a tensor of logits",
                hint="let the model return only its logits, or set distillation to 0",
            )
        return inputs, (targets, outputs)

    return MappedBatches(source, add)


def distillation_loss(loss: LossFunction, spec: TrainSpec) -> LossFunction:
    """Return a loss function for targets ``(targets, teacher_outputs)``: the weighted sum of `loss` and the distillation loss.

    The distillation loss is the Kullback-Leibler divergence of the class probabilities at the temperature of `spec`, averaged
    over all but the last dimension and multiplied by the squared temperature. Its weight is ``spec.distillation``; the weight
    of `loss` is ``1 - spec.distillation``.

    Args:
        loss: Loss of outputs and targets.
        spec: Training settings.

    Source:
        Hinton et al., arXiv:1503.02531.
    """
    share, temperature = spec.distillation, spec.temperature

    def weigh(outputs: Any, both: Any) -> Tensor:
        targets, taught = both
        student = F.log_softmax(outputs.float() / temperature, dim=-1)
        teacher = F.log_softmax(taught.float() / temperature, dim=-1)
        divergence = (teacher.exp() * (teacher - student)).sum(dim=-1).mean() * temperature**2
        if share == 1:
            return divergence
        return (1 - share) * loss(outputs, targets) + share * divergence

    return weigh
