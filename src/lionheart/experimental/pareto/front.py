"""The Pareto front of measured mappings in accuracy and cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

from lionheart.experimental.pareto.records import MeasuredMapping
from lionheart.metrics import is_within

T = TypeVar("T")


def non_dominated(measured: Sequence[MeasuredMapping]) -> list[MeasuredMapping]:
    """Return the non-dominated mappings: no other mapping is at least as good in accuracy and cost and better in one.

    The mappings are ordered by increasing cost. Mappings with equal accuracy and cost are all kept.
    """
    front: list[MeasuredMapping] = []
    best = -math.inf  # best accuracy at any smaller cost
    for _, group in itertools.groupby(sorted(measured, key=lambda each: each.cost), key=lambda each: each.cost):
        equal = sorted(group, key=lambda each: (-each.mean, each.number))
        if equal[0].mean > best:
            best = equal[0].mean
            front += [each for each in equal if each.mean == best]
    return front


def best_within(front: Sequence[MeasuredMapping], baseline: float, max_drop_pp: float) -> MeasuredMapping | None:
    """Return the cheapest mapping within the bound, at equal cost the more accurate mapping; None if there is none."""
    within = [each for each in front if is_within(each.drop_pp(baseline), max_drop_pp)]
    return min(within, key=lambda each: (each.cost, -each.mean, each.number), default=None)


def nested_prefixes(order: Sequence[T], most: int) -> list[Sequence[T]]:
    """Return at most `most` evenly spread prefixes of `order`, including the empty and the full prefix if `most` > 1."""
    n_steps = min(most - 1, len(order))
    lengths = [0] if n_steps < 1 else [round(step * len(order) / n_steps) for step in range(n_steps + 1)]
    return [order[:length] for length in lengths]
