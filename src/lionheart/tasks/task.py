"""The task, which is the input of LionHeart: a model with its data, metric and loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, replace
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.copies import copy_model
from lionheart.data import BatchSource, as_batches, device_of, first_sample, move_batch, read_first
from lionheart.deprecated import warn_deprecated
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.logits import NO_TARGET, class_axis, find_logits
from lionheart.metrics import ACCURACY as ACCURACY
from lionheart.metrics import F1 as F1
from lionheart.metrics import PERPLEXITY as PERPLEXITY
from lionheart.metrics import Metric as Metric
from lionheart.metrics import accuracy_scores as accuracy_scores


def cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy [nats] over a batch as a scalar, computed in float32.

    Args:
        outputs: Logits ``(batch, classes)``, ``(batch, ..., classes)`` or ``(batch, classes, ...)``, or an object that contains
            these logits, such as a ``ModelOutput`` of Hugging Face.
        targets: Class indices ``(batch,)``, or ``(batch, ...)`` with one class for each position; -100 is ignored. Or
            probabilities of the classes, in the shape of the logits.

    Raises:
        ConfigError: The shapes or types do not fit, or a target is not a class.
    """
    logits = find_logits(outputs)
    is_tensor = isinstance(logits, Tensor) and isinstance(targets, Tensor)
    if is_tensor and targets.is_floating_point() and logits.ndim > 1 and logits.shape == targets.shape:
        return F.cross_entropy(logits.float(), targets.float())
    axis = class_axis(logits, targets, "cross_entropy")
    if axis == -1 and targets.ndim > 1:
        logits, targets = logits.flatten(0, -2), targets.flatten()
    if targets.device.type == "cpu":  # elsewhere it would wait for the device; the first batch is checked on the CPU
        check_classes(targets, logits.shape[axis])
    return F.cross_entropy(logits.float(), targets.long())


def check_classes(targets: Tensor, n_classes: int) -> None:
    """Check that all targets are class indices below `n_classes`, or -100 for no class.

    Raises:
        ConfigError: A target is not a class.
    """
    wrong = targets[(targets != NO_TARGET) & ((targets < 0) | (targets >= n_classes))]
    if wrong.numel():
        raise ConfigError(
            f"cross_entropy: got the target {int(wrong[0])} for outputs of {n_classes} classes, expected 0 to {n_classes - 1}",
            hint="correct the targets, count classes from 0, or give the last layer of the model as many outputs as classes",
        )


def as_metric(metric: Any, measure: Metric | None = None, *, where: str = "Task.metric") -> Metric:
    """Return a `Metric` that can compute scores, made from a `Metric` or from a function.

    Args:
        metric: A `Metric`, or a function of ``(outputs, targets)`` that returns one score for each sample.
        measure: Deprecated. A `Metric` without a function; the function is then given by `metric`.
        where: Name of the setting in error messages.

    Raises:
        ConfigError: `metric` is neither a `Metric` nor callable, or is a `Metric` without a function.
    """
    if measure is not None:
        warn_deprecated(
            "Task.measure", 'Task.metric, as in metric=Metric("F1", "F1 points", compute=f1_scores)', stacklevel=5
        )
        return replace(measure, compute=metric.compute if isinstance(metric, Metric) else metric)
    if isinstance(metric, Metric):
        if metric.compute is None:
            raise ConfigError(
                f"{where}: got the metric {metric.name!r} with compute=None, expected a function that scores samples",
                hint=f"give the function: Metric({metric.name!r}, {metric.drop_unit!r}, compute=my_scores)",
            )
        return metric
    if not callable(metric):
        raise ConfigError(
            f"{where}: got {type(metric).__name__}, expected a Metric or a function of (outputs, targets)",
            hint="the function must return one score for each sample; see lionheart.tasks.accuracy_scores for an example",
        )
    if metric is accuracy_scores:
        return ACCURACY
    name = getattr(metric, "__name__", "")
    return Metric(name.replace("_", " ") if name.isidentifier() else "score", compute=metric)


@final
@dataclass(frozen=True)
class Task:
    """A model with its data, its metric and its loss.

    Args:
        model: Network trained in floating point. LionHeart converts a copy; the model itself is never changed.
        train: Batches for retraining: a `DataLoader`, a list of ``(inputs, targets)`` pairs, or a `BatchSource`.
        validation: Batches on which the search bases its decisions. They must not share samples with `train`.
        test: Batches for the reported results, used once at the end. They must not share samples with `train` or `validation`.
        metric: Metric that measures the quality of a network: a `Metric`, or a function of ``(outputs, targets)`` that returns
            one score for each sample. The bound on the drop of the metric refers to the mean score. Reports show the name of
            the function.
        loss: Function of ``(outputs, targets)`` that returns a scalar, for retraining.
        name: Name of the task in reports.
        measure: Deprecated; use `metric`.

    Raises:
        ConfigError: An argument has the wrong type.
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
                hint="pass an instance of the network, not its class, its name or a file",
            )
        if not callable(self.loss):
            raise ConfigError(
                f"Task.loss: got {type(self.loss).__name__}, expected a function of (outputs, targets)",
                hint="pass a function that returns a scalar tensor, for example torch.nn.functional.cross_entropy",
            )
        for split in ("train", "validation", "test"):
            object.__setattr__(self, split, as_batches(getattr(self, split), f"Task.{split}"))
        object.__setattr__(self, "metric", as_metric(self.metric, measure))

    @property
    def train_batches(self) -> BatchSource:
        """Batches for retraining."""
        source: BatchSource = self.train
        return source

    def example_inputs(self) -> Any:
        """Return the inputs of the first validation sample as a batch of size 1."""
        inputs, _ = read_first(self.validation, where="Task.validation")
        return first_sample(inputs)

    def trace(self) -> LayerGraph:
        """Return the graph of the model's layers, recorded during a forward pass of one sample.

        A model on a GPU is copied to the CPU first, because some GPU kernels, such as cuDNN's LSTM, hide the matrix products
        inside a layer.

        Raises:
            GraphError: The forward pass fails, or the model has no projection (matrix product with a weight matrix).
        """
        model, device = self.model, self.device
        if device.type not in ("cpu", "meta"):
            device = torch.device("cpu")
            model = copy_model(model).to(device)
        return trace_graph(model, move_batch(self.example_inputs(), device))

    @property
    def device(self) -> torch.device:
        """PyTorch device of the model's first parameter, or the CPU if the model has no parameters."""
        return device_of(self.model)
