"""Training of the network of a built-in task. The weights and a training card are written to files."""

from __future__ import annotations

import functools
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
from lionheart.evaluation import (
    ScoreFunction,
    Subject,
    check_first_batches,
    evaluate_metrics,
    explain_step,
    naming_data,
)
from lionheart.files import read_json, sha256_file, write_json
from lionheart.graph import trace_graph
from lionheart.progress import SILENT, Progress
from lionheart.record import Record
from lionheart.rng import RandomStreams
from lionheart.runs import Environment, Journal, describe_environment
from lionheart.tasks.registry import Recipe, build_example, build_untrained, find_recipe
from lionheart.training import (
    TrainHooks,
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
    """Reference to weights for which no training card exists. The weights are identified by the hash of their file."""

    weights_sha256: str = Field(description="SHA-256 of the file of weights")


@final
class TrainingCard(Record):
    """Record of a training: task, settings, hardware and results. The record is stored as a ``.json`` file next to the weights.

    The value of each metric is stored under the keys ``validation_METRIC`` and ``test_METRIC``, where METRIC is the name of the
    metric. Keys in the file that are not fields of this class are kept.
    """

    model_config = ConfigDict(extra="allow")

    task: str = Field(description="name of the built-in task")
    command: str = Field(description="command or Python call that reproduces the weights")
    seed: int = Field(description="seed of the initial weights, the data order and the augmentation")
    train_spec: Annotated[TrainSpec, BeforeValidator(_read_spec), PlainSerializer(TrainSpec.to_json)] = Field(
        description="settings of the training"
    )
    batch_size: int = Field(description="samples in a training batch")
    device: str = Field("cpu", description="type of the device that trained")
    arithmetic: str | None = Field(None, description="number format of forward and backward pass: float32 or bfloat16")
    hardware: str = Field(description="processor, threads, GPU")
    torch: str = Field(description="version of PyTorch")
    elapsed_s: float = Field(description="wall time of the training [s]")
    date: str = Field(description="date on which the training ended, YYYY-MM-DD")
    n_parameters: int = Field(description="number of parameters, including those that are not trained")
    macs: int | None = Field(
        None, description="multiply-accumulates of one inference; None = not known without the data"
    )
    weights_sha256: str | None = Field(None, description="SHA-256 of the file of weights")
    training_loss: tuple[float, ...] = Field(description="mean loss of each epoch")
    planned_steps: int | None = Field(
        None, description="number of steps that fit into the minutes of the settings; None = not limited"
    )
    measure: str = Field("accuracy", description="name of the task's metric")
    started_from: TrainingCard | Weights | None = Field(
        None, description="weights that the training started from; None = initial weights"
    )

    @property
    def validation(self) -> dict[str, float]:
        """Values of the task's metric and of further metrics on the validation samples, by the name of the metric."""
        return self._metrics_of("validation")

    @property
    def test(self) -> dict[str, float]:
        """Values of the task's metric and of further metrics on the test samples, by the name of the metric."""
        return self._metrics_of("test")

    def _metrics_of(self, split: str) -> dict[str, float]:
        start, found = f"{split}_", self.model_extra or {}
        return {key.removeprefix(start): value for key, value in found.items() if key.startswith(start)}

    @model_serializer(mode="wrap")
    def _leave_out_what_is_not_known(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if key in self.model_fields_set}


def read_card(path: Path) -> TrainingCard:
    """Return the training card stored in a file.

    Args:
        path: JSON file that `train_task` wrote next to the weights.

    Raises:
        ArtifactError: The file is missing or is not a training card.
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
    """Train the network of a built-in task, and write the weights and a training card.

    The training starts from untrained initial weights or from `start`, even if trained weights of the task are published. A
    training that was interrupted resumes if its checkpoint exists: the file `out` with ``.partial`` appended to its name.

    Args:
        name: Name of a built-in task.
        out: File for the weights, with the suffix ``.safetensors``. The training card is a file of the same name with the
            suffix ``.json``.
        seed: Seed of the initial weights, the data order and the augmentation.
        spec: Training settings; None = the settings in the recipe of the task.
        device: Name of the device; ``auto`` selects a CUDA GPU if PyTorch finds one.
        start: File of weights from which the training starts; None = initial weights. With `start`, the seed determines only
            the data order and the augmentation. Use another seed than in the earlier training, so that data order and
            augmentation are not repeated.
        progress: Receiver of progress bars and messages.

    Returns:
        The training card.

    Raises:
        ConfigError: The task or the device does not exist.
        ArtifactError: The data or the weights in `start` are not available, or a file cannot be written.
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
    subject = Subject(model, recipe.metric, recipe.loss, n_steps=spec.steps_per_epoch, name=name)
    check_first_batches(subject, {"train": batches, "validation": validation, "test": test})
    optimizer = build_optimizer(model, spec)
    partial = out.with_name(out.name + ".partial")
    with naming_data({"train": batches, "validation": validation, "test": test}, name):
        trace = train(
            model,
            batches,
            recipe.loss,
            spec,
            optimizer,
            streams=RandomStreams(seed).scope("pretrain"),
            hooks=TrainHooks(explain_failure=functools.partial(explain_step, subject)),
            session=TrainSession(partial, progress, f"training {name}"),
        )
    # Weights are saved on the CPU and loaded again, so that the evaluation uses exactly the stored weights.
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

    journal = Journal(out.with_name(f"{out.name}.journal"))  # after a kill, the evaluation is not repeated
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
        **({} if trace.planned_steps is None else {"planned_steps": trace.planned_steps}),
        **({} if started_from is None else {"started_from": started_from}),
    )
    write_json(out.with_suffix(".json"), card.to_json())
    partial.unlink(missing_ok=True)
    journal.remove()
    return card


