"""Sources of batches, with samples in an order that a random generator determines, and functions that run models on batches.

A batch is a pair ``(inputs, targets)``. The inputs are a tensor, a tuple of arguments, or a dict of keyword arguments. A loader
may also yield a dict of inputs that contains the targets, as the loaders of Hugging Face do (see `LoaderBatches`).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, Self, final, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lionheart.errors import ConfigError
from lionheart.loaders import Batch as Batch
from lionheart.loaders import LoaderBatches as LoaderBatches

_OWN_PASS: ContextVar[bool] = ContextVar("own_pass", default=False)

Augment = Callable[[Tensor, torch.Generator], Tensor]
#: Function that returns a batch, given the indices of its samples ``(batch,)`` int64 and the generator of the epoch.
Collate = Callable[[Tensor, torch.Generator], Batch]


@runtime_checkable
class BatchSource(Protocol):
    """A source of batches. The generator passed to `epoch` determines the order of the samples and their augmentation."""

    def __len__(self) -> int:
        """Return the number of batches in one epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches ``(inputs, targets)`` of one epoch. All random numbers are drawn from `generator`."""


@runtime_checkable
class DivisibleSource(BatchSource, Protocol):
    """A source of batches whose method `take` can split the source at any sample, not only between batches."""

    def take(self, n_samples: int | None, *, after: int = 0) -> DivisibleSource:
        """Return a source of the `n_samples` samples (None = all) that follow the first `after` samples."""


class IndexedBatches:
    """A source of batches that a function builds from sample indices. The indices are 0 to ``n_samples - 1``.

    Args:
        n_samples: Number of samples.
        collate: Function that returns a batch, given sample indices of shape ``(batch,)`` and the generator of the epoch.
        batch_size: Samples per batch. Without shuffling, the last batch of an epoch may be smaller.
        shuffle: Whether the samples of each epoch are in random order. If True, an incomplete last batch is dropped.
        lengths: Length of each sample, such as its number of tokens, shape ``(n_samples,)``. Without shuffling, samples are in
            descending order of length, so that batches need little padding.
        pool: Number of batches in a pool. Shuffled samples are sorted by `lengths` within each pool and then split into
            batches, whose order in the pool is random. None = shuffled samples are not sorted.

    Raises:
        ConfigError: `n_samples` or `batch_size` is less than 1.
    """

    def __init__(
        self,
        n_samples: int,
        collate: Collate,
        *,
        batch_size: int,
        shuffle: bool = False,
        lengths: Tensor | None = None,
        pool: int | None = None,
    ) -> None:
        if n_samples < 1:
            raise ConfigError(
                f"{type(self).__name__}: got {n_samples} samples, expected at least 1",
                hint="give data with at least one sample",
            )
        if batch_size < 1:
            raise ConfigError(
                f"{type(self).__name__}.batch_size: got {batch_size}, expected a number > 0",
                hint="give the number of samples per batch, such as 100",
            )
        self.shuffle = shuffle
        self._collate, self._batch_size, self._lengths, self._pool = collate, batch_size, lengths, pool
        self._numbers = torch.arange(n_samples)

    @property
    def n_samples(self) -> int:
        """Number of samples in the source."""
        return len(self._numbers)

    @property
    def batch_size(self) -> int:
        """Number of samples per batch, at most the number of samples in the source."""
        return max(1, min(self._batch_size, self.n_samples))

    def __len__(self) -> int:
        return self.n_samples // self.batch_size if self.shuffle else math.ceil(self.n_samples / self.batch_size)

    def take(self, n_samples: int | None, *, after: int = 0) -> Self:
        """Return a source of the `n_samples` samples (None = all) that follow the first `after` samples.

        Samples are counted in the order of their indices.
        """
        other = copy.copy(self)
        other._numbers = self._numbers[after : None if n_samples is None else after + n_samples]
        return other

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches ``(inputs, targets)`` of one epoch. `generator` determines sample order and augmentation."""
        for numbers in self._draw(generator):
            yield self._collate(numbers, generator)

    def _draw(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the sample indices of each batch of one epoch, shape ``(batch,)``."""
        numbers, size = self._numbers, self.batch_size
        if self.n_samples == 0:
            return
        lengths = None if self._lengths is None else self._lengths[numbers]
        if not self.shuffle:
            order = numbers if lengths is None else numbers[lengths.argsort(descending=True, stable=True)]
            yield from torch.split(order, size)
            return
        drawn = torch.randperm(self.n_samples, generator=generator)[: len(self) * size]
        if lengths is None or self._pool is None:
            yield from torch.split(numbers[drawn], size)
            return
        for pool in torch.split(drawn, size * self._pool):
            batches = torch.split(pool[lengths[pool].argsort(stable=True)], size)
            for index in torch.randperm(len(batches), generator=generator).tolist():
                yield numbers[batches[index]]


@final
class TensorBatches(IndexedBatches):
    """A source of batches of images and labels that are held in memory.

    The images of a batch are normalised, of type float32, and in channels-last memory order.

    Args:
        images: Images as uint8, shape ``(n, channels, height, width)``.
        labels: Class indices as int64, shape ``(n,)``.
        batch_size: Images per batch. Without shuffling, the last batch of an epoch may be smaller.
        mean: Mean of each channel over the training images after division by 255, subtracted for normalisation.
        std: Standard deviation of each channel over the training images after division by 255, the divisor in normalisation.
        shuffle: Whether the images of each epoch are in random order. If True, an incomplete last batch is dropped.
        augment: Function that returns augmented uint8 images, given uint8 images and the generator of the epoch; None = no
            augmentation.

    Raises:
        ConfigError: There are no images, the numbers of images and labels differ, or `batch_size` is less than 1.
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
        if len(images) != len(labels):
            raise ConfigError(
                f"TensorBatches: got {len(images)} images and {len(labels)} labels, expected one label for each image",
                hint="give images and labels of the same length, in the same order",
            )
        shift = torch.tensor(mean).view(1, -1, 1, 1) * 255
        scale = 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255)

        def collate(numbers: Tensor, generator: torch.Generator) -> Batch:
            chosen = images[numbers]
            if augment is not None:
                chosen = augment(chosen, generator)
            inputs = chosen.float().sub_(shift).mul_(scale)
            return inputs.contiguous(memory_format=torch.channels_last), labels[numbers]

        super().__init__(len(images), collate, batch_size=batch_size, shuffle=shuffle)


