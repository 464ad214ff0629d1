"""Recipes of built-in tasks, and the registries of recipes."""

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
    """A network with pretrained weights in front of the part that a recipe trains.

    Args:
        build_model: Function of the trained part and a `Progress` that returns the whole network with pretrained weights.
        build_data: Function that returns train, validation and test batches for the whole network.
        batch_size: Samples in a training batch of the whole network.
    """

    build_model: Callable[[nn.Module, Progress], nn.Module]
    build_data: BuildData
    batch_size: int


@final
@dataclass(frozen=True)
class Recipe:
    """Network, data and training settings of a built-in task.

    Args:
        build_model: Function that returns the trained network, or the trained part after a pretrained network, with initial
            weights from PyTorch's global generator.
        build_data: Function that returns train, validation and test batches for `build_model`'s result.
        train_spec: Settings of training from scratch.
        batch_size: Samples in a training batch.
        pretrained: Frozen network in front of the trained part; None = none.
        load_published: Function that loads published weights of the whole network; None = there are none. Training from
            scratch does not use them.
        input_shape: Shape of one sample, for networks that can be traced with zeros; None = tracing needs data.
        loss: Loss function of outputs and targets for training from scratch.
        metric: Metric of the samples' scores.
        extra_metrics: Further metrics for the training card, by name; their scores are shares.
        half_weights: Whether weights are stored in float16.
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
