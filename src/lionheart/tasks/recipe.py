"""How a built-in task is made and trained, and the registries that its file registers it in."""

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
    """A network whose weights others trained, in front of the part that a recipe trains.

    Args:
        build_model: Returns the whole network, given the trained part and a `Progress`; fetches the weights of the rest.
        build_data: Returns train, validation and test batches for the whole network.
        batch_size: Samples in a training batch of the whole network.
    """

    build_model: Callable[[nn.Module, Progress], nn.Module]
    build_data: BuildData
    batch_size: int


@final
@dataclass(frozen=True)
class Recipe:
    """How a built-in task is made and trained.

    Args:
        build_model: Returns what is trained, with fresh weights from a generator's seed: the network, or the part of it that
            comes after a pretrained one.
        build_data: Returns train, validation and test batches for it.
        train_spec: Settings that train it from scratch.
        batch_size: Samples in a training batch.
        pretrained: What is in front of the trained part and stays frozen while it is trained; None = nothing.
        load_published: Puts the weights that others published for this whole network into it; None = there are none. Training
            from scratch does not use them.
        input_shape: Of one sample, for networks that one tensor of zeros shows the way through; None = look at the data.
        loss: What training from scratch makes small, of outputs and targets.
        metric: How samples are scored.
        extra_metrics: Further metrics for the card of a training, by name; their scores are shares.
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


#: Recipes of the built-in tasks by name, ``"cifar10/resnet8"``. Every module of this package is searched for them.
TASKS: Registry[Recipe] = Registry("task", "tasks", package="lionheart.tasks")

#: Builders of tasks around a Hugging Face model, by what stands before ``@``: ``"squad@MODEL"``. They take the model's name on
#: the hub, or its folder.
HUB_TASKS: Registry[Callable[[str, Progress], Task]] = Registry("task", "names before @", package="lionheart.tasks")
