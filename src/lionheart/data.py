"""Sources of batches with an order that depends on a seed, and functions that call models with batches.

A batch is ``(inputs, targets)``; inputs are a tensor, a tuple of arguments, or a dict of keyword arguments. All sources of
batches in LionHeart use the classes of this module.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self, final, runtime_checkable

import torch
from torch import Tensor, nn

from lionheart.errors import ConfigError

Batch = tuple[Any, Any]
Augment = Callable[[Tensor, torch.Generator], Tensor]
#: Function that returns a batch, given the indices of its samples ``(batch,)`` int64 and the generator of the epoch.
Collate = Callable[[Tensor, torch.Generator], Batch]


@runtime_checkable
class BatchSource(Protocol):
    """A source of batches; the generator passed to `epoch` determines order and augmentation."""

    def __len__(self) -> int:
        """Return the number of batches in one epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""


@runtime_checkable
class DivisibleSource(BatchSource, Protocol):
    """A source of batches that can be split by samples."""

    def take(self, n_samples: int | None, *, after: int = 0) -> DivisibleSource:
        """Return a source with `n_samples` samples (None = all) that follow the first `after` samples."""


class IndexedBatches:
    """Batches of samples that are identified by an index from 0.

    Args:
        n_samples: Number of samples.
        collate: Function that makes a batch from sample indices.
        batch_size: Samples per batch; without shuffling the last batch of an epoch may be smaller.
        shuffle: Whether each epoch has a newly drawn order and drops an incomplete last batch.
        lengths: Length of each sample, ``(n_samples,)``. Without shuffling, samples are in descending order of length, so that
            batches need little padding.
        pool: Number of batches within which shuffled samples are sorted by `lengths` before they are split into batches; the
            order of these batches is drawn too. None = samples are not sorted.

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
            raise ConfigError(f"{type(self).__name__}: got {n_samples} samples, expected a number > 0")
        if batch_size < 1:
            raise ConfigError(f"{type(self).__name__}.batch_size: got {batch_size}, expected a number > 0")
        self.shuffle = shuffle
        self._collate, self._batch_size, self._lengths, self._pool = collate, batch_size, lengths, pool
        self._numbers = torch.arange(n_samples)

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self._numbers)

    @property
    def batch_size(self) -> int:
        """Samples per batch, at most the number of samples."""
        return max(1, min(self._batch_size, self.n_samples))

    def __len__(self) -> int:
        return self.n_samples // self.batch_size if self.shuffle else math.ceil(self.n_samples / self.batch_size)

    def take(self, n_samples: int | None, *, after: int = 0) -> Self:
        """Return a source with `n_samples` samples (None = all) that follow the first `after` samples in the data's order."""
        other = copy.copy(self)
        other._numbers = self._numbers[after : None if n_samples is None else after + n_samples]
        return other

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for numbers in self._draw(generator):
            yield self._collate(numbers, generator)

    def _draw(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the sample indices of each batch."""
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
    """Batches of images and labels in memory; the images of a batch are normalised float32 in channels-last memory order.

    Args:
        images: Images ``(n, channels, height, width)``, uint8.
        labels: Labels ``(n,)``, int64.
        batch_size: Images per batch; without shuffling the last batch of an epoch may be smaller.
        mean: Mean of each channel, in units of ``image / 255``.
        std: Standard deviation of each channel, in units of ``image / 255``.
        shuffle: Whether each epoch has a newly drawn order and drops an incomplete last batch.
        augment: Function that maps uint8 images and a generator to augmented uint8 images; None = no augmentation.

    Raises:
        ConfigError: The numbers of images and labels differ, or there are none.
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
                f"TensorBatches: got {len(images)} images and {len(labels)} labels, expected equal numbers"
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
class LoaderBatches:
    """Batches of a `DataLoader`, or of any iterable of ``(inputs, targets)`` that can be iterated repeatedly.

    The order of a shuffling `DataLoader` is determined by the generator of the epoch. Random numbers that its worker processes
    draw are not.

    Args:
        loader: Data loader or other iterable with a length.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of the loader; `generator` determines their order.

        Raises:
            ConfigError: A batch is not a pair ``(inputs, targets)``.
        """
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


@final
class BatchSlice:
    """A range of the batches of a source.

    Args:
        source: Source of the batches.
        first: Index of the first batch, from 0.
        last: Index after the last batch.
    """

    def __init__(self, source: BatchSource, first: int, last: int) -> None:
        self.source, self.first, self.last = source, first, max(first, last)

    def __len__(self) -> int:
        return self.last - self.first

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of the range in one epoch."""
        return itertools.islice(self.source.epoch(generator), self.first, self.last)


@final
class MappedBatches:
    """The batches of a source, each mapped by a function.

    Args:
        source: Source of the batches.
        change: Function that maps inputs and targets to a batch.
    """

    def __init__(self, source: BatchSource, change: Callable[[Any, Any], Batch]) -> None:
        self.source, self.change = source, change

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the mapped batches of one epoch."""
        return itertools.starmap(self.change, self.source.epoch(generator))


def as_batches(source: Any) -> BatchSource:
    """Return `source` itself if it is a `BatchSource`, else wrap it in `LoaderBatches`.

    Raises:
        ConfigError: `source` is neither a `BatchSource` nor an iterable with a length.
    """
    if isinstance(source, BatchSource):
        return source
    if hasattr(source, "__iter__") and hasattr(source, "__len__"):
        return LoaderBatches(source)
    raise ConfigError(
        f"data: got {type(source).__name__}, expected a torch DataLoader, a list of batches or a BatchSource",
        hint="each batch is a pair (inputs, targets)",
    )


def take_samples(batches: BatchSource, n_samples: int | None) -> BatchSource:
    """Return the first `n_samples` samples of a source; None = the source itself.

    If the source cannot be split by samples, the result has whole batches with at least `n_samples` samples.

    Raises:
        ConfigError: `n_samples` is less than 1.
    """
    return batches if n_samples is None else cut_samples(batches, n_samples)[0]


def cut_samples(batches: BatchSource, n_samples: int) -> tuple[BatchSource, BatchSource]:
    """Return the first `n_samples` samples of a source, and the remaining samples.

    If the source cannot be split by samples, both results have whole batches.

    Raises:
        ConfigError: `n_samples` is less than 1.
    """
    if n_samples < 1:
        raise ConfigError(f"samples: got {n_samples}, expected a number > 0", hint="omit the number to use all samples")
    if isinstance(batches, DivisibleSource):
        return batches.take(n_samples), batches.take(None, after=n_samples)
    n_batches, seen = 0, 0
    for _, targets in batches.epoch(torch.Generator().manual_seed(0)):
        n_batches += 1
        seen += len(targets)
        if seen >= n_samples:
            break
    return BatchSlice(batches, 0, n_batches), BatchSlice(batches, n_batches, len(batches))


def count_samples(batches: BatchSource) -> int:
    """Return the number of samples in one epoch of a source; reads the whole epoch."""
    return sum(len(targets) for _, targets in batches.epoch(torch.Generator().manual_seed(0)))


def move_batch(value: Any, device: torch.device) -> Any:
    """Copy all tensors in nested tuples, lists and dicts to a torch device."""
    return _map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


def first_sample(inputs: Any) -> Any:
    """Return nested inputs with only the first sample of each tensor, as a batch of size 1."""
    return _map_tensors(inputs, lambda tensor: tensor[:1])


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


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to ``eval()`` within the context and restore the mode of every module on exit."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
