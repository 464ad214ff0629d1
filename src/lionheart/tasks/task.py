"""The task that LionHeart maps: a model with its data, metric and loss."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import InitVar, dataclass, replace
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.data import BatchSource, as_batches, first_sample, move_batch
from lionheart.deprecated import warn_deprecated
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.metrics import ACCURACY as ACCURACY
from lionheart.metrics import F1 as F1
from lionheart.metrics import PERPLEXITY as PERPLEXITY
from lionheart.metrics import Metric as Metric
from lionheart.metrics import accuracy_scores as accuracy_scores


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits and class indices, in float32."""
    return F.cross_entropy(outputs.float(), targets)


def as_metric(metric: Any, measure: Metric | None = None, *, where: str = "Task.metric") -> Metric:
    """Return a metric as a `Metric` that can compute scores.

    Args:
        metric: A `Metric`, or a function of ``(outputs, targets)`` that returns one score for each sample.
        measure: Meaning of the scores; deprecated.
        where: Name of the setting in errors.

    Raises:
        ConfigError: `metric` is neither, or is a `Metric` without a function.
    """
    if measure is not None:
        warn_deprecated(
            "Task.measure", 'Task.metric, as in metric=Metric("F1", "F1 points", compute=f1_scores)', stacklevel=5
        )
        return replace(measure, compute=metric.compute if isinstance(metric, Metric) else metric)
    if isinstance(metric, Metric):
        if metric.compute is None:
            raise ConfigError(
                f"{where}: got the metric {metric.name!r} without a function that scores samples",
                hint=f"set its function: Metric({metric.name!r}, {metric.drop_unit!r}, compute=my_scores)",
            )
        return metric
    if not callable(metric):
        raise ConfigError(
            f"{where}: got {type(metric).__name__}, expected a Metric or a function of (outputs, targets)",
            hint="return one score for each sample, as lionheart.tasks.accuracy_scores does",
        )
    if metric is accuracy_scores:
        return ACCURACY
    name = getattr(metric, "__name__", "")
    return Metric(name.replace("_", " ") if name.isidentifier() else "score", compute=metric)


@final
@dataclass(frozen=True)
class Task:
    """A model with its data and its metric.

    Args:
        model: Network trained in floating point. Mapping works on a copy; the model itself is never changed.
        train: Batches for retraining: a `DataLoader`, a list of ``(inputs, targets)`` pairs, or a `BatchSource`.
        validation: Batches for decisions; must not share samples with `train`.
        test: Batches for the reported results, used once at the end; must not share samples with the other two.
        metric: Metric whose mean score the bound refers to: a `Metric`, or a function of ``(outputs, targets)`` that returns
            one score for each sample and whose name is shown.
        loss: Function of ``(outputs, targets)`` that returns a scalar.
        name: Name in reports.
        measure: Deprecated; part of `metric`.

    Raises:
        ConfigError: A field is missing or of the wrong type.
    """

    model: nn.Module
    train: Any
    validation: Any
    test: Any
    metric: Any = ACCURACY
    loss: Callable[[Any, Any], Tensor] = cross_entropy
    name: str = "custom"
    measure: InitVar[Metric | None] = None

    def __post_init__(self, measure: Metric | None) -> None:
        if not isinstance(self.model, nn.Module):
            raise ConfigError(
                f"Task.model: got {type(self.model).__name__}, expected a torch.nn.Module",
                hint="pass the network itself",
            )
        for split in ("train", "validation", "test"):
            object.__setattr__(self, split, as_batches(getattr(self, split)))
        object.__setattr__(self, "metric", as_metric(self.metric, measure))

    @property
    def train_batches(self) -> BatchSource:
        """Batches for retraining."""
        source: BatchSource = self.train
        return source

    def example_inputs(self) -> Any:
        """Return the inputs of the first validation sample with batch size 1."""
        inputs, _ = next(iter(self.validation.epoch(torch.Generator().manual_seed(0))))
        return first_sample(inputs)

    def trace(self) -> LayerGraph:
        """Return the layer graph of the model, traced on one sample; a model on a GPU is copied to the CPU first.

        On a GPU some layers are one kernel, such as cuDNN's LSTM, which hides its matrix products.

        Raises:
            GraphError: The forward pass fails, or the model has no projection.
        """
        model, device = self.model, self.device
        if device.type not in ("cpu", "meta"):
            device = torch.device("cpu")
            model = copy.deepcopy(model).to(device)
        return trace_graph(model, move_batch(self.example_inputs(), device))

    @property
    def device(self) -> torch.device:
        """Device of the model's parameters; the CPU if it has none."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
