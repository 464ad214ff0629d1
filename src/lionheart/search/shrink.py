"""Smaller mappings for a given excess of the drop: which projections become digital again at the least cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from lionheart.mapping import LayerMapping, Placement

#: Function of a mapping and of an excess of its drop, in the unit of the drop. It returns a mapping whose drop is expected to
#: be smaller by at least the excess, at the least cost, or None if there is none. It must give the same mapping for the same
#: arguments, also in a resumed run. A strategy sets its own as `SearchLoop.shrink`.
Shrink = Callable[[LayerMapping, float], LayerMapping | None]

_LEAST_DROP = 1e-6  # of a mapping, in the unit of the drop: a mapping may be better than the digital network by chance
_LEAST_SHARE = 0.1  # least relief, in shares of the estimate from the weights


@final
@dataclass(frozen=True)
class Relief:
    """What one projection gives back if it becomes digital.

    Args:
        fqn: Name of the projection (weight matrix).
        saved_cost: Cost that the projection saves on tiles, in the unit of the objective.
        drop_pp: Estimated decrease of the drop if only this projection becomes digital, in the unit of the drop.
    """

    fqn: str
    saved_cost: float
    drop_pp: float


@final
class CheapestRelief:
    """A `Shrink` function that makes projections digital. It solves an integer program over their reliefs.

    The projections with the smallest sum of saved costs are chosen, among all sets whose sum of reliefs is at least the excess.
    If all reliefs together are less than the excess, all projections with a positive relief are chosen.

    Args:
        reliefs: Relief of each analog projection.
    """

    def __init__(self, reliefs: Sequence[Relief]) -> None:
        self.reliefs = tuple(reliefs)

    def __call__(self, mapping: LayerMapping, excess_pp: float) -> LayerMapping | None:
        """Return the cheapest mapping whose drop is expected to be smaller by `excess_pp`; None if no projection helps."""
        options = [each for each in self.reliefs if each.drop_pp > 0 and mapping.is_analog(each.fqn)]
        if not options:
            return None
        for each in self._choose(options, excess_pp):
            mapping = mapping.with_placement(each.fqn, Placement.DIGITAL)
        return mapping

    @staticmethod
    def _choose(options: Sequence[Relief], excess_pp: float) -> list[Relief]:
        drops = np.array([each.drop_pp for each in options])
        if drops.sum() <= excess_pp:
            return list(options)
        costs = np.array([max(each.saved_cost, 0.0) for each in options])
        scaled = costs / (costs.max() or 1.0) + 1e-9  # of equal costs, the fewest projections
        solved = milp(
            scaled,
            constraints=LinearConstraint(drops[None, :], lb=excess_pp),
            integrality=np.ones(len(options)),
            bounds=Bounds(0, 1),
        )
        if solved.x is None:  # the solver gave up
            return list(options)
        return [each for each, chosen in zip(options, solved.x, strict=True) if chosen > 0.5]


def share_out(
    drop_pp: float, weights: Mapping[str, float], measured: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Return an estimate of the relief of each projection from weights and from noisy measurements.

    The drop divided in proportion to the weights is an estimate whose standard error is taken to be as large as itself. Its
    mean with the measured relief is weighted by the inverse variances. The result is at least a tenth of the first estimate,
    because a measured relief is often negative by chance. If the reliefs add up to less than the drop, they are scaled up to
    it: the errors of single layers hide each other as long as most of them remain.

    Args:
        drop_pp: Drop of the mapping, in the unit of the drop.
        weights: Positive weight of each analog projection, such as its loss increase alone.
        measured: Measured relief of some projections and its standard error, in the unit of the drop.
    """
    whole = sum(weights.values())
    found = {}
    for fqn, weight in weights.items():
        expected = max(drop_pp, _LEAST_DROP) * weight / whole
        relief, error = measured.get(fqn, (expected, expected))
        trust = expected**2 / (expected**2 + error**2)
        found[fqn] = max(trust * relief + (1 - trust) * expected, _LEAST_SHARE * expected)
    scale = max(1.0, drop_pp / sum(found.values()))
    return {fqn: scale * relief for fqn, relief in found.items()}