def _measure(model: nn.Module, source: BatchSource, recipe: Recipe, on_batch: Callable[[], None]) -> dict[str, float]:
    """Evaluate the model on `source`; return the task's metric and the mean scores of further metrics, by metric name."""
    metrics: dict[str, ScoreFunction] = {recipe.metric.name: recipe.metric, **recipe.extra_metrics}
    means = evaluate_metrics(model, source, metrics, on_batch=on_batch)
    return {**means, recipe.metric.name: recipe.metric.value_of(means[recipe.metric.name])}


def _describe_hardware(device: torch.device, environment: Environment) -> str:
    if device.type == "cuda":
        return f"{environment.gpu}, batches by {environment.cpu}"
    return f"{environment.cpu}, {environment.threads} thread(s), no GPU used"


def _describe_start(start: Path) -> TrainingCard | Weights:
    """Return the training card of the weights in the file `start`, or the hash of the file if no card exists.

    A training card next to the file is used only if the hash in the card equals the hash of the file.
    """
    digest = sha256_file(start)
    try:
        card = read_card(start.with_suffix(".json"))
    except ArtifactError:  # there is no card, or the file is not a card
        return Weights(weights_sha256=digest)
    return card if card.weights_sha256 == digest else Weights(weights_sha256=digest)


def _command(name: str, seed: int, spec: TrainSpec, usual: TrainSpec, device: str, start: Path | None) -> str:
    """Return the command line that repeats the training with the same settings.

    If `spec` has settings for which the command line has no option, a Python call is returned instead.
    """
    if spec != usual.replace(max_epochs=spec.max_epochs, learning_rate=spec.learning_rate, minutes=spec.minutes):
        begin = "" if start is None else f", start={start.name!r}"
        return f"lionheart.jobs.train_task({name!r}, out, seed={seed}, spec=TrainSpec.from_json(train_spec){begin})"
    words = ["lionheart", "train", name, "--seed", str(seed)]
    words += [] if spec.max_epochs == usual.max_epochs else ["--epochs", str(spec.max_epochs)]
    words += [] if spec.learning_rate == usual.learning_rate else ["--learning-rate", f"{spec.learning_rate:g}"]
    words += [] if spec.minutes == usual.minutes else ["--train-minutes", f"{spec.minutes:g}"]
    words += [] if start is None else ["--start", start.name]
    return shlex.join(words if device == "auto" else [*words, "--device", device])


def _count_macs(name: str) -> int | None:
    """Return the multiply-accumulates of one inference with the network of a built-in task.

    The result is None if the network cannot be traced without the data of the task.
    """
    example = build_example(name)
    return None if example is None else trace_graph(*example).macs
