"""Evaluation of a model on many simulated chips and at many times after programming, always on the same batches."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from lionheart.data import BatchSource, call_model, device_of, eval_mode, move_batch
from lionheart.errors import ConfigError, NumericsError
from lionheart.evaluation.checks import (
    ScoreFunction,
    as_set_metric,
    compute_scores,
    has_invalid_outputs,
    require_finite,
    require_samples,
)
from lionheart.evaluation.prefix import PrefixCache, computing_once, find_prefix
from lionheart.metrics import Metric
from lionheart.rng import RandomStreams

MEMORY_BYTES = 1 << 30  # default limit of the memory of programmed weights [bytes]
_LOOKS = (0.1, 0.2, 0.3, 0.45, 0.65)  # shares of the batches after which `is_enough` is called


@final
@dataclass(frozen=True)
class EnsembleScores:
    """Mean scores of an ensemble of chips at several times after programming.

    Args:
        chips: Mean score of each chip over samples, shape ``(times, chips)``, float64.
        samples: Mean score of each sample over chips, shape ``(times, samples)``, float64, in the order of the batches; None
            for a metric of scope ``set``, whose samples have no score.
        n_samples: Number of samples.
    """

    chips: Tensor
    samples: Tensor | None
    n_samples: int


@final
@dataclass(frozen=True)
class _Instance:
    """Weights and noise of one simulated chip at one time after programming.

    Args:
        time: Index of the time in the list of times.
        chip: Index of the chip in its chunk, which is a group of chips whose weights are in memory together.
        reads: Programmed weights of each analog layer, read at this time.
        noise: Source of the output noise.
    """

    time: int
    chip: int
    reads: list[ChipRead]
    noise: NoiseSource


@final
class ChipEnsemble:
    """Simulated chips to which one model is programmed, and which are evaluated together at several times.

    Chips are evaluated in chunks. In each chunk, every batch is loaded once, and the modules before the first analog layer run
    once for each batch. A chunk has at least one chip, and as many chips as the memory limit allows. The random numbers of chip
    ``i`` depend only on `streams` and ``i``, not on the chunks.

    Args:
        model: Model with analog layers, whose exact weights are programmed to every chip; the weights do not change. If
            `compile_model_` has compiled the model, evaluation is nearly twice as fast on a CPU.
        n_chips: Number of chips.
        times: Times since programming ended [s].
        streams: Source of the random numbers of all chips.
        memory_bytes: Limit of the memory for the weights of the chips in a chunk at all times [bytes].
        run_calibration: Function that runs a model on the inputs of the column calibration; required if a tile has a column
            calibration.
        by_layer: Whether each layer has random streams of its own. The devices of a layer of chip ``i`` are then the same in
            all mappings, so that two mappings are compared on common chips. Otherwise the layers draw in turn from one stream.

    Raises:
        ConfigError: A tile has a column calibration and `run_calibration` is missing.

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
        by_layer: bool = False,
    ) -> None:
        self.by_layer = by_layer
        self.model, self.n_chips, self.times, self.streams = model, n_chips, list(times), streams
        self.memory_bytes = memory_bytes
        self._device = device_of(model)
        layers = analog_layers(model)
        self._layers = list(layers.values())
        size = next((layer.noise.pool_size for layer in self._layers), 0)
        generator = streams.generator("pool", device=self._device)
        self._pool = torch.empty(size, device=self._device).normal_(generator=generator) if size else None
        self._pool_size = size
        self._columns = self._reference_columns(run_calibration)

    @property
    def chips_per_chunk(self) -> int:
        """Number of chips in a chunk, whose weights are in memory at the same time."""
        weights = sum(layer.weight.numel() * layer.weight.element_size() for layer in self._layers)
        return max(1, min(self.n_chips, self.memory_bytes // max(1, weights * len(self.times))))

    @torch.no_grad()
    def evaluate(
        self,
        batches: BatchSource,
        metric: ScoreFunction,
        *,
        on_pass: Callable[[], None] = lambda: None,
        is_enough: Callable[[EnsembleScores], bool] | None = None,
    ) -> EnsembleScores:
        """Return the mean score of each chip and the mean score of each sample, for each time.

        For a metric of scope ``set``, the score of a chip is that of the whole set, and all batches are evaluated.

        Args:
            batches: Source of the samples.
            metric: Function that maps outputs and targets to one score for each sample.
            on_pass: Function called after each evaluation of one chip at one time on one batch, for example to advance a
                progress bar.
            is_enough: Function called with the scores so far after about 10, 20, 30, 45, 65 and 100 % of the batches. If it
                returns True, the remaining batches are omitted. If the chips do not fit in one chunk, every chip is programmed
                again, with the same random numbers, after each call. None = all batches are evaluated.
        """
        begins = range(0, self.n_chips, self.chips_per_chunk)
        chunks = [range(begin, min(begin + self.chips_per_chunk, self.n_chips)) for begin in begins]
        whole = as_set_metric(metric)
        if whole is not None:
            return self._evaluate_whole(batches, whole, chunks, on_pass)
        sums = torch.zeros(len(self.times), self.n_chips, dtype=torch.float64)
        samples: list[Tensor] = []
        scores = EnsembleScores(sums, torch.zeros(len(self.times), 0, dtype=torch.float64), 0)
        with self._restoring_layers(), eval_mode(self.model), self._reusing_prefix(batches) as cache:
            instances: list[_Instance] = []
            for section in _split_batches(batches, _LOOKS if is_enough else ()):
                total: Tensor | None = None
                for chips in chunks:
                    if len(chunks) > 1 or not instances:
                        instances = []  # frees the memory of the last chunk
                        instances = self._program_chunk(chips)
                    of_chips, of_samples = self._evaluate_chunk(instances, section(), metric, on_pass, cache)
                    sums[:, chips.start : chips.stop] += of_chips
                    total = of_samples if total is None else total + of_samples
                if total is not None:
                    samples.append(total / self.n_chips)
                per_sample = torch.cat(samples, dim=1)
                scores = EnsembleScores(sums / max(per_sample.shape[1], 1), per_sample, per_sample.shape[1])
                if is_enough is not None and is_enough(scores):
                    break
        require_samples(scores.n_samples)
        return scores

    def _evaluate_whole(
        self, batches: BatchSource, metric: Metric, chunks: Sequence[range], on_pass: Callable[[], None]
    ) -> EnsembleScores:
        """Return the score of each chip for each time, computed from the statistics of all samples.

        The statistics of all samples are in memory for all chips of a chunk.
        """
        scores = torch.zeros(len(self.times), self.n_chips, dtype=torch.float64)
        n_samples = 0
        with self._restoring_layers(), eval_mode(self.model), self._reusing_prefix(batches) as cache:
            for chips in chunks:
                parts: dict[tuple[int, int], list[Tensor]] = {}
                instances: list[_Instance] = []  # frees the memory of the last chunk
                instances = self._program_chunk(chips)
                for batch in batches.epoch(torch.Generator().manual_seed(0)):
                    for each, statistics in self._score_batch(instances, batch, metric, on_pass, cache):
                        parts.setdefault((each.time, each.chip), []).append(statistics.cpu())
                cache.clear()
                for (time, chip), of_batches in parts.items():
                    statistics = torch.cat(of_batches)
                    n_samples = len(statistics)
                    scores[time, chips.start + chip] = metric.score_set(statistics)
        require_samples(n_samples)
        return EnsembleScores(scores, None, n_samples)

    @contextmanager
    def _restoring_layers(self) -> Iterator[None]:
        """Discard the chip and restore the noise of all layers at the end of the context."""
        kept = [layer.noise for layer in self._layers]
        try:
            yield
        finally:
            clear_chip_(self.model)
            for layer, noise in zip(self._layers, kept, strict=True):
                layer.noise = noise

    def program(self, chip: int) -> Iterator[list[ChipRead]]:
        """Program the chip with index `chip`, and yield one list for each time after programming.

        A list holds the programmed weights of each analog layer, read at this time.
        """
        generator = self._chip_generator(chip)
        program_chip_(self.model, generator)
        for index, t_inference in enumerate(self.times):
            drift_chip_(self.model, t_inference, generator)
            if self._columns is not None:
                use_noise_(self.model, self._noise(chip, index, "calibration"))
                self._columns.calibrate_()
            yield [layer.take_read() for layer in self._layers]

    def _program_chunk(self, chips: range) -> list[_Instance]:
        return [
            _Instance(index, chip - chips.start, reads, self._noise(chip, index))
            for chip in chips
            for index, reads in enumerate(self.program(chip))
        ]

    def _evaluate_chunk(
        self,
        instances: Sequence[_Instance],
        batches: Iterable[Any],
        metric: ScoreFunction,
        on_pass: Callable[[], None],
        cache: PrefixCache,
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the chips in one chunk, and return the scores summed over samples and the scores summed over chips.

        The shapes are ``(times, chips)`` and ``(times, samples)``, in this order.
        """
        n_chips = 1 + max(each.chip for each in instances)
        totals = torch.zeros(len(self.times), n_chips, dtype=torch.float64, device=self._device)
        samples = []
        for batch in batches:
            sums: Tensor | None = None
            for each, scores in self._score_batch(instances, batch, metric, on_pass, cache):
                if sums is None:
                    sums = torch.zeros(len(self.times), len(scores), dtype=torch.float64, device=self._device)
                sums[each.time] += scores
                totals[each.time, each.chip] += scores.sum()
            if sums is not None:
                samples.append(sums)
        cache.clear()
        per_sample = torch.cat(samples, dim=1) if samples else totals.new_zeros(len(self.times), 0)
        return totals.cpu(), per_sample.cpu()

    def _score_batch(
        self,
        instances: Sequence[_Instance],
        batch: Any,
        metric: ScoreFunction,
        on_pass: Callable[[], None],
        cache: PrefixCache,
    ) -> Iterator[tuple[_Instance, Tensor]]:
        """Yield each chip at each time with its scores of a batch, ``(batch,)`` or ``(batch, statistics)`` float64."""
        inputs, targets = batch
        require_finite(inputs)
        x, y = move_batch(inputs, self._device), move_batch(targets, self._device)
        cache.clear()
        n_invalid = torch.zeros((), dtype=torch.long, device=self._device)
        for each in instances:
            use_noise_(self.model, each.noise)
            for layer, read in zip(self._layers, each.reads, strict=True):
                layer.use_read_(read)
            outputs = call_model(self.model, x)
            scores = compute_scores(metric, outputs, y)
            is_invalid = has_invalid_outputs(outputs)
            if is_invalid is not None:
                n_invalid += is_invalid
            on_pass()
            yield each, scores
        if int(n_invalid):
            raise NumericsError(
                f"evaluation: the outputs on {int(n_invalid)} simulated chips contain NaN or infinity, expected finite "
                "numbers",
                hint="check the weights and the tile settings of the analog layers",
            )

    def _reference_columns(self, run_calibration: Callable[[nn.Module], Any] | None) -> ColumnCalibration | None:
        """Return an object that corrects the outputs of programmed chips to the mean and variance with exact weights.

        The outputs with exact weights are measured by `run_calibration`. Return None if no tile has a column calibration.
        """
        wanting = [fqn for fqn, e in analog_layers(self.model).items() if e.tile.column_calibration != "none"]
        if not wanting:
            return None
        if run_calibration is None:
            raise ConfigError(
                f"layer {wanting[0]!r}: the tile has a column calibration, but no calibration data are given",
                hint="give run_calibration (the argument calibration of lionheart.evaluate), or set column_calibration='none'",
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
        """Cache the outputs of the modules that finish before the first analog layer starts, and yield the cache.

        Within the context, these modules run only once for each batch. The caller must clear the cache before the next batch.
        """
        before, self.model._compiled_call_impl = self.model._compiled_call_impl, None
        try:
            first = next(iter(batches.epoch(torch.Generator().manual_seed(0))), None)
            x = None if first is None else move_batch(first[0], self._device)
            prefix = [] if x is None else find_prefix(self.model, lambda: call_model(self.model, x))
        finally:
            self.model._compiled_call_impl = before
        with computing_once(prefix) as cache:
            yield cache

    def _chip_generator(self, chip: int) -> torch.Generator | dict[str, torch.Generator]:
        """Return the source of the devices' random numbers of a chip, or one source for each layer."""
        if not self.by_layer:
            return self.streams.generator("chip", chip, device=self._device)
        names = analog_layers(self.model)
        return {fqn: self.streams.generator("chip", chip, "layer", fqn, device=self._device) for fqn in names}

    def _noise(self, chip: int, index: int, purpose: str = "output") -> NoiseSource:
        generator = self.streams.generator("chip", chip, purpose, index, device=self._device)
        return NoiseSource(generator, self._pool_size, pool=self._pool)


def _split_batches(batches: BatchSource, looks: Sequence[float]) -> Iterator[Callable[[], Iterable[Any]]]:
    """Split the batches into sections of consecutive batches, and yield one function for each section.

    Each call of a function returns all batches of its section.

    Args:
        batches: Source of the batches.
        looks: Fractions of the batches after which a section ends, between 0 and 1; the last section ends with the last batch.
    """

    def everything() -> Iterable[Any]:
        return batches.epoch(torch.Generator().manual_seed(0))

    ends = sorted({end for look in looks if 0 < (end := round(look * len(batches))) < len(batches)})
    if not ends:
        yield everything
        return
    source, begin = iter(everything()), 0
    for end in (*ends, len(batches)):
        yield functools.partial(iter, list(itertools.islice(source, end - begin)))
        begin = end
