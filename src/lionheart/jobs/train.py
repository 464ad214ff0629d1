"""Train a built-in task's network and write its checkpoint with a card."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, final

import torch
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from torch import nn

from lionheart.data import BatchSource
from lionheart.errors import ArtifactError
from lionheart.evaluation import evaluate_metrics
from lionheart.files import read_json, sha256_file, write_json
from lionheart.graph import trace_graph
from lionheart.progress import SILENT, Progress
from lionheart.record import Record
from lionheart.rng import RandomStreams
from lionheart.runs import Environment, Journal, describe_environment
from lionheart.tasks.registry import Recipe, build_example, build_untrained, find_recipe
from lionheart.training import (
    TrainSession,
    TrainSpec,
    build_optimizer,
    choose_arithmetic,
    choose_device,
    load_weights,
    save_weights,
    train,
)


def _read_spec(data: Any) -> Any:
    return TrainSpec.from_json(data) if isinstance(data, Mapping) else data


@final
class Weights(Record):
    """Weights of which nothing is known but what they are."""

    weights_sha256: str = Field(description="SHA-256 of the file")


@final
class TrainingCard(Record):
    """What trained weights are and how they were made: the ``.json`` next to them.

    The names of metrics are the task's own: their values are in ``validation_METRIC`` and ``test_METRIC``. Other keys that are
    not listed here are kept too.
    """

    model_config = ConfigDict(extra="allow")

    task: str = Field(description="name of the built-in task")
    command: str = Field(description="command or call that makes the weights again")
    seed: int = Field(description="of weights, data order and augmentation")
    train_spec: Annotated[TrainSpec, BeforeValidator(_read_spec), PlainSerializer(TrainSpec.to_json)] = Field(
        description="settings of the training"
    )
    batch_size: int = Field(description="samples in a training batch")
    device: str = Field("cpu", description="type of the device that trained")
    arithmetic: str | None = Field(None, description="of forward and backward: float32 or bfloat16")
    hardware: str = Field(description="processor, threads, GPU")
    torch: str = Field(description="version")
    elapsed_s: float = Field(description="wall time of the training [s]")
    date: str = Field(description="of the end of the training")
    n_parameters: int = Field(description="trained parameters, those that never change included")
    macs: int | None = Field(
        None, description="multiply-accumulates of one inference; None = not known without the data"
    )
    weights_sha256: str | None = Field(None, description="SHA-256 of the file of weights")
    training_loss: tuple[float, ...] = Field(description="mean loss of each epoch")
    measure: str = Field("accuracy", description="name of the task's measure, one of the metrics")
    started_from: TrainingCard | Weights | None = Field(
        None, description="the weights it began with; None = fresh ones"
    )

    @property
    def validation(self) -> dict[str, float]:
        """Value of the measure and means of further metrics on the validation samples, by name."""
        return self._metrics_of("validation")

    @property
    def test(self) -> dict[str, float]:
        """Value of the measure and means of further metrics on the test samples, by name."""
        return self._metrics_of("test")

    def _metrics_of(self, split: str) -> dict[str, float]:
        start, found = f"{split}_", self.model_extra or {}
        return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_known(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if key in self.model_fields_set}


def read_card(path: Path) -> TrainingCard:
    """Return the card that `train_task` wrote next to weights.

    Raises:
        ArtifactError: It is missing, or something else.
    """
    return TrainingCard.from_json(read_json(path), str(path))


def train_task(
    name: str,
    out: Path,
    *,
    seed: int = 0,
    spec: TrainSpec | None = None,
    device: str = "auto",
    start: Path | None = None,
    progress: Progress = SILENT,
) -> TrainingCard:
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
        The card.

    Raises:
        ConfigError: There is no such task or device.
        ArtifactError: Data or the weights to begin with cannot be had, or a file cannot be written.
    """
    recipe = find_recipe(name)
    spec = spec or recipe.train_spec
    chosen = choose_device(device)
    batches, validation, test = recipe.build_data(batch_size=recipe.batch_size, progress=progress)
    model = build_untrained(name, seed=seed)
    if start is not None:
        load_weights(start, model)
    started_from = None if start is None else _describe_start(start)
    model = model.to(chosen)
    optimizer = build_optimizer(model, spec)
    partial = out.with_name(out.name + ".partial")
    trace = train(
        model,
        batches,
        recipe.loss,
        spec,
        optimizer,
        streams=RandomStreams(seed).scope("pretrain"),
        session=TrainSession(partial, progress, f"training {name}"),
    )
    # Stored from the CPU, whatever trained them; and what is measured is what is stored.
    save_weights(out, model, {"task": name, "seed": seed}, half=recipe.half_weights)
    load_weights(out, model)
    digest = sha256_file(out)

    def evaluate() -> dict[str, float]:
        with progress.bar(f"evaluating {name}", len(validation) + len(test)) as bar:
            splits = {"validation": validation, "test": test}
            return {
                f"{split}_{metric}": value
                for split, source in splits.items()
                for metric, value in _measure(model, source, recipe, bar.advance).items()
            }

    journal = Journal(out.with_name(f"{out.name}.journal"))  # a kill here costs no second evaluation
    found = journal.once(f"evaluated {digest}", dict[str, float], evaluate)
    environment = describe_environment(chosen)
    card = TrainingCard(
        task=name,
        command=_command(name, seed, spec, recipe.train_spec, device, start),
        seed=seed,
        train_spec=spec,
        batch_size=recipe.batch_size,
        device=chosen.type,
        arithmetic=choose_arithmetic(spec, chosen),
        hardware=_describe_hardware(chosen, environment),
        torch=environment.torch,
        elapsed_s=round(trace.elapsed_s, 1),
        date=time.strftime("%Y-%m-%d"),
        n_parameters=sum(p.numel() for p in model.parameters()),
        macs=_count_macs(name),
        weights_sha256=digest,
        training_loss=tuple(round(loss, 5) for loss in trace.losses),
        measure=recipe.metric.name,
        **found,
        **({} if started_from is None else {"started_from": started_from}),
    )
    write_json(out.with_suffix(".json"), card.to_json())
    partial.unlink(missing_ok=True)
    journal.remove()
    return card


def _measure(model: nn.Module, source: BatchSource, recipe: Recipe, on_batch: Callable[[], None]) -> dict[str, float]:
    """Return the value of the measure and the means of further metrics, by name."""
    metrics = {recipe.metric.name: recipe.metric, **recipe.extra_metrics}
    means = evaluate_metrics(model, source, metrics, on_batch=on_batch)
    return {**means, recipe.metric.name: recipe.metric.value_of(means[recipe.metric.name])}


def _describe_hardware(device: torch.device, environment: Environment) -> str:
    if device.type == "cuda":
        return f"{environment.gpu}, batches by {environment.cpu}"
    return f"{environment.cpu}, {environment.threads} thread(s), no GPU used"


def _describe_start(start: Path) -> TrainingCard | Weights:
    """Return which weights these are, and how they were made if their card is next to them."""
    digest = sha256_file(start)
    try:
        card = read_card(start.with_suffix(".json"))
    except ArtifactError:  # there is none, or it is a file of another kind
        return Weights(weights_sha256=digest)
    return card if card.weights_sha256 == digest else Weights(weights_sha256=digest)


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
