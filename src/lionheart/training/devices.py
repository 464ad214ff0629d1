"""Where training runs, in what arithmetic, and batches that are ready before a GPU asks for them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import final

import torch

from lionheart.data import Batch, BatchSource, pin_batch
from lionheart.errors import ConfigError, suggest
from lionheart.training.spec import TrainSpec

_NAMES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; ``auto`` is the first CUDA GPU if PyTorch sees one, else the CPU.

    Raises:
        ConfigError: There is no such name, or no GPU.
    """
    if name not in _NAMES:
        raise ConfigError(
            f"device: got {name!r}, expected auto, cpu or cuda", hint=suggest(name, _NAMES, label="devices")
        )
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError(
            "device: got 'cuda', and PyTorch sees no CUDA GPU",
            hint="take --device cpu, or a PyTorch that is built for CUDA and a driver for it",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 at least about as fast as float32.

    Of CPUs it is those on which PyTorch uses AVX-512: on others its products of bfloat16 take many times as long
    (docs/adr/0005). Of CUDA GPUs it is those of compute capability 8.0 or above, the first with bfloat16 units.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"


def choose_arithmetic(spec: TrainSpec, device: torch.device) -> str:
    """Return what `spec.precision` comes to on `device`: ``float32`` or ``bfloat16``."""
    if spec.precision == "auto":
        return "bfloat16" if has_fast_bfloat16(device) else "float32"
    return spec.precision


def training_autocast(spec: TrainSpec, device: torch.device) -> torch.autocast:
    """Return the context in which forward passes and losses are computed in training."""
    return torch.autocast(device.type, torch.bfloat16, enabled=choose_arithmetic(spec, device) == "bfloat16")


@final
class PinnedBatches:
    """Batches of another source, made by a thread of their own in page-locked memory, from which a GPU copies by itself.

    They are the same ones in the same order.

    Args:
        source: Where they come from; only the thread draws from an epoch's generator.
        n_ahead: Batches that may wait.
    """

    def __init__(self, source: BatchSource, *, n_ahead: int = 4) -> None:
        self.source, self.n_ahead = source, n_ahead

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch; what fails in the thread is raised here."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(self.n_ahead)
        is_left = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not is_left.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    return
                except queue.Full:
                    continue

        def prepare() -> None:
            try:
                for batch in self.source.epoch(generator):
                    put(pin_batch(batch))
                    if is_left.is_set():
                        return
                put(None)
            except BaseException as error:  # raised where the batches are used
                put(error)

        thread = threading.Thread(target=prepare, daemon=True, name="batches")
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            is_left.set()
            thread.join()
