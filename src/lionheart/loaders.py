"""Sources of batches that read a `DataLoader` or another iterable of batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor

from lionheart.errors import ConfigError, LionHeartError

Batch = tuple[Any, Any]

_MOST_COUNTED = 100_000  # batches after which counting the batches of a loader without a length is given up
_END = object()
#: Keys of the targets in a batch that is a dict, in the order of preference. Transformers uses these names.
_TARGET_KEYS = (("labels",), ("start_positions", "end_positions"), ("label",), ("label_ids",))


@final
class LoaderBatches:
    """A source that yields the batches of a `DataLoader`, or of another iterable that can be iterated several times.

    A batch of the loader is a pair ``(inputs, targets)``, or a dict with the targets under the key ``labels``, ``label``
    or ``label_ids``, or under the keys ``start_positions`` and ``end_positions``. The other entries of a dict are the inputs.

    The generator passed to `epoch` determines the order of the samples if a `DataLoader` shuffles, and everything that the
    loader draws from the random generator of PyTorch, also in worker processes.

    Args:
        loader: Data loader or another iterable. If its length is unknown, as for an ``IterableDataset``, `len` counts the
            batches of one epoch.
        name: Name of the loader, with which error messages begin.
    """

    def __init__(self, loader: Iterable[Any], name: str = "data loader") -> None:
        self.loader, self.name = loader, name
        self._counted, self._has_ended = 0, False  # batches of one epoch, as far as they have been counted

    def __len__(self) -> int:
        return self.count(None)

    def count(self, at_most: int | None) -> int:
        """Return the number of batches in one epoch, or `at_most` if there are more. A loader without a length is read.

        Raises:
            ConfigError: The loader has no length and does not end within 100,000 batches.
        """
        try:
            n_batches = len(self.loader)  # type: ignore[arg-type]
        except TypeError:
            n_batches = self._read_length(_MOST_COUNTED if at_most is None else at_most)
            if at_most is None and not self._has_ended:
                raise ConfigError(
                    f"{self.name}: got more than {_MOST_COUNTED:,} batches from a loader without a length, expected an end",
                    hint="let the data set end, for example with itertools.islice, or give a loader with a length",
                ) from None
        return n_batches if at_most is None else min(n_batches, at_most)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches ``(inputs, targets)`` of one epoch. `generator` determines what the loader draws at random.

        Raises:
            ConfigError: The loader fails, or a batch is neither a pair ``(inputs, targets)`` nor a dict with targets.
        """
        seed = int(torch.randint(2**62, (), generator=generator))
        own = getattr(self.loader, "generator", None)
        state: Tensor | None = None
        batches: Iterator[Any] | None = None
        for index in itertools.count():
            with torch.random.fork_rng(devices=[]):
                if state is None:
                    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
                    if own is not None:
                        own.manual_seed(seed)
                else:
                    torch.set_rng_state(state)
                try:
                    batches = iter(self.loader) if batches is None else batches
                    batch = next(batches, _END)
                except (LionHeartError, MemoryError):
                    raise
                except Exception as error:
                    raise ConfigError(
                        f"{self.name}: reading batch {index + 1} failed: {shorten_error(error)}",
                        hint="correct the data set or its collate_fn; they must return tensors: images through a transform, "
                        "texts through a tokenizer",
                    ) from error
                state = torch.get_rng_state()
            if batch is _END:
                return
            yield _as_pair(batch, self.name)

    def _read_length(self, at_most: int) -> int:
        if not self._has_ended and self._counted < at_most:
            source = self.epoch(torch.Generator().manual_seed(0))
            self._counted = sum(1 for _ in itertools.islice(source, at_most))
            self._has_ended = self._counted < at_most or next(source, _END) is _END
        return self._counted


def _as_pair(batch: Any, where: str) -> Batch:
    """Return a batch of a loader as a pair ``(inputs, targets)``.

    Raises:
        ConfigError: The batch is neither a pair nor a dict with targets.
    """
    if isinstance(batch, Mapping):
        inputs = dict(batch)
        found = next((names for names in _TARGET_KEYS if all(name in inputs for name in names)), None)
        if found is not None:
            targets = {name: inputs.pop(name) for name in found}
            return inputs, targets if len(found) > 1 else targets[found[0]]
        keys = ", ".join(map(str, list(inputs)[:8]))[:80]
        raise ConfigError(
            f"{where}: got a dict with the keys {keys}, expected a key 'labels' with the targets",
            hint="name the targets 'labels', or let the loader return pairs (inputs, targets)",
        )
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        return batch[0], batch[1]
    size = f" with {len(batch)} elements" if isinstance(batch, (tuple, list)) else ""
    raise ConfigError(
        f"{where}: got a batch of type {type(batch).__name__}{size}, expected a pair (inputs, targets)",
        hint="let the loader return (inputs, targets); inputs may be a tensor, a tuple of arguments or a dict "
        "of keyword arguments; a single batch is a list of one pair: [(inputs, targets)]",
    )


def shorten_error(error: BaseException) -> str:
    """Return the type and the message of an exception in one line of at most 200 characters.

    Of an exception in a worker process of a `DataLoader`, whose message is a traceback, only the last line is returned.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    if any("Original Traceback" in line for line in lines):
        return lines[-1].strip()[:200]
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200].removesuffix(": ")
