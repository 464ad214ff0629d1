"""Built-in tasks by name: recipes, networks, weights and tasks."""

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
    """Return the names of the built-in tasks."""
    return sorted(TASKS)


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a built-in task.

    Raises:
        ConfigError: The task does not exist.
    """
    return TASKS.find(name)


def checkpoint_path(name: str) -> Path:
    """Return the path of the shipped weights of a built-in task, which need not exist."""
    return Path(
        str(resources.files("lionheart.tasks").joinpath("checkpoints", name.replace("/", "_") + ".safetensors"))
    )


def build_untrained(name: str, *, seed: int) -> nn.Module:
    """Return the network of the task's recipe with weights drawn from `seed`; the global random state is unchanged."""
    recipe = find_recipe(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RandomStreams(seed).derive_seed("weights"))
        return recipe.build_model().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def build_example(name: str) -> tuple[nn.Module, torch.Tensor] | None:
    """Return a built-in task's network with initial weights and zeros for one sample; None if tracing it needs data.

    The function needs neither weights nor data; the result is sufficient for the structure of the network.

    Raises:
        ConfigError: The task does not exist.
    """
    shape = None if "@" in name else find_recipe(name).input_shape
    return None if shape is None else (build_untrained(name, seed=0).eval(), torch.zeros(1, *shape))


def find_weights(name: str) -> Path:
    """Return the weights of a built-in task: those in the package, else those in ``checkpoints`` in the user's cache.

    Tasks with published weights do not need them.

    Raises:
        ArtifactError: There are no weights in either location.
    """
    shipped = checkpoint_path(name)
    own = cache_dir() / "checkpoints" / (name.replace("/", "_") + ".safetensors")
    if shipped.exists():
        return shipped
    if own.exists():
        return own
    raise ArtifactError(
        f"{name}: no weights in the package, and {own} does not exist",
        hint=f"train the network: `lionheart train {name} --out {own}`; or put your own weights there, "
        f"or in Python call build_task({name!r}, weights=...)",
    )


def build_task(name: str, *, weights: Path | None = None, progress: Progress = SILENT) -> Task:
    """Return a built-in task with its published or shipped weights, or with those of a file.

    Args:
        name: Name of the task, e.g. ``"cifar10/resnet8"``, see `task_names`; or ``NAME@MODEL`` with a name of `HUB_TASKS` and
            the name or directory of a Hugging Face model.
        weights: Safetensors file written by ``lionheart train``; None = the published weights of the network, or else those of
            `find_weights`.
        progress: Receiver of progress bars and messages.

    Raises:
        ConfigError: The task does not exist, or it needs an extra that is not installed.
        ArtifactError: Data or weights are not available.
    """
    check_type(name, str, "task", hint="give the name of a built-in task, for example cifar10/resnet8")
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
