"""What LionHeart needs to know about a user's problem."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.data import BatchSource, as_batches, first_sample, move_batch
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.metrics import ACCURACY as ACCURACY
from lionheart.metrics import F1 as F1
from lionheart.metrics import PERPLEXITY as PERPLEXITY
from lionheart.metrics import Measure as Measure


def accuracy_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return 1 for each sample whose largest output is its target, else 0; shape ``(batch,)``."""
    return (outputs.argmax(dim=-1) == targets).float()


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits against class numbers, in float32."""
    return F.cross_entropy(outputs.float(), targets)


@final
@dataclass(frozen=True)
class Task:
    """A model with its data and its measure of quality.

    Args:
        model: Trained in floating point; mapped in place on a copy, never changed itself.
        train: Batches for retraining: a `DataLoader`, a list of ``(inputs, targets)`` pairs, or a `BatchSource`.
        validation: Batches that decide; must not share samples with `train`.
        test: Batches that report, touched once at the end; must not share samples with the other two.
        metric: Maps ``(outputs, targets)`` to one score for each sample; their mean is what the bound is about.
        loss: Maps ``(outputs, targets)`` to a scalar.
        name: Shown in reports.
        measure: What the scores mean.

    Raises:
        ConfigError: A part is missing or of the wrong type.
    """

    model: nn.Module
    train: Any
    validation: Any
    test: Any
    metric: Callable[[Any, Any], Tensor] = accuracy_scores
    loss: Callable[[Any, Any], Tensor] = cross_entropy
    name: str = "custom"
    measure: Measure = ACCURACY

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise ConfigError(
                f"Task.model: got {type(self.model).__name__}, expected a torch.nn.Module",
                hint="pass the network itself",
            )
        for split in ("train", "validation", "test"):
            object.__setattr__(self, split, as_batches(getattr(self, split)))

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
        """Describe every operation of the model on one sample; of a model on a GPU a copy runs on the CPU.

        On a GPU some layers are one kernel, such as cuDNN's LSTM, which hides the products in them.

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
        """Where the model's parameters are; the CPU if it has none."""
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
