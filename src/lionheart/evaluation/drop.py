"""Estimate of the accuracy drop of a mapped network against the digital network, with an upper confidence bound."""

from __future__ import annotations

import math

from scipy import stats
from torch import Tensor

from lionheart.errors import ConfigError
from lionheart.metrics import ACCURACY, Metric
from lionheart.runs import Drop

_FEWEST_OF_SHARE, _FEWEST = (
    30,
    100,
)  # samples whose mean is about normal: shares are bounded, other scores may be skewed


def estimate_drop(
    chips: Tensor,
    samples: Tensor,
    reference: Tensor,
    *,
    confidence: float | None = None,
    chip_yield: float | None = None,
    metric: Metric = ACCURACY,
    guarded: bool = False,
) -> Drop:
    """Estimate the accuracy drop of a mapped network against the digital network, with an upper confidence bound.

    The given chips and samples are treated as random selections from all chips and all samples. They are crossed factors: every
    chip is evaluated on every sample. The variance of the mean drop is estimated as the variance of the mean over chips plus
    the variance of the mean over samples. This sum counts the interaction of the two factors twice, so the bound is
    conservative.

    The bound on the mean drop uses Student's t distribution with the degrees of freedom of Welch and Satterthwaite. If
    `chip_yield` is given, the bound is the sum of two terms: a tolerance limit for chips, whose scores are assumed to be
    normally distributed, and a bound on the error from samples. Each term has half of the error probability.

    Args:
        chips: Mean score of each chip over samples, shape ``(chips,)``.
        samples: Mean score of each sample over chips, shape ``(samples,)``.
        reference: Score of each sample in the digital network, shape ``(samples,)``.
        confidence: Confidence level of the bound, between 0 and 1; None = the bound is equal to the estimated drop.
        chip_yield: Fraction of chips, between 0 and 1. The result is then the drop that this fraction of chips does not exceed.
            None = the result is the mean drop over chips.
        metric: Metric of the scores, which defines direction and unit of the drop.
        guarded: Whether the bound also covers rare losses that none of the samples shows. ``z**2 / 2`` samples with the largest
            loss are then added, where z is the normal quantile of `confidence`. The largest loss is 1 for a share, else the
            largest difference that was measured. Without any measured difference, the bound is then 1.1 to 1.7 times the
            exact binomial one at confidence levels of 0.95 to 0.999.

    Returns:
        Estimated drop, upper confidence bound, and the standard errors due to chips and due to samples, in the unit of the
        drop (pp for an accuracy).

    Raises:
        ConfigError: `confidence` or `chip_yield` is given for fewer than 2 chips or samples, or the shapes of `samples` and
            `reference` differ.

    Source:
        Owen, Annals of Applied Statistics 1 (2007) 386, on the variance of crossed samples; Natrella, Experimental Statistics
        (NBS Handbook 91, 1963), section 2-5, on tolerance limits; Agresti and Coull, The American Statistician 52 (1998)
        119, on added samples.
    """
    if samples.shape != reference.shape:
        raise ConfigError(
            f"drop: got scores of shape {tuple(samples.shape)} and reference scores of shape {tuple(reference.shape)}, "
            "expected equal shapes",
            hint="evaluate the mapped network and the digital network on the same samples",
        )
    n_chips, n_samples = len(chips), len(samples)
    if (confidence is not None or chip_yield is not None) and (n_chips < 2 or n_samples < 2):
        raise ConfigError(
            f"drop: got {n_chips} chips and {n_samples} samples, expected at least 2 of each for a confidence bound or a "
            "chip yield",
            hint="raise search.n_chips, or give more samples",
        )
    differences = metric.drop(reference.double(), samples.double())
    mean = float(differences.mean())
    spread = metric.drop_scale * float(chips.double().std()) if n_chips > 1 else 0.0
    by_chips = spread / math.sqrt(n_chips)
    by_samples = float(differences.std()) / math.sqrt(n_samples) if n_samples > 1 else 0.0
    drop = mean if chip_yield is None else mean + float(stats.norm.ppf(chip_yield)) * spread
    limit, by_measured_samples = drop, by_samples
    if guarded and confidence is not None:
        mean, by_samples = _guard(differences, confidence, metric)
    if confidence is not None and chip_yield is None:
        error, freedom = _combine((by_chips, n_chips - 1), (by_samples, n_samples - 1))
        limit = mean + float(stats.t.ppf(confidence, freedom)) * error
    elif confidence is not None and chip_yield is not None:
        each = (1 + confidence) / 2
        factor = float(stats.nct.ppf(each, n_chips - 1, stats.norm.ppf(chip_yield) * math.sqrt(n_chips)))
        limit = mean + factor * by_chips + float(stats.t.ppf(each, n_samples - 1)) * by_samples
    return Drop(
        drop_pp=drop,
        drop_ucb_pp=limit,
        chip_error_pp=by_chips,
        sample_error_pp=by_measured_samples,
        confidence=confidence,
        chip_yield=chip_yield,
    )


