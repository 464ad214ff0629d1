"""Mean accuracy over newly programmed chips at several times after programming, with confidence intervals."""

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
from lionheart.evaluation.accuracy import score_samples, score_whole
from lionheart.evaluation.checks import ScoreFunction, as_set_metric
from lionheart.evaluation.ensemble import ChipEnsemble, EnsembleScores
from lionheart.metrics import Metric
from lionheart.progress import SILENT, Progress
from lionheart.rng import RandomStreams
from lionheart.runs import Accuracy


def estimate_mean(
    scores: Sequence[float],
    *,
    t_inference: float,
    confidence: float = 0.95,
    samples: Tensor | None = None,
    metric: ScoreFunction | None = None,
    n_samples: int | None = None,
) -> Accuracy:
    """Return the mean score over chips with its Student-t confidence interval.

    The interval covers the variation between chips on the given samples, but not the variation between samples. For one chip,
    the interval has width 0. The interval is limited to the scores that are possible: with few chips, the Student-t interval of
    a share can exceed 0 to 1.

    Args:
        scores: Mean score of each chip over the samples.
        t_inference: Time since programming ended [s].
        confidence: Confidence level of the interval, between 0 and 1.
        samples: Score of each sample, averaged over chips, shape ``(samples,)``; stored in the result.
        metric: Metric of the scores, whose limits the interval respects; None or a function without limits = no limits.
        n_samples: Number of samples; None = the length of `samples`, or not recorded.

    Raises:
        ConfigError: `scores` is empty.
        NumericsError: A score is not finite.
    """
    n = len(scores)
    if n == 0:
        raise ConfigError(
            "estimate: got no scores, expected the score of at least one chip", hint="evaluate one or more chips"
        )
    wrong = next((score for score in scores if not math.isfinite(score)), None)
    if wrong is not None:
        raise NumericsError(
            f"evaluation: the mean score of a chip is {wrong}, expected a finite number",
            hint="check the weights, the inputs and the scores that the metric returns for NaN and infinity",
        )
    mean = statistics.fmean(scores)
    std = statistics.stdev(scores) if n > 1 else 0.0
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n) if n > 1 else 0.0
    low, high = mean - half, mean + half
    if isinstance(metric, Metric):
        low, high = metric.clip_interval(low, high)
    return Accuracy(
        t_inference=t_inference,
        mean=mean,
        low=low,
        high=high,
        std=std,
        n_chips=n,
        scores=tuple(scores),
        n_samples=n_samples if samples is None else len(samples),
        samples=samples,
    )


def merge_chips(
    first: Accuracy, second: Accuracy, *, confidence: float = 0.95, metric: ScoreFunction | None = None
) -> Accuracy:
    """Return the mean score over the chips of two evaluations on the same samples at the same time.

    Args:
        first: Accuracy with the scores of the samples.
        second: Accuracy on other chips, with the scores of the same samples.
        confidence: Confidence level of the interval, between 0 and 1.
        metric: Metric of the scores, whose limits the interval respects; None = no limits.

    Raises:
        ConfigError: The evaluations have different times or numbers of samples, or the scores of the samples are missing.
    """
    if (
        first.samples is None
        or second.samples is None
        or (first.t_inference, first.n_samples)
        != (
            second.t_inference,
            second.n_samples,
        )
    ):
        raise ConfigError(
            f"merge: got evaluations of {first.n_samples} samples at {first.t_inference:g} s and of {second.n_samples} at "
            f"{second.t_inference:g} s, expected the same time and the scores of the same samples",
            hint="evaluate both groups of chips on the same samples with a metric of scope 'sample'",
        )
    n_chips = first.n_chips + second.n_chips
    return estimate_mean(
        first.scores + second.scores,
        t_inference=first.t_inference,
        confidence=confidence,
        samples=(first.n_chips * first.samples + second.n_chips * second.samples) / n_chips,
        metric=metric,
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
    by_layer: bool = False,
) -> list[Accuracy]:
    """Simulate newly programmed chips, and return the mean accuracy over chips at each time after programming.

    The programming noise, drift exponents, read noise and output noise of chip ``i`` depend only on `streams` and ``i``.
    Therefore, chip ``i`` is the same in every evaluation with the same streams. A model without analog layers is evaluated
    once, and its interval has width 0.

    Args:
        model: Model whose exact weights are programmed to every chip; the weights do not change.
        batches: Source of the samples.
        metric: Function that maps outputs and targets to one score for each sample, or a `Metric` of scope ``set``, whose mean
            is the mean over chips of the score of the set.
        times: Times since programming ended [s].
        n_chips: Number of chips, >= 1.
        streams: Source of the random numbers of all chips.
        confidence: Confidence level of the intervals, between 0 and 1.
        progress: Object that displays a progress bar.
        label: Text next to the progress bar.
        run_calibration: Function that runs a model on the inputs of the column calibration; required if a tile has a column
            calibration.
        is_enough: Function called after about 10, 20, 30, 45, 65 and 100 % of the batches. Its argument is a list with one
            accuracy for each time, computed from these batches. If the function returns True, the remaining batches
            are omitted.
        by_layer: Whether the devices of a layer are the same in all mappings, as `ChipEnsemble` describes.

    Returns:
        One accuracy for each time, in the order of `times`.

    Raises:
        ConfigError: `n_chips` is less than 1, `times` is empty, or a required `run_calibration` is missing.
        NumericsError: A score is not finite.
    """
    moments = list(times)
    if n_chips < 1 or not moments:
        raise ConfigError(
            f"evaluation: got {n_chips} chips and {len(moments)} times, expected at least one of each",
            hint="give n_chips >= 1 and one or more times after programming",
        )
    if not analog_layers(model):
        samples = score_samples(model, batches, metric)
        score = score_whole(metric, samples)
        kept = samples if as_set_metric(metric) is None else None
        same = estimate_mean([score], t_inference=0.0, samples=kept, n_samples=len(samples))
        return [same.replace(t_inference=t, n_chips=n_chips, scores=(score,) * n_chips) for t in moments]
    ensemble = ChipEnsemble(
        model, n_chips=n_chips, times=moments, streams=streams, run_calibration=run_calibration, by_layer=by_layer
    )

    def estimate(scores: EnsembleScores) -> list[Accuracy]:
        return [
            estimate_mean(
                chips.tolist(),
                t_inference=t,
                confidence=confidence,
                samples=None if scores.samples is None else scores.samples[index],
                metric=metric,
                n_samples=scores.n_samples,
            )
            for index, (chips, t) in enumerate(zip(scores.chips, moments, strict=True))
        ]

    stop = None if is_enough is None else lambda scores: is_enough(estimate(scores))
    with progress.bar(label, n_chips * len(moments) * len(batches)) as bar:
        return estimate(ensemble.evaluate(batches, metric, on_pass=bar.advance, is_enough=stop))
