"""Batches from tensors or from any PyTorch loader, in an order that a seed decides, and models that are called with them.

A batch is ``(inputs, targets)``; inputs are a tensor, a tuple of arguments, or a dict of keyword arguments. Every source of
batches is made of the classes here.
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
#: Makes a batch of some samples, given their numbers ``(batch,)`` int64 and the generator of the epoch.
Collate = Callable[[Tensor, torch.Generator], Batch]


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
        """Return `n_samples` samples as a source of their own, None = all, without the first `after`."""


class IndexedBatches:
    """Samples that are told apart by their number, from 0.

    Args:
        n_samples: Number of samples.
        collate: Makes a batch.
        batch_size: Samples in a batch; the last batch of an epoch may be smaller when not shuffling.
        shuffle: Draw a fresh order each epoch and drop the incomplete last batch.
        lengths: ``(n_samples,)``, of the samples. Without shuffling the longest come first: a batch needs little padding.
        pool: With `lengths` and shuffling: samples of similar length are put together among those of so many batches, which
            then come in an order that is drawn too. None = they are not.

    Raises:
        ConfigError: There is no sample, or `batch_size` is less than 1.
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
        """Samples in a batch; no more than there are."""
        return max(1, min(self._batch_size, self.n_samples))

    def __len__(self) -> int:
        return self.n_samples // self.batch_size if self.shuffle else math.ceil(self.n_samples / self.batch_size)

    def take(self, n_samples: int | None, *, after: int = 0) -> Self:
        """Return `n_samples` samples in the data's order as a source of their own, None = all, without the first `after`."""
        other = copy.copy(self)
        other._numbers = self._numbers[after : None if n_samples is None else after + n_samples]
        return other

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        for numbers in self._draw(generator):
            yield self._collate(numbers, generator)

    def _draw(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the numbers of each batch's samples."""
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
    """Images and labels held in memory; a batch is normalised float32 in channels-last memory order.

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


@final
class BatchSlice:
    """The batches of a source from one number to another.

    Args:
        source: Where they come from.
        first: Number of the first batch, from 0.
        last: One past the number of the last batch.
    """

    def __init__(self, source: BatchSource, first: int, last: int) -> None:
        self.source, self.first, self.last = source, first, max(first, last)

    def __len__(self) -> int:
        return self.last - self.first

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield these batches."""
        return itertools.islice(self.source.epoch(generator), self.first, self.last)


@final
class MappedBatches:
    """The batches of a source, each changed by a function.

    Args:
        source: Where they come from.
        change: Maps inputs and targets to a batch.
    """

    def __init__(self, source: BatchSource, change: Callable[[Any, Any], Batch]) -> None:
        self.source, self.change = source, change

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the changed batches."""
        return itertools.starmap(self.change, self.source.epoch(generator))


def as_batches(source: Any) -> BatchSource:
    """Return `source` itself if it yields epochs, else wrap it as a loader.

    Raises:
        ConfigError: It is neither a source nor something that can be iterated again and again.
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
    """Return the first samples of a source, whole batches where it cannot be cut; None = the source itself.

    Raises:
        ConfigError: Less than one sample is asked for.
    """
    return batches if n_samples is None else cut_samples(batches, n_samples)[0]


def cut_samples(batches: BatchSource, n_samples: int) -> tuple[BatchSource, BatchSource]:
    """Return the first samples of a source and the rest, in whole batches where it cannot be cut.

    Raises:
        ConfigError: Less than one sample is asked for.
    """
    if n_samples < 1:
        raise ConfigError(f"samples: got {n_samples}, expected a number > 0", hint="leave it out to take all samples")
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
    """Return how many samples one epoch of a source has, by reading it."""
    return sum(len(targets) for _, targets in batches.epoch(torch.Generator().manual_seed(0)))


def move_batch(value: Any, device: torch.device) -> Any:
    """Copy tensors in nested tuples, lists and dicts to `device`."""
    return _map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


def first_sample(inputs: Any) -> Any:
    """Cut nested inputs to a batch of one."""
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
    """Put a model into ``eval()`` for a while; afterwards every module has its own mode again."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
