"""A group-sequential test that a drop is within its bound: when to look at the results, and what each look decides.

A test may look at the results several times, and each look could accept a wrong mapping by chance. The error probability of the
test is therefore divided among its looks (Bonferroni's inequality), which holds whatever the correlation of the looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lionheart.errors import ConfigError
from lionheart.metrics import is_within
from lionheart.runs import Drop

_INTERIM = 0.1  # share of the error probability that the look before the last one gets
_FEWEST_CHIPS = 6  # of the first look: with fewer, Student's t makes the bound wider than more samples can make up for
_MORE_CHIPS = 2  # factor from the chips of the first look to those of the last


@final
@dataclass(frozen=True)
class Look:
    """One look at the results of a sequential test.

    Args:
        n_chips: Number of chips that are evaluated by then.
        share: Share of the samples on which they are evaluated by then, 0 to 1.
        error: Probability with which this look may accept a mapping whose drop is beyond the bound; 0 = it can only reject.
    """

    n_chips: int
    share: float
    error: float


def plan_looks(error: float, n_chips: int) -> tuple[Look, ...]:
    """Return the looks of a test: first chips on half of the samples, these chips on all samples, twice the chips.

    Nearly all of the error probability is left to the last look (as in the designs of Haybittle and Peto), so that the look
    before hardly widens the last bound: at 0.05, its normal quantile is 1.70 instead of 1.64. Half of the samples need not be a
    random half, because sources may order their samples by length or class. The first look can therefore only reject.

    Args:
        error: Error probability of the whole test, 0 to 0.5.
        n_chips: Chips of the first look; at least 6 are used.

    Raises:
        ConfigError: `error` is not between 0 and 0.5.

    Source:
        Peto et al., British Journal of Cancer 34 (1976) 585.
    """
    if not 0 < error < 0.5:
        raise ConfigError(
            f"sequential test: got the error probability {error}, expected a number between 0 and 0.5",
            hint="give one minus the probability with which the bound must hold",
        )
    first = max(n_chips, _FEWEST_CHIPS)
    return (
        Look(first, 0.5, 0.0),
        Look(first, 1.0, _INTERIM * error),
        Look(_MORE_CHIPS * first, 1.0, (1 - _INTERIM) * error),
    )


def judge(drop: Drop, max_drop: float, look: Look, *, is_last: bool = False) -> bool | None:
    """Return what a look decides: True = the mapping is accepted, False = it is rejected, None = the test goes on.

    A look rejects early if the estimated drop exceeds the bound: then a later look would hardly accept. An early rejection does
    not change the error probability, because a rejected mapping is never used.

    Args:
        drop: Drop with its upper confidence bound at the error probability of the look.
        max_drop: Bound on the drop, in the unit of the drop.
        look: The look.
        is_last: Whether no look follows.
    """
    if look.error > 0 and is_within(drop.drop_ucb_pp, max_drop):
        return True
    return False if is_last or not is_within(drop.drop_pp, max_drop) else None
