"""Mappings that were measured, and the front of those that nothing beats in both accuracy and cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

from lionheart.experimental.pareto.records import MeasuredMapping
from lionheart.metrics import is_within

T = TypeVar("T")


def non_dominated(measured: Sequence[MeasuredMapping]) -> list[MeasuredMapping]:
    """Return the mappings that no other one equals in one of accuracy and cost and beats in the other, or beats in both.

    The cheapest comes first. Mappings that are equal in both are all kept.
    """
    front: list[MeasuredMapping] = []
    best = -math.inf  # accuracy at any smaller cost
    for _, group in itertools.groupby(sorted(measured, key=lambda each: each.cost), key=lambda each: each.cost):
        equal = sorted(group, key=lambda each: (-each.mean, each.number))
        if equal[0].mean > best:
            best = equal[0].mean
            front += [each for each in equal if each.mean == best]
    return front


def best_within(front: Sequence[MeasuredMapping], baseline: float, max_drop_pp: float) -> MeasuredMapping | None:
    """Return the cheapest mapping whose drop is within the bound, the more accurate one of two; None if there is none."""
    within = [each for each in front if is_within(each.drop_pp(baseline), max_drop_pp)]
    return min(within, key=lambda each: (each.cost, -each.mean, each.number), default=None)


def nested_prefixes(order: Sequence[T], most: int) -> list[Sequence[T]]:
    """Return at most `most` of the prefixes of `order`, evenly spread, nothing and everything among them if `most` > 1."""
    n_steps = min(most - 1, len(order))
    lengths = [0] if n_steps < 1 else [round(step * len(order) / n_steps) for step in range(n_steps + 1)]
    return [order[:length] for length in lengths]
