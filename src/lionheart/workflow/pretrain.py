"""Train a built-in task's network from scratch and write its checkpoint with a card."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lionheart.evaluation import evaluate_accuracy
from lionheart.files import write_json
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import describe_environment
from lionheart.tasks.registry import build_untrained, find_recipe
from lionheart.training import TrainSpec, TrainTrace, build_optimizer, load_weights, save_weights, train


def train_task(
    name: str,
    out: Path,
    *,
    seed: int = 0,
    spec: TrainSpec | None = None,
    command: str = "",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train from scratch, resuming if ``<out>.partial`` is there, and write `out` and its card ``<out>.json``.

    Args:
        name: A built-in task.
        out: Where the weights go, ``….safetensors``.
        seed: Decides weights, data order and augmentation.
        spec: Settings; None takes the task's recipe.
        command: Written into the card.
        progress: Where to show the bar.

    Returns:
        The card: command, seed, hardware, time, losses, and the measure's value on validation and test.
    """
    recipe = find_recipe(name)
    spec = spec or recipe.train_spec
    batches, validation, test = recipe.build_data(batch_size=recipe.batch_size, progress=progress)
    model = build_untrained(name, seed=seed)
    optimizer = build_optimizer(model, spec)
    partial = out.with_name(out.name + ".partial")
    trace: TrainTrace = train(
        model,
        batches,
        recipe.loss,
        spec,
        optimizer,
        streams=RandomStreams(seed).scope("pretrain"),
        checkpoint=partial,
        progress=progress,
        label=f"training {name}",
    )
    save_weights(out, model, {"task": name, "seed": seed}, half=recipe.half_weights)
    load_weights(out, model)  # what is measured is what is stored
    environment = describe_environment()
    card = {
        "task": name,
        "command": command or f"lionheart train {name} --seed {seed}",
        "seed": seed,
        "train_spec": spec.to_json(),
        "batch_size": recipe.batch_size,
        "hardware": environment["gpu"] or f"{environment['cpu']}, {environment['threads']} thread(s), no GPU",
        "torch": environment["torch"],
        "elapsed_s": round(trace.elapsed_s, 1),
        "date": time.strftime("%Y-%m-%d"),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "training_loss": [round(loss, 5) for loss in trace.losses],
        "measure": recipe.measure.name,
        f"validation_{recipe.measure.name}": recipe.measure.value_of(
            evaluate_accuracy(model, validation, recipe.metric)
        ),
        f"test_{recipe.measure.name}": recipe.measure.value_of(evaluate_accuracy(model, test, recipe.metric)),
    }
    write_json(out.with_suffix(".json"), card)
    partial.unlink(missing_ok=True)
    return card