@final
class BatchSlice:
    """A source that yields the batches `first` (inclusive) to `last` (exclusive) of each epoch of another source.

    Args:
        source: Source of all batches.
        first: Index of the first batch, counted from 0.
        last: Index of the first batch after the range.
    """

    def __init__(self, source: BatchSource, first: int, last: int) -> None:
        self.source, self.first, self.last = source, first, max(first, last)

    def __len__(self) -> int:
        return self.last - self.first

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Return an iterator over the batches `first` to `last` (exclusive) of an epoch of `source`, drawn with `generator`."""
        return itertools.islice(self.source.epoch(generator), self.first, self.last)


@final
class MappedBatches:
    """A source that applies a function to each batch of another source.

    Args:
        source: Source of the original batches.
        change: Function that returns the new batch ``(inputs, targets)``, given the inputs and targets of the original batch.
    """

    def __init__(self, source: BatchSource, change: Callable[[Any, Any], Batch]) -> None:
        self.source, self.change = source, change

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Return an iterator over the changed batches of an epoch of `source`, drawn with `generator`."""
        return itertools.starmap(self.change, self.source.epoch(generator))


def as_batches(source: Any, where: str = "data") -> BatchSource:
    """Return `source` itself if it is a `BatchSource`, else wrap it in `LoaderBatches`.

    Args:
        source: Source of batches.
        where: Name of the argument, with which error messages begin.

    Raises:
        ConfigError: `source` is neither a `BatchSource` nor an iterable, is a data set, or can be iterated only once.
    """
    if isinstance(source, BatchSource):
        return source
    kind = type(source).__name__
    if isinstance(source, Dataset):
        raise ConfigError(
            f"{where}: got the data set {kind}, expected batches",
            hint="wrap the data set in a loader: DataLoader(data, batch_size=100)",
        )
    if isinstance(source, Iterator):
        raise ConfigError(
            f"{where}: got {kind}, which can be read only once, expected a source that can be read several times",
            hint="give a list of the batches, a DataLoader, or an object whose __iter__ starts from the first batch",
        )
    if hasattr(source, "__iter__") and not isinstance(source, (Tensor, Mapping, str, bytes)):
        return LoaderBatches(source, where)
    raise ConfigError(
        f"{where}: got {kind}, expected a torch DataLoader, a list of batches or a BatchSource",
        hint="give an object that yields batches, each a pair (inputs, targets), as often as it is iterated",
    )


