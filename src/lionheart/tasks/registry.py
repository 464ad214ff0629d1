"""Built-in tasks by name: recipes, networks, weights, whole tasks."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import nn

from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.tasks.recipe import HUB_TASKS, TASKS
from lionheart.tasks.recipe import Pretrained as Pretrained
from lionheart.tasks.recipe import Recipe as Recipe
from lionheart.tasks.task import Task
from lionheart.training import load_weights


def task_names() -> list[str]:
    """Return the names of the built-in tasks."""
    return sorted(TASKS)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a built-in task.

    Raises:
        ConfigError: There is no such task.
    """
    return TASKS.find(name)


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


def build_example(name: str) -> tuple[nn.Module, torch.Tensor] | None:
    """Return a built-in task's network with fresh weights and zeros for one sample; None if only its data shows the way.

    It takes neither weights nor data: enough for its structure.

    Raises:
        ConfigError: There is no such task.
    """
    shape = None if "@" in name else find_recipe(name).input_shape
    return None if shape is None else (build_untrained(name, seed=0).eval(), torch.zeros(1, *shape))


def find_weights(name: str) -> Path:
    """Return the weights of a built-in task: those in the package, else those in ``checkpoints`` in the user's cache.

    A task whose weights others published needs none of them.

    Raises:
        ArtifactError: There are none.
    """
    shipped = checkpoint_path(name)
    own = cache_dir() / "checkpoints" / (name.replace("/", "_") + ".safetensors")
    if shipped.exists():
        return shipped
    if own.exists():
        return own
    raise ArtifactError(
        f"{name}: it has no weights in the package, and there is no {own}",
        hint=f"train it: `lionheart train {name} --out {own}`; weights of your own go there too, "
        f"or in Python to build_task({name!r}, weights=...)",
    )


def build_task(name: str, *, weights: Path | None = None, progress: Progress = SILENT) -> Task:
    """Return a built-in task with its published or shipped weights, or with those of a file.

    Args:
        name: For example ``"cifar10/resnet8"``, see `task_names`; or ``NAME@MODEL`` with a name of `HUB_TASKS` and a
            Hugging Face model by its name or folder.
        weights: A safetensors file written by ``lionheart train``; None takes those that others published for the network, else
            those of `find_weights`.
        progress: Where downloads show themselves.

    Raises:
        ConfigError: There is no such task, or it needs an extra that is not installed.
        ArtifactError: Data or weights cannot be had.
    """
    family, at, model_name = name.partition("@")
    if at:
        if family not in HUB_TASKS:
            raise ConfigError(
                f"task: got {name!r}, expected NAME@MODEL", hint=suggest(family, HUB_TASKS, label=HUB_TASKS.plural)
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
