"""The verb `train`: the weights of a built-in task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lionheart.cli.console import RichProgress, print_json, stderr
from lionheart.cli.options import JsonFlag


def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A built-in task.")],
    out: Annotated[
        Path | None, typer.Option(help="Weights; the card goes next to them.", show_default="TASK.safetensors")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides weights and data order.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Epochs.", show_default="the recipe's")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate.", show_default="the recipe's")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Weights to begin with, of an earlier training; give another --seed then.", show_default="fresh"
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU if there is one.")] = "auto",
    as_json: JsonFlag = False,
) -> None:
    """Train a built-in task's network, from scratch unless --start; run it again after a stop and it goes on."""
    from lionheart.jobs import train_task
    from lionheart.tasks.registry import find_recipe

    recipe = find_recipe(task)
    if recipe.load_published is not None:
        stderr.print(
            f"{task}: trains new weights from scratch; `map` and the other commands keep to the published ones, "
            "and build_task(..., weights=...) in Python takes yours",
            markup=False,
            soft_wrap=True,
        )
    spec = recipe.train_spec
    spec = spec if epochs is None else spec.replace(max_epochs=epochs)
    spec = spec if learning_rate is None else spec.replace(learning_rate=learning_rate)
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
            f"{task}: test {metric.name} {test}, validation {validation}; weights in {target}",
            markup=False,
            soft_wrap=True,
        )