def estimate_set_drop(chips: Tensor, baseline: float, metric: Metric, *, chip_yield: float | None = None) -> Drop:
    """Estimate the drop of a metric that is computed over a whole set. There is no confidence bound.

    Args:
        chips: Score of each chip over the set, shape ``(chips,)``.
        baseline: Score of the digital network over the set.
        metric: Metric of scope ``set``.
        chip_yield: Fraction of chips, between 0 and 1, as for `estimate_drop`; None = the result is the mean drop over chips.

    Raises:
        ConfigError: `chip_yield` is given for fewer than 2 chips.
    """
    if chip_yield is not None and len(chips) < 2:
        raise ConfigError(
            f"drop: got {len(chips)} chips, expected at least 2 for a chip yield", hint="raise search.n_chips"
        )
    spread = metric.drop_scale * float(chips.double().std()) if len(chips) > 1 else 0.0
    drop = metric.drop(baseline, float(chips.double().mean()))
    drop += 0.0 if chip_yield is None else float(stats.norm.ppf(chip_yield)) * spread
    return Drop(
        drop_pp=drop,
        drop_ucb_pp=drop,
        chip_error_pp=spread / math.sqrt(len(chips)),
        sample_error_pp=None,
        confidence=None,
        chip_yield=chip_yield,
    )


def _guard(differences: Tensor, confidence: float, metric: Metric) -> tuple[float, float]:
    """Return the mean of the drops of all samples and its standard error, with a few samples of the largest loss added.

    Args:
        differences: Drop of each sample in the unit of the drop, shape ``(samples,)``.
        confidence: Confidence level of the bound, which determines the number of added samples.
        metric: Metric of the scores.
    """
    n_samples, mean = len(differences), float(differences.mean())
    n_added = float(stats.norm.ppf(confidence)) ** 2 / 2
    worst = metric.drop_scale if metric.kind == "share" else float(differences.abs().max())
    share = n_added / (n_samples + n_added)
    variance = (1 - share) * float(differences.var()) + share * (1 - share) * (worst - mean) ** 2
    return mean + share * (worst - mean), math.sqrt(variance / (n_samples + n_added))


def count_needed(max_drop: float, error: float, metric: Metric) -> int:
    """Return the smallest number of samples with which a guarded bound can be within `max_drop`.

    Args:
        max_drop: Bound on the drop, in the unit of the drop.
        error: Error probability, i.e. one minus the confidence level, 0 to 1.
        metric: Metric of scope ``sample``. Only a share has a largest loss, which this number follows from; for other metrics
            the number is 100, because the mean of fewer skewed scores is hardly normal.
    """
    if metric.kind != "share":
        return _FEWEST
    z = float(stats.norm.isf(error))
    n_added = z**2 / 2
    return max(_FEWEST_OF_SHARE, math.ceil(metric.drop_scale * (n_added + z * math.sqrt(n_added)) / max_drop))


def _combine(*errors: tuple[float, int]) -> tuple[float, float]:
    """Return the standard error and the degrees of freedom of a sum of independent terms (Welch-Satterthwaite equation).

    Args:
        *errors: Standard error and degrees of freedom of each term.
    """
    variance = sum(error**2 for error, _ in errors)
    if variance == 0:
        return 0.0, 1.0
    return math.sqrt(variance), variance**2 / sum(error**4 / freedom for error, freedom in errors if error > 0)
