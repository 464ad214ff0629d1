"""How much a mapping loses against the digital network: the estimate, and the limit that holds with a stated confidence."""

from __future__ import annotations

import math

from scipy import stats
from torch import Tensor

from lionheart.errors import ConfigError
from lionheart.metrics import drop_pp
from lionheart.runs import Drop


def estimate_drop(
    chips: Tensor,
    samples: Tensor,
    reference: Tensor,
    *,
    confidence: float | None = None,
    chip_yield: float | None = None,
) -> Drop:
    """Estimate a drop over chips and samples that were not seen from those that were.

    Chips and samples are two crossed random factors: every chip sees every sample. The variance of the mean drop is taken as
    the sum of what the means of chips and the means of samples show. That counts their interaction twice and so errs to the
    safe side. The limit is Student's with the degrees of freedom of Welch and Satterthwaite. For a share of chips it is the
    tolerance limit of a normal distribution over chips, plus the samples' part, each with half of the doubt.

    Args:
        chips: Mean score of each chip, ``(chips,)``, 0 to 1.
        samples: Mean score of each sample over chips, ``(samples,)``.
        reference: Score of each sample in the digital network, ``(samples,)``.
        confidence: Of the limit, 0 to 1; None = the estimate is the limit.
        chip_yield: Share of chips, 0 to 1; None = the mean.

    Raises:
        ConfigError: There are too few chips or samples for a confidence, or scores of other samples.

    Source:
        Owen, Annals of Applied Statistics 1 (2007) 386, on the variance of crossed samples; Natrella, Experimental Statistics
        (NBS Handbook 91, 1963), section 2-5, on tolerance limits.
    """
    if samples.shape != reference.shape:
        raise ConfigError(
            f"drop: got scores of {tuple(samples.shape)} samples and a reference of {tuple(reference.shape)}",
            hint="measure both on the same samples",
        )
    n_chips, n_samples = len(chips), len(samples)
    if (confidence is not None or chip_yield is not None) and (n_chips < 2 or n_samples < 2):
        raise ConfigError(
            f"drop: got {n_chips} chips and {n_samples} samples, expected at least 2 of each for a confidence or a yield",
            hint="raise search.n_chips",
        )
    differences = drop_pp(reference.double(), samples.double())
    mean = float(differences.mean())
    spread = 100 * float(chips.double().std()) if n_chips > 1 else 0.0
    by_chips = spread / math.sqrt(n_chips)
    by_samples = float(differences.std()) / math.sqrt(n_samples) if n_samples > 1 else 0.0
    drop = mean if chip_yield is None else mean + float(stats.norm.ppf(chip_yield)) * spread
    limit = drop
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
        sample_error_pp=by_samples,
        confidence=confidence,
        chip_yield=chip_yield,
    )


def _combine(*errors: tuple[float, int]) -> tuple[float, float]:
    """Return the standard error of a sum and its degrees of freedom, from errors and degrees of its parts."""
    variance = sum(error**2 for error, _ in errors)
    if variance == 0:
        return 0.0, 1.0
    return math.sqrt(variance), variance**2 / sum(error**4 / freedom for error, freedom in errors if error > 0)
