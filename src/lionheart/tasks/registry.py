"""Names of built-in tasks and how each is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from lionheart.errors import ConfigError, suggest
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.tasks import minilm
from lionheart.tasks.cifar import MEAN, STD, crop_and_flip, load_cifar10
from lionheart.tasks.resnet import ResNet8, ResNetCifar
from lionheart.tasks.task import Task
from lionheart.training import BatchSource, TensorBatches, TrainSpec, load_weights

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
    """

    build_model: Callable[[], nn.Module]
    build_data: BuildData
    train_spec: TrainSpec
    batch_size: int
    pretrained: Pretrained | None = None


#: Images evaluated at once. Larger batches leave the processor's cache: 500 take twice as long for each image.
_EVALUATION_BATCH = 100


def _cifar10_data(*, batch_size: int, progress: Progress) -> tuple[TensorBatches, TensorBatches, TensorBatches]:
    data = load_cifar10(progress)
    shared: dict[str, Any] = {"mean": MEAN, "std": STD}
    return (
        TensorBatches(*data.train, batch_size=batch_size, shuffle=True, augment=crop_and_flip, **shared),
        TensorBatches(*data.validation, batch_size=_EVALUATION_BATCH, **shared),
        TensorBatches(*data.test, batch_size=_EVALUATION_BATCH, **shared),
    )


def _cifar10_recipe(build_model: Callable[[], nn.Module], n_epochs: int) -> Recipe:
    return Recipe(
        build_model=build_model,
        build_data=_cifar10_data,
        batch_size=128,
        train_spec=TrainSpec(
            learning_rate=0.2,
            weight_decay=5e-4,
            schedule="one_cycle",
            max_epochs=n_epochs,
            patience=None,
            precision="bfloat16",
        ),
    )


RECIPES: dict[str, Recipe] = {
    "cifar10/resnet8": _cifar10_recipe(ResNet8, 80),
    "cifar10/resnet20": _cifar10_recipe(ResNetCifar, 30),
    "reviews/minilm": Recipe(
        build_model=minilm.build_head,
        build_data=minilm.build_features,
        batch_size=64,
        train_spec=TrainSpec(learning_rate=0.3, weight_decay=3e-3, max_epochs=20, patience=None),
        pretrained=Pretrained(build_model=minilm.build_classifier, build_data=minilm.build_sentences, batch_size=32),
    ),
}


def task_names() -> list[str]:
    """Return the names of the built-in tasks."""
    return sorted(RECIPES)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a built-in task.

    Raises:
        ConfigError: There is no such task.
    """
    if name not in RECIPES:
        raise ConfigError(f"task: got {name!r}, expected a built-in task", hint=suggest(name, RECIPES, label="tasks"))
    return RECIPES[name]


def checkpoint_path(name: str) -> Path:
    """Return where the shipped weights of a built-in task lie."""
    return Path(
        str(resources.files("lionheart.tasks").joinpath("checkpoints", name.replace("/", "_") + ".safetensors"))
    )


def build_untrained(name: str, *, seed: int) -> nn.Module:
    """Return what the task's recipe trains with weights drawn from `seed`; the global random state is left as it was."""
    recipe = find_recipe(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RandomStreams(seed).derive_seed("weights"))
        return recipe.build_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_task(name: str, *, weights: Path | None = None, progress: Progress = SILENT) -> Task:
    """Return a built-in task with its shipped weights, or with those of a file.

    Args:
        name: For example ``"cifar10/resnet8"``; see `task_names`.
        weights: A safetensors file written by ``lionheart train``; None takes the shipped one.
        progress: Where downloads show themselves.

    Raises:
        ConfigError: There is no such task, or it needs an extra that is not installed.
        ArtifactError: Data or weights cannot be had.
    """
    recipe = find_recipe(name)
    model = build_untrained(name, seed=0)
    load_weights(weights or checkpoint_path(name), model)
    source: Recipe | Pretrained = recipe
    if recipe.pretrained is not None:
        source, model = recipe.pretrained, recipe.pretrained.build_model(model, progress)
    train, validation, test = source.build_data(batch_size=source.batch_size, progress=progress)
    return Task(model=model, train=train, validation=validation, test=test, name=name)
