"""Recipes, from which built-in tasks are built, and the registries of built-in tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from torch import Tensor, nn

from lionheart.data import BatchSource
from lionheart.progress import Progress
from lionheart.registry import Registry
from lionheart.tasks.task import ACCURACY, Metric, Task, cross_entropy
from lionheart.training import LossFunction, TrainSpec

ScoreFunction = Callable[[Any, Any], Tensor]
BuildData = Callable[..., tuple[BatchSource, BatchSource, BatchSource]]


@final
@dataclass(frozen=True)
class Pretrained:
    """A frozen network with pretrained weights, and data for the whole network.

    The whole network consists of the frozen network, followed by the part that a recipe trains. The outputs of the frozen
    network are the inputs of the trained part.

    Args:
        build_model: Function that returns the whole network, with pretrained weights in the frozen network. The arguments are
            the trained part and a `Progress`.
        build_data: Function that returns train, validation and test batches for the whole network.
        batch_size: Number of samples in a training batch for the whole network.
    """

    build_model: Callable[[nn.Module, Progress], nn.Module]
    build_data: BuildData
    batch_size: int


@final
@dataclass(frozen=True)
class Recipe:
    """Network, data, metric and training settings of a built-in task.

    Args:
        build_model: Function that returns the network to train, with initial weights drawn from PyTorch's global generator. If
            `pretrained` is given, the network to train is only the part that follows the frozen network.
        build_data: Function that returns train, validation and test batches for the network to train.
        train_spec: Settings of training from scratch.
        batch_size: Number of samples in a training batch.
        pretrained: Frozen network that precedes the trained part; None = the whole network is trained.
        load_published: Function that loads published weights into the whole network; None = no weights are published. Training
            from scratch does not use published weights.
        input_shape: Shape of one sample without the batch dimension. Zeros of this shape suffice to record the layers of
            the network in a forward pass. None = samples of the data are needed.
        loss: Function of ``(outputs, targets)`` that returns a scalar, for training from scratch and for retraining.
        metric: Metric that measures the quality of the network.
        extra_metrics: Further metrics in the model card: functions that return scores from 0 to 1, by name of the metric.
        half_weights: Whether trained weights are stored in float16.
    """

    build_model: Callable[[], nn.Module]
    build_data: BuildData
    train_spec: TrainSpec
    batch_size: int
    pretrained: Pretrained | None = None
    load_published: Callable[[nn.Module, Progress], None] | None = None
    input_shape: tuple[int, ...] | None = None
    loss: LossFunction = cross_entropy
    metric: Metric = ACCURACY
    extra_metrics: Mapping[str, ScoreFunction] = field(default_factory=dict)
    half_weights: bool = False


#: Recipes of the built-in tasks by name, e.g. ``"cifar10/resnet8"``. Every module of this package may register some.
TASKS: Registry[Recipe] = Registry("task", "tasks", package="lionheart.tasks")

#: Functions that build a task around a Hugging Face model, by the name before ``@``, e.g. ``"squad@MODEL"``. The argument is
#: the model's name on the hub, or its directory.
HUB_TASKS: Registry[Callable[[str, Progress], Task]] = Registry("task", "names before @", package="lionheart.tasks")
