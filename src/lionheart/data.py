"""Batches from tensors or from any PyTorch loader, in an order that a seed decides.

A batch is ``(inputs, targets)``; inputs are a tensor, a tuple of arguments, or a dict of keyword arguments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from lionheart.errors import ConfigError

Batch = tuple[Any, Any]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@runtime_checkable
class BatchSource(Protocol):
    """Something that yields the batches of one epoch; the generator decides order and augmentation."""

    def __len__(self) -> int:
        """Return the number of batches in one epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""


@runtime_checkable
class DivisibleSource(BatchSource, Protocol):
    """A source whose samples can be told apart: its first ones stand for all of it."""

    def take(self, n_samples: int | None, *, after: int = 0) -> DivisibleSource:
        """Return `n_samples` samples as a source of their own, None = all, left out the first `after`."""


@final
class TensorBatches:
    """Images and labels held in memory.

    Args:
        images: ``(n, channels, height, width)``, uint8.
        labels: ``(n,)``, int64.
        batch_size: Images in a batch; the last batch of an epoch may be smaller when not shuffling.
        mean: Per channel, in units of ``image / 255``.
        std: Per channel, likewise.
        shuffle: Draw a fresh order each epoch and drop the incomplete last batch.
        augment: Maps uint8 images and a generator to uint8 images.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        shuffle: bool = False,
        augment: Augment | None = None,
    ) -> None:
        if len(images) != len(labels) or len(images) == 0:
            raise ConfigError(
                f"TensorBatches: got {len(images)} images and {len(labels)} labels, expected equal numbers > 0"
            )
        if batch_size < 1:
            raise ConfigError(f"TensorBatches.batch_size: got {batch_size}, expected a number > 0")
        self.images, self.labels = images, labels
        self.batch_size = min(batch_size, len(images))
        self.shuffle, self.augment = shuffle, augment
        self._shift = torch.tensor(mean).view(1, -1, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255)

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return len(self.images)

    def __len__(self) -> int:
        return self.n_samples // self.batch_size if self.shuffle else math.ceil(self.n_samples / self.batch_size)

    def take(self, n_samples: int | None, *, after: int = 0) -> TensorBatches:
        """Return `n_samples` images as a source of their own, None = all, left out the first `after`."""
        other = object.__new__(TensorBatches)
        other.__dict__.update(self.__dict__)
        last = None if n_samples is None else after + n_samples
        other.images, other.labels = self.images[after:last], self.labels[after:last]
        other.batch_size = max(1, min(self.batch_size, len(other.images)))
        return other

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield normalised float32 batches in channels-last memory order."""
        order = torch.randperm(self.n_samples, generator=generator) if self.shuffle else torch.arange(self.n_samples)
        for index in range(len(self)):
            chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
            images = self.images[chosen]
            if self.augment is not None:
                images = self.augment(images, generator)
            inputs = images.float().sub_(self._shift).mul_(self._scale)
            yield inputs.contiguous(memory_format=torch.channels_last), self.labels[chosen]


@final
class LoaderBatches:
    """A user's `DataLoader` or any iterable of ``(inputs, targets)`` that can be iterated again and again.

    The order of a `DataLoader` that shuffles without a generator of its own follows the seed; what its workers draw does not.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the loader's batches; the loader's order is drawn from `generator`."""
        seed = int(torch.randint(2**62, (), generator=generator))
        own = getattr(self.loader, "generator", None)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
            if own is not None:
                own.manual_seed(seed)
            batches = iter(self.loader)
            first = next(batches, None)
        if first is not None:
            for batch in itertools.chain([first], batches):
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    raise ConfigError(
                        f"data loader: got a batch of type {type(batch).__name__}, expected a pair (inputs, targets)",
                        hint="inputs may be a tensor, a tuple of arguments or a dict of keyword arguments",
                    )
                yield batch[0], batch[1]


def as_batches(source: Any) -> BatchSource:
    """Return `source` itself if it yields epochs, else wrap it as a loader."""
    if isinstance(source, BatchSource):
        return source
    if hasattr(source, "__iter__") and hasattr(source, "__len__"):
        return LoaderBatches(source)
    raise ConfigError(
        f"data: got {type(source).__name__}, expected a torch DataLoader, a list of batches or a BatchSource",
        hint="each batch is a pair (inputs, targets)",
    )


def move_batch(value: Any, device: torch.device) -> Any:
    """Copy tensors in nested tuples, lists and dicts to `device`."""
    return _map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


def pin_batch(value: Any) -> Any:
    """Copy tensors in nested tuples, lists and dicts to page-locked memory, from which copies to a GPU wait for nobody."""
    return _map_tensors(value, Tensor.pin_memory)


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_map_tensors(item, change) for item in value)
    return value


def call_model(model: Callable[..., Any], inputs: Any) -> Any:
    """Call `model` with a tensor, a tuple of arguments or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)
