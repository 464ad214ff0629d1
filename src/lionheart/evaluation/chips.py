"""Accuracy over fresh chips and over time, with intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scipy import stats
from torch import Tensor, nn

from lionheart.analog import analog_layers
from lionheart.data import BatchSource
from lionheart.errors import ConfigError, NumericsError
from lionheart.evaluation.accuracy import ScoreFunction, score_samples
from lionheart.evaluation.ensemble import ChipEnsemble, EnsembleScores
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy


def estimate_mean(
    scores: Sequence[float], *, t_inference: float, confidence: float = 0.95, samples: Tensor | None = None
) -> Accuracy:
    """Return mean and Student-t interval over chips; one chip has no interval and reports its own score thrice.

    The interval is about chip-to-chip variation on the given samples, not about other samples.

    Args:
        scores: Mean score of each chip.
        t_inference: Time since programming ended [s].
        confidence: Of the interval, 0 to 1.
        samples: Mean score over chips of each sample, kept with the estimate.

    Raises:
        ConfigError: There is no chip.
        NumericsError: A score is not finite.
    """
    n = len(scores)
    if n == 0:
        raise ConfigError("estimate: got no scores, expected at least one chip", hint="use n_chips >= 1")
    wrong = next((score for score in scores if not math.isfinite(score)), None)
    if wrong is not None:
        raise NumericsError(
            f"evaluation: the mean score of a chip is {wrong}, expected a finite number",
            hint="check weights and inputs for nan and inf, and what the metric returns",
        )
    mean = statistics.fmean(scores)
    std = statistics.stdev(scores) if n > 1 else 0.0
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n) if n > 1 else 0.0
    return Accuracy(
        t_inference=t_inference,
        mean=mean,
        low=mean - half,
        high=mean + half,
        std=std,
        n_chips=n,
        scores=tuple(scores),
        n_samples=None if samples is None else len(samples),
        samples=samples,
    )


def evaluate_over_chips(
    model: nn.Module,
    batches: BatchSource,
    metric: ScoreFunction,
    *,
    times: Iterable[float],
    n_chips: int,
    streams: RandomStreams,
    confidence: float = 0.95,
    progress: Progress = SILENT,
    label: str = "evaluating",
    run_calibration: Callable[[nn.Module], Any] | None = None,
    is_enough: Callable[[list[Accuracy]], bool] | None = None,
) -> list[Accuracy]:
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
        same = estimate_mean([score], t_inference=0.0, samples=samples)
        return [same.replace(t_inference=t, n_chips=n_chips, scores=(score,) * n_chips) for t in moments]
    ensemble = ChipEnsemble(model, n_chips=n_chips, times=moments, streams=streams, run_calibration=run_calibration)

    def estimate(scores: EnsembleScores) -> list[Accuracy]:
        return [
            estimate_mean(chips.tolist(), t_inference=t, confidence=confidence, samples=samples)
            for chips, samples, t in zip(scores.chips, scores.samples, moments, strict=True)
        ]

    stop = None if is_enough is None else lambda scores: is_enough(estimate(scores))
    with progress.bar(label, n_chips * len(moments) * len(batches)) as bar:
        return estimate(ensemble.evaluate(batches, metric, on_pass=bar.advance, is_enough=stop))