def count_batches(batches: BatchSource, at_most: int | None) -> int:
    """Return the number of batches in one epoch of a source, or `at_most` if there are more (None = all are counted).

    Of a loader without a length, only `at_most` batches are read.
    """
    if at_most is not None and isinstance(batches, MappedBatches):
        return count_batches(batches.source, at_most)
    if isinstance(batches, LoaderBatches):
        return batches.count(at_most)
    return len(batches) if at_most is None else min(len(batches), at_most)


def read_first(batches: BatchSource, generator: torch.Generator | None = None, where: str = "data") -> Batch:
    """Return the first batch of an epoch drawn with `generator` (None = a generator with seed 0).

    Raises:
        ConfigError: The epoch has no batch; the message begins with `where`.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    batch: Batch | None = next(iter(batches.epoch(generator)), None)
    if batch is None:
        raise ConfigError(
            f"{where}: got no batches, expected at least one",
            hint="give at least one sample; if drop_last=True, use a batch_size of at most the number of samples",
        )
    return batch


def batch_length(targets: Any) -> int | None:
    """Return the number of samples whose targets are given, or None if it is unknown.

    Targets are a tensor, a dict or tuple of tensors with one row for each sample, or an object with the number of samples as
    its length.
    """
    if isinstance(targets, Tensor):
        return len(targets) if targets.ndim else None
    if isinstance(targets, Mapping):
        return batch_length(next(iter(targets.values()), None))
    if isinstance(targets, (tuple, list)) and targets and isinstance(targets[0], (Tensor, tuple, list, Mapping)):
        return batch_length(targets[0])
    return len(targets) if hasattr(targets, "__len__") else None


def take_samples(batches: BatchSource, n_samples: int | None) -> BatchSource:
    """Return a source that yields the first `n_samples` samples of `batches`, or `batches` itself if `n_samples` is None.

    If `batches` is not a `DivisibleSource`, the result has the smallest number of whole batches that contain at least
    `n_samples` samples.

    Raises:
        ConfigError: `n_samples` is less than 1.
    """
    return batches if n_samples is None else cut_samples(batches, n_samples)[0]


def cut_samples(batches: BatchSource, n_samples: int) -> tuple[BatchSource, BatchSource]:
    """Split a source into a source of the first `n_samples` samples and a source of the remaining samples.

    If the source is not a `DivisibleSource`, it is split after the batch that contains the last of these `n_samples` samples.

    Raises:
        ConfigError: `n_samples` is less than 1.
    """
    if n_samples < 1:
        raise ConfigError(
            f"number of samples: got {n_samples}, expected a number > 0", hint="omit the number to use all samples"
        )
    if isinstance(batches, DivisibleSource):
        return batches.take(n_samples), batches.take(None, after=n_samples)
    n_batches, seen = 0, 0
    for _, targets in batches.epoch(torch.Generator().manual_seed(0)):
        n_batches += 1
        seen += batch_length(targets) or 1
        if seen >= n_samples:
            break
    return BatchSlice(batches, 0, n_batches), BatchSlice(batches, n_batches, len(batches))


def count_samples(batches: BatchSource) -> int:
    """Return the number of samples in one epoch of a source. The function reads all batches of the epoch."""
    return sum(batch_length(targets) or 1 for _, targets in batches.epoch(torch.Generator().manual_seed(0)))


def device_of(model: nn.Module) -> torch.device:
    """Return the PyTorch device of the first parameter of a model, or the CPU for a model without parameters."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def move_batch(value: Any, device: torch.device) -> Any:
    """Return `value`, a tensor or nested tuples, lists and dicts of tensors, with all tensors moved to `device`."""
    return _map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


def first_sample(inputs: Any) -> Any:
    """Return `inputs`, a tensor or nested tuples, lists and dicts of tensors, with all tensors cut to batch size 1."""
    return _map_tensors(inputs, lambda tensor: tensor[:1])


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [_map_tensors(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def call_model(model: Callable[..., Any], inputs: Any) -> Any:
    """Return the outputs of `model` for inputs that are a tensor, a tuple of arguments, or a dict of keyword arguments.

    During the call, `is_own_pass` returns True.
    """
    token = _OWN_PASS.set(True)
    try:
        if isinstance(inputs, Mapping):
            return model(**inputs)
        if isinstance(inputs, (tuple, list)):
            return model(*inputs)
        return model(inputs)
    finally:
        _OWN_PASS.reset(token)


def is_own_pass() -> bool:
    """Return whether LionHeart itself runs a model at the moment, through `call_model`, and not the code of a user."""
    return _OWN_PASS.get()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to ``eval()`` mode within the context, and restore the previous mode of every module on exit."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
