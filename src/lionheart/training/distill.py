"""Training towards the outputs of another network, the teacher, in addition to the labels."""

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
    """Return batches whose targets have the teacher's outputs with them: ``(inputs, (targets, outputs))``.

    Args:
        source: The batches.
        teacher: Put into ``eval()`` mode; runs on its own device.
        spec: Its precision is the teacher's too.
    """
    device = next(teacher.eval().parameters()).device

    def add(inputs: Any, targets: Any) -> Batch:
        with torch.no_grad(), training_autocast(spec, device):
            outputs = call_model(teacher, move_batch(inputs, device))
        if not isinstance(outputs, Tensor):
            raise ConfigError(
                f"train.distillation: the network returns a {type(outputs).__name__}, expected a tensor of logits",
                hint="let the model return its logits alone, or set distillation to 0",
            )
        return inputs, (targets, outputs)

    return MappedBatches(source, add)


def distillation_loss(loss: LossFunction, spec: TrainSpec) -> LossFunction:
    """Return the loss of outputs against ``(targets, teacher's outputs)``: labels and teacher weighed by `distillation`.

    The teacher's part is the Kullback-Leibler divergence of the softened class probabilities, averaged over all but the last
    dimension and times the temperature squared.

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
