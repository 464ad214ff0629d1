"""Functions that return the recipe, the network, the weights or the task for the name of a built-in task."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import nn

from lionheart.errors import ArtifactError, ConfigError, check_type, suggest
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.tasks.recipe import HUB_TASKS, TASKS
from lionheart.tasks.recipe import Pretrained as Pretrained
from lionheart.tasks.recipe import Recipe as Recipe
from lionheart.tasks.task import Task
from lionheart.training import load_weights


def task_names() -> list[str]:
    """Return the names of the built-in tasks in alphabetical order, without tasks of the form ``NAME@MODEL``."""
    return sorted(TASKS)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of the built-in task called `name`.

    Raises:
        ConfigError: The task does not exist.
    """
    return TASKS.find(name)


def checkpoint_path(name: str) -> Path:
    """Return the path in the package at which trained weights of a built-in task are stored.

    The file need not exist.
    """
    return Path(
        str(resources.files("lionheart.tasks").joinpath("checkpoints", name.replace("/", "_") + ".safetensors"))
    )


def build_untrained(name: str, *, seed: int) -> nn.Module:
    """Return the network that the recipe of a task trains, with random initial weights that depend only on `seed`.

    The global random state is unchanged.
    """
    recipe = find_recipe(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RandomStreams(seed).derive_seed("weights"))
        return recipe.build_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_example(name: str) -> tuple[nn.Module, torch.Tensor] | None:
    """Return the network of a built-in task with initial weights, and a batch of one sample of zeros.

    The network and the batch suffice to trace the structure of the network without trained weights and without data. Return
    None if tracing the network needs samples of the data.

    Raises:
        ConfigError: The task does not exist.
    """
    shape = None if "@" in name else find_recipe(name).input_shape
    return None if shape is None else (build_untrained(name, seed=0).eval(), torch.zeros(1, *shape))


def find_weights(name: str) -> Path:
    """Return the path of the trained weights of a built-in task.

    The file in the package has priority over the file in the folder ``checkpoints`` of the user's cache. `build_task` calls
    this function only for tasks without published weights.

    Raises:
        ArtifactError: Neither location contains weights.
    """
    shipped = checkpoint_path(name)
    own = cache_dir() / "checkpoints" / (name.replace("/", "_") + ".safetensors")
    if shipped.exists():
        return shipped
    if own.exists():
        return own
    raise ArtifactError(
        f"{name}: the package contains no trained weights for this task, and the file {own} does not exist",
        hint=f"train the network with `lionheart train {name} --out {own}`, or copy trained weights to this file, "
        f"or call build_task({name!r}, weights=...) in Python",
    )


def build_task(name: str, *, weights: Path | None = None, progress: Progress = SILENT) -> Task:
    """Return a built-in task: a network with trained weights, its data, metric and loss.

    Args:
        name: Name of the task, for example ``"cifar10/resnet8"`` (see `task_names`), or ``NAME@MODEL``, where ``NAME`` is
            a name in `HUB_TASKS` and ``MODEL`` is the name or the directory of a Hugging Face model.
        weights: Safetensors file written by ``lionheart train``. None = published weights if there are any, else the file that
            `find_weights` returns. Ignored for ``NAME@MODEL``.
        progress: Receiver of progress bars and messages.

    Raises:
        ConfigError: The task does not exist, or it needs an optional dependency that is not installed.
        ArtifactError: Data or weights are not available.
    """
    check_type(name, str, "task", hint="give the name of a built-in task, for example cifar10/resnet8")
    family, at, model_name = name.partition("@")
    if at:
        if family not in HUB_TASKS:
            raise ConfigError(
                f"task: got {name!r}, expected NAME@MODEL with the NAME of a family of Hugging Face tasks",
                hint=suggest(family, HUB_TASKS, label=HUB_TASKS.plural),
            )
        return HUB_TASKS.find(family)(model_name, progress)
    recipe = find_recipe(name)
    if weights is None and recipe.load_published is None:
        weights = find_weights(name)
    model = build_untrained(name, seed=0)
    if weights is not None:
        load_weights(weights, model)
    elif recipe.load_published is not None:
        recipe.load_published(model, progress)
    source: Recipe | Pretrained = recipe
    if recipe.pretrained is not None:
        source, model = recipe.pretrained, recipe.pretrained.build_model(model, progress)
    train, validation, test = source.build_data(batch_size=source.batch_size, progress=progress)
    return Task(
        model=model,
        train=train,
        validation=validation,
        test=test,
        metric=recipe.metric,
        loss=recipe.loss,
        name=name,
    )
