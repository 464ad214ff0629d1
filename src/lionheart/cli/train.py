"""The command ``lionheart train``, which trains the weights of a built-in task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lionheart.cli.console import RichProgress, print_json, stderr
from lionheart.cli.options import JsonFlag


def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Built-in task, for example cifar10/resnet8.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to write. A JSON card with settings and scores is written next to them.",
            show_default="TASK.safetensors",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Seed of the initial weights and of the order of the data.")
    ] = 0,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Number of epochs.", show_default="the task's")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Peak learning rate.", show_default="the task's")
    ] = None,
    train_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            help="Duration of the training: its schedule gets as many steps as fit, whatever --epochs is.",
            show_default="by epochs",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Initial weights, from an earlier training. Give another --seed, for another order of the data.",
            show_default="random",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="PyTorch device: cpu, cuda, or auto (a GPU if available).")
    ] = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Train the network of a built-in task.

    To continue an interrupted training, run the same command again.
    """
    from lionheart.jobs import train_task
    from lionheart.tasks.registry import find_recipe

    recipe = find_recipe(task)
    if recipe.load_published is not None:
        stderr.print(
            f"{task}: this command trains new weights. `map` and the other verbs use the published weights. "
            "To use the new weights, call build_task(..., weights=...) in Python.",
            soft_wrap=True,
        )
    spec = recipe.train_spec
    spec = spec if epochs is None else spec.replace(max_epochs=epochs)
    spec = spec if learning_rate is None else spec.replace(learning_rate=learning_rate)
    spec = spec if train_minutes is None else spec.replace(minutes=train_minutes)
    target = out or Path(task.replace("/", "_") + ".safetensors")
    card = train_task(task, target, seed=seed, spec=spec, device=device, start=start, progress=RichProgress())
    if as_json:
        print_json(card.to_json())
    else:
        metric = recipe.metric
        test, validation = (
            metric.format_value(metric.mean_of(found[metric.name])) for found in (card.test, card.validation)
        )
        stderr.print(
            f"{task}: test {metric.name} {test}, validation {metric.name} {validation}; weights: {target}",
            soft_wrap=True,
        )
