"""Accuracy over fresh chips and over time, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

from scipy import stats
from torch import Tensor, nn

from lionheart.analog import analog_layers
from lionheart.data import BatchSource
from lionheart.errors import ConfigError
from lionheart.evaluation.accuracy import Metric, score_samples
from lionheart.evaluation.ensemble import ChipEnsemble, EnsembleScores
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams


@final
@dataclass(frozen=True)
class AccuracyEstimate:
    """The mean accuracy over chips at one time.

    Args:
        t_inference: Time since programming ended [s].
        mean: Mean over chips, 0 to 1.
        low: Lower end of the confidence interval of the mean.
        high: Upper end.
        std: Sample standard deviation from chip to chip.
        n_chips: Number of separately programmed chips.
        scores: Accuracy of each chip.
        samples: Mean score over chips of each sample; None where it was not kept.
    """

    t_inference: float
    mean: float
    low: float
    high: float
    std: float
    n_chips: int
    scores: tuple[float, ...]
    samples: Tensor | None = None

    @property
    def n_samples(self) -> int | None:
        """Number of samples, where they were kept."""
        return None if self.samples is None else len(self.samples)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, without the samples."""
        data = asdict(replace(self, samples=None))
        del data["samples"]
        return {**data, "scores": list(self.scores)}


def estimate_mean(scores: Sequence[float], *, t_inference: float, confidence: float = 0.95) -> AccuracyEstimate:
    """Return mean and Student-t interval over chips; one chip has no interval and reports its own score thrice.

    The interval is about chip-to-chip variation on the given samples, not about other samples.
    """
    n = len(scores)
    if n == 0:
        raise ConfigError("estimate: got no scores, expected at least one chip", hint="use n_chips >= 1")
    mean = statistics.fmean(scores)
    std = statistics.stdev(scores) if n > 1 else 0.0
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n) if n > 1 else 0.0
    return AccuracyEstimate(t_inference, mean, mean - half, mean + half, std, n, tuple(scores))


def evaluate_over_chips(
    model: nn.Module,
    batches: BatchSource,
    metric: Metric,
    *,
    times: Iterable[float],
    n_chips: int,
    streams: RandomStreams,
    confidence: float = 0.95,
    progress: Progress = SILENT,
    label: str = "evaluating",
    run_calibration: Callable[[nn.Module], Any] | None = None,
    is_enough: Callable[[list[AccuracyEstimate]], bool] | None = None,
) -> list[AccuracyEstimate]:
    """Program `n_chips` fresh chips, age each to all `times`, and return the mean accuracy at each time.

    Chip ``i`` of a stream is always the same chip: it draws its own programming noise, drift exponents, read noise and output
    noise. A model without analog layers is evaluated once; its interval has no width.

    Args:
        model: With analog layers; its exact weights are used for every chip and left as they are.
        batches: The samples.
        metric: Score of each sample.
        times: Seconds after programming.
        n_chips: Number of chips, >= 1.
        streams: Source of the chips.
        confidence: Of the interval, 0 to 1.
        progress: Where to show the bar.
        label: Text of the bar.
        run_calibration: Runs a model on the inputs of the column calibration; needed where a tile asks for one.
        is_enough: Asked with the estimates so far after some shares of the samples; the rest is left out if it says so.

    Returns:
        One estimate for each time, in the order given.
    """
    moments = list(times)
    if n_chips < 1 or not moments:
        raise ConfigError(
            f"evaluation: got {n_chips} chips and {len(moments)} times",
            hint="give at least one chip and one time after programming",
        )
    if not analog_layers(model):
        samples = score_samples(model, batches, metric)
        score = float(samples.sum()) / max(len(samples), 1)
        return [AccuracyEstimate(t, score, score, score, 0.0, n_chips, (score,) * n_chips, samples) for t in moments]
    ensemble = ChipEnsemble(model, n_chips=n_chips, times=moments, streams=streams, run_calibration=run_calibration)

    def estimate(scores: EnsembleScores) -> list[AccuracyEstimate]:
        return [
            replace(estimate_mean(chips.tolist(), t_inference=t, confidence=confidence), samples=samples)
            for chips, samples, t in zip(scores.chips, scores.samples, moments, strict=True)
        ]

    stop = None if is_enough is None else lambda scores: is_enough(estimate(scores))
    with progress.bar(label, n_chips * len(moments) * len(batches)) as bar:
        return estimate(ensemble.evaluate(batches, metric, on_pass=bar.advance, is_enough=stop))
