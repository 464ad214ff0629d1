"""Many chips at many times on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from lionheart.analog import (
    ChipRead,
    ColumnCalibration,
    NoiseSource,
    analog_layers,
    clear_chip_,
    drift_chip_,
    program_chip_,
    use_noise_,
)
from lionheart.errors import ConfigError
from lionheart.evaluation.accuracy import Metric
from lionheart.evaluation.prefix import PrefixCache, computing_once, find_prefix
from lionheart.rng import RandomStreams
from lionheart.training.batches import BatchSource, call_model, move_batch

MEMORY_BYTES = 1 << 30  # of programmed weights at once, unless told otherwise


@final
@dataclass(frozen=True)
class EnsembleScores:
    """Mean scores of an ensemble.

    Args:
        chips: Mean over samples, ``(times, chips)``, float64.
        samples: Mean over chips, ``(times, samples)``, float64, in the order of the batches.
    """

    chips: Tensor
    samples: Tensor


@final
class ChipEnsemble:
    """`n_chips` fresh chips of one analog model, drifted to all `times`, evaluated together.

    Every batch is loaded once for a chunk of chips; what the model computes before its first analog layer is computed once
    for each batch. A chunk holds as many chips as fit into `memory_bytes` with their weights at all times, at least one.
    Chip ``i`` of a stream is always the same chip, whatever the chunks.

    Args:
        model: With analog layers; its exact weights are used for every chip and left as they are. After `compile_model_`
            passes are nearly twice as fast on a CPU.
        n_chips: Number of chips.
        times: Seconds after programming.
        streams: Source of the chips.
        memory_bytes: Bound on the programmed weights that are held at once.
        run_calibration: Runs a model on the inputs of the column calibration; needed where a tile asks for one.

    Raises:
        ConfigError: A tile asks for a column calibration and there is nothing to calibrate with.

    Assumes:
        Modules without analog layers are deterministic in ``eval()`` mode.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        n_chips: int,
        times: Sequence[float],
        streams: RandomStreams,
        memory_bytes: int = MEMORY_BYTES,
        run_calibration: Callable[[nn.Module], Any] | None = None,
    ) -> None:
        self.model, self.n_chips, self.times, self.streams = model, n_chips, list(times), streams
        self.memory_bytes = memory_bytes
        self._device = next(model.parameters()).device
        layers = analog_layers(model)
        self._layers = list(layers.values())
        size = next((layer.noise.pool_size for layer in self._layers), 0)
        generator = streams.generator("pool", device=self._device)
        self._pool = torch.empty(size, device=self._device).normal_(generator=generator) if size else None
        self._pool_size = size
        self._columns = self._reference_columns(run_calibration)

    @property
    def chips_per_chunk(self) -> int:
        """How many chips are programmed at once."""
        weights = sum(layer.weight.numel() * layer.weight.element_size() for layer in self._layers)
        return max(1, min(self.n_chips, self.memory_bytes // max(1, weights * len(self.times))))

    @torch.no_grad()
    def evaluate(
        self, batches: BatchSource, metric: Metric, *, on_pass: Callable[[], None] = lambda: None
    ) -> EnsembleScores:
        """Return the mean score of each chip and of each sample.

        Args:
            batches: The samples.
            metric: Maps outputs and targets to one score for each sample.
            on_pass: Called after each pass of one chip over one batch, for a bar.
        """
        kept = [layer.noise for layer in self._layers]
        of_chips: list[Tensor] = []
        of_samples: Tensor | None = None
        try:
            with _evaluating(self.model), self._reusing_prefix(batches) as cache:
                for begin in range(0, self.n_chips, self.chips_per_chunk):
                    chips = range(begin, min(begin + self.chips_per_chunk, self.n_chips))
                    chip_means, sample_sums = self._evaluate_chunk(chips, batches, metric, on_pass, cache)
                    of_chips.append(chip_means)
                    of_samples = sample_sums if of_samples is None else of_samples + sample_sums
        finally:
            clear_chip_(self.model)
            for layer, noise in zip(self._layers, kept, strict=True):
                layer.noise = noise
        samples = torch.zeros(len(self.times), 0) if of_samples is None else of_samples / self.n_chips
        return EnsembleScores(torch.cat(of_chips, dim=1), samples)

    def program(self, chip: int) -> Iterator[list[ChipRead]]:
        """Program one chip and yield what its layers hold at each time."""
        generator = self.streams.generator("chip", chip, device=self._device)
        program_chip_(self.model, generator)
        for index, t_inference in enumerate(self.times):
            drift_chip_(self.model, t_inference, generator)
            if self._columns is not None:
                use_noise_(self.model, self._noise(chip, index, "calibration"))
                self._columns.calibrate_()
            yield [layer.take_read() for layer in self._layers]

    def _evaluate_chunk(
        self, chips: range, batches: BatchSource, metric: Metric, on_pass: Callable[[], None], cache: PrefixCache
    ) -> tuple[Tensor, Tensor]:
        """Return the mean of each chip ``(times, chips)`` and the sum of each sample over chips ``(times, samples)``."""
        cache.clear()
        instances = [
            (index, chip - chips.start, reads, self._noise(chip, index))
            for chip in chips
            for index, reads in enumerate(self.program(chip))
        ]
        totals = torch.zeros(len(self.times), len(chips), dtype=torch.float64, device=self._device)
        samples, count = [], 0
        for inputs, targets in batches.epoch(torch.Generator().manual_seed(0)):
            x, y = move_batch(inputs, self._device), move_batch(targets, self._device)
            cache.clear()
            sums: Tensor | None = None
            for index, chip, reads, noise in instances:
                use_noise_(self.model, noise)
                for layer, read in zip(self._layers, reads, strict=True):
                    layer.use_read_(read)
                scores = metric(call_model(self.model, x), y).double().flatten()
                if sums is None:
                    sums = torch.zeros(len(self.times), len(scores), dtype=torch.float64, device=self._device)
                sums[index] += scores
                totals[index, chip] += scores.sum()
                on_pass()
            if sums is not None:
                count += sums.shape[1]
                samples.append(sums)
        per_sample = torch.cat(samples, dim=1) if samples else totals.new_zeros(len(self.times), 0)
        return (totals / max(count, 1)).cpu(), per_sample.cpu()

    def _reference_columns(self, run_calibration: Callable[[nn.Module], Any] | None) -> ColumnCalibration | None:
        """Find what the columns give with exact weights, if a tile asks for a column calibration."""
        wanting = [fqn for fqn, e in analog_layers(self.model).items() if e.tile.column_calibration != "none"]
        if not wanting:
            return None
        if run_calibration is None:
            raise ConfigError(
                f"{wanting[0]}: its tile has a column calibration, and there are no inputs to calibrate with",
                hint="give run_calibration, or set column_calibration to none",
            )
        kept = [layer.noise for layer in self._layers]
        clear_chip_(self.model)
        use_noise_(self.model, NoiseSource(self.streams.generator("columns", device=self._device), self._pool_size))
        try:
            return ColumnCalibration(self.model, run_calibration)
        finally:
            for layer, noise in zip(self._layers, kept, strict=True):
                layer.noise = noise

    @contextmanager
    def _reusing_prefix(self, batches: BatchSource) -> Iterator[PrefixCache]:
        """Let what comes before the first analog layer run once for each batch."""
        before, self.model._compiled_call_impl = self.model._compiled_call_impl, None
        try:
            first = next(iter(batches.epoch(torch.Generator().manual_seed(0))), None)
            x = None if first is None else move_batch(first[0], self._device)
            prefix = [] if x is None else find_prefix(self.model, lambda: call_model(self.model, x))
        finally:
            self.model._compiled_call_impl = before
        with computing_once(prefix) as cache:
            yield cache

    def _noise(self, chip: int, index: int, purpose: str = "output") -> NoiseSource:
        generator = self.streams.generator("chip", chip, purpose, index, device=self._device)
        return NoiseSource(generator, self._pool_size, pool=self._pool)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
