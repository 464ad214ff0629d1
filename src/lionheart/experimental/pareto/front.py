"""Select the measured mappings that are on the Pareto front of accuracy against cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

from lionheart.experimental.pareto.records import MeasuredMapping
from lionheart.metrics import ACCURACY, Metric, is_within

T = TypeVar("T")


def non_dominated(measured: Sequence[MeasuredMapping], metric: Metric = ACCURACY) -> list[MeasuredMapping]:
    """Return the mappings on the Pareto front of the metric and the cost, in ascending order of cost.

    A mapping is on the front if no other mapping is at least as good in both accuracy and cost and better in one of them.
    Mappings with equal accuracy and equal cost are all kept.
    """
    front: list[MeasuredMapping] = []
    best = -math.inf  # rank of the best score at any smaller cost
    for _, group in itertools.groupby(sorted(measured, key=lambda each: each.cost), key=lambda each: each.cost):
        equal = sorted(group, key=lambda each: (-metric.rank(each.mean), each.number))
        if metric.rank(equal[0].mean) > best:
            best = metric.rank(equal[0].mean)
            front += [each for each in equal if metric.rank(each.mean) == best]
    return front


def best_within(
    front: Sequence[MeasuredMapping], baseline: float, max_drop: float, metric: Metric = ACCURACY
) -> MeasuredMapping | None:
    """Return the mapping with the lowest cost among the mappings whose drop of the metric is at most `max_drop`.

    Of several mappings with the lowest cost, the most accurate mapping is returned. Return None if no mapping is
    within the bound.

    Args:
        front: Mappings to choose from.
        baseline: Score of the digital network.
        max_drop: Largest allowed drop (inclusive), in the unit of the metric's drop (pp for an accuracy).
        metric: Metric of the scores.
    """
    within = [each for each in front if is_within(metric.drop(baseline, each.mean), max_drop)]
    return min(within, key=lambda each: (each.cost, -metric.rank(each.mean), each.number), default=None)


def nested_prefixes(order: Sequence[T], most: int) -> list[Sequence[T]]:
    """Return at most `most` prefixes (sequences of the first elements) of `order`, shortest first.

    The lengths of the prefixes are evenly spaced. The empty prefix is always included. The whole sequence is
    included if `most` is greater than 1.
    """
    n_steps = min(most - 1, len(order))
    lengths = [0] if n_steps < 1 else [round(step * len(order) / n_steps) for step in range(n_steps + 1)]
    return [order[:length] for length in lengths]
