"""Train a built-in task's network and write its checkpoint with a card."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import torch

from lionheart.evaluation import evaluate_metrics
from lionheart.files import read_json, sha256_file, write_json
from lionheart.graph import trace_graph
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Environment, describe_environment
from lionheart.tasks.registry import build_example, build_untrained, find_recipe
from lionheart.training import (
    TrainSpec,
    TrainTrace,
    build_optimizer,
    choose_arithmetic,
    choose_device,
    load_weights,
    save_weights,
    train,
)


def train_task(
    name: str,
    out: Path,
    *,
    seed: int = 0,
    spec: TrainSpec | None = None,
    device: str = "auto",
    start: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Train from scratch or from weights, resuming if ``<out>.partial`` is there, and write `out` and its card ``<out>.json``.

    A task whose weights others published is trained from scratch as well: `out` is a network of one's own.

    Args:
        name: A built-in task.
        out: Where the weights go, ``….safetensors``.
        seed: Decides weights, data order and augmentation.
        spec: Settings; None takes the task's recipe.
        device: ``auto`` takes a CUDA GPU if PyTorch sees one.
        start: Weights to begin with, of an earlier training; None = fresh ones. `seed` then decides the data alone: with the
            earlier training's it would see the same order and augmentation again.
        progress: Where to show the bar.

    Returns:
        The card: command, the card of the weights it began with, seed, hardware, time, losses, size, SHA-256 of the weights,
        value of the measure and means of further metrics on validation and test.

    Raises:
        ConfigError: There is no such task or device.
        ArtifactError: Data or the weights to begin with cannot be had, or a file cannot be written.
    """
    recipe = find_recipe(name)
    spec = spec or recipe.train_spec
    place = choose_device(device)
    batches, validation, test = recipe.build_data(batch_size=recipe.batch_size, progress=progress)
    model = build_untrained(name, seed=seed)
    if start is not None:
        load_weights(start, model)
    started_from = None if start is None else _describe_start(start)
    model = model.to(place)
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
    save_weights(
        out, model, {"task": name, "seed": seed}, half=recipe.half_weights
    )  # from the CPU, whatever trained them
    load_weights(out, model)  # what is measured is what is stored
    found: dict[str, float] = {}
    with progress.bar(f"evaluating {name}", len(validation) + len(test)) as bar:
        for split, source in (("validation", validation), ("test", test)):
            metrics = {recipe.measure.name: recipe.metric, **recipe.extra_metrics}
            means = evaluate_metrics(model, source, metrics, on_batch=bar.advance)
            means[recipe.measure.name] = recipe.measure.value_of(means[recipe.measure.name])
            found |= {f"{split}_{metric}": mean for metric, mean in means.items()}
    environment = describe_environment(place)
    card = {
        "task": name,
        "command": _command(name, seed, spec, recipe.train_spec, device, start),
        "seed": seed,
        "train_spec": spec.to_json(),
        "batch_size": recipe.batch_size,
        "device": place.type,
        "arithmetic": choose_arithmetic(spec, place),
        "hardware": _describe_hardware(place, environment),
        "torch": environment.torch,
        "elapsed_s": round(trace.elapsed_s, 1),
        "date": time.strftime("%Y-%m-%d"),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "macs": _count_macs(name),
        "weights_sha256": sha256_file(out),
        "training_loss": [round(loss, 5) for loss in trace.losses],
        "measure": recipe.measure.name,
        **found,
    }
    if started_from is not None:
        card["started_from"] = started_from
    write_json(out.with_suffix(".json"), card)
    partial.unlink(missing_ok=True)
    return card


def _describe_hardware(place: torch.device, environment: Environment) -> str:
    if place.type == "cuda":
        return f"{environment.gpu}, batches by {environment.cpu}"
    return f"{environment.cpu}, {environment.threads} thread(s), no GPU used"


def _describe_start(start: Path) -> dict[str, Any]:
    """Return which weights these are, and how they were made if their card is beside them."""
    digest, path = sha256_file(start), start.with_suffix(".json")
    card = read_json(path) if path.exists() else {}
    return card if card.get("weights_sha256") == digest else {"weights_sha256": digest}


def _command(name: str, seed: int, spec: TrainSpec, usual: TrainSpec, device: str, start: Path | None) -> str:
    """Return what makes these weights again, anywhere: a command, or a call where no command has the settings."""
    if spec != usual.replace(max_epochs=spec.max_epochs, learning_rate=spec.learning_rate):
        begin = "" if start is None else f", start={start.name!r}"
        return f"lionheart.jobs.train_task({name!r}, out, seed={seed}, spec=TrainSpec.from_json(train_spec){begin})"
    words = ["lionheart", "train", name, "--seed", str(seed)]
    words += [] if spec.max_epochs == usual.max_epochs else ["--epochs", str(spec.max_epochs)]
    words += [] if spec.learning_rate == usual.learning_rate else ["--learning-rate", f"{spec.learning_rate:g}"]
    words += [] if start is None else ["--start", start.name]
    return shlex.join(words if device == "auto" else [*words, "--device", device])


def _count_macs(name: str) -> int | None:
    """Return the multiply-accumulates of one inference, None where only the data shows the way through the network."""
    example = build_example(name)
    return None if example is None else trace_graph(*example).macs
