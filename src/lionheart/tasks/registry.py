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
from lionheart.tasks.cifar import MEAN, STD, crop_and_flip, load_cifar10
from lionheart.tasks.resnet import ResNet8
from lionheart.tasks.task import Task
from lionheart.training import TensorBatches, TrainSpec, load_weights


@final
@dataclass(frozen=True)
class Recipe:
    """How a built-in task is made and trained.

    Args:
        build_model: Returns the network with fresh weights from a generator's seed.
        build_data: Returns train, validation and test batches.
        train_spec: Settings that train the network from scratch.
        batch_size: Images in a training batch.
    """

    build_model: Callable[[], nn.Module]
    build_data: Callable[..., tuple[TensorBatches, TensorBatches, TensorBatches]]
    train_spec: TrainSpec
    batch_size: int


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


RECIPES: dict[str, Recipe] = {
    "cifar10/resnet8": Recipe(
        build_model=ResNet8,
        build_data=_cifar10_data,
        batch_size=128,
        train_spec=TrainSpec(
            learning_rate=0.2,
            weight_decay=5e-4,
            schedule="one_cycle",
            max_epochs=80,
            patience=None,
            precision="bfloat16",
        ),
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
    """Return the task's network with weights drawn from `seed`; the global random state is left as it was."""
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
        ConfigError: There is no such task.
        ArtifactError: Data or weights cannot be had.
    """
    recipe = find_recipe(name)
    model = build_untrained(name, seed=0)
    load_weights(weights or checkpoint_path(name), model)
    train, validation, test = recipe.build_data(batch_size=recipe.batch_size, progress=progress)
    return Task(model=model, train=train, validation=validation, test=test, name=name)
