"""The choice of a level for each projection: the digital core, or tiles with a read policy.

The drop of a mapping is assumed to grow with the sum of its projections' sensitivities, each the measured loss increase with
only this projection analog at its level. For a limit on this sum, an integer program finds the mapping of least cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import on_tiles

_SLACK = 1e-9  # relative tolerance of sums that the solver has rounded


@final
class LevelPlans:
    """Mappings of least cost for given limits on the sum of sensitivities.

    The cost is the objective of the run. Among mappings of equal cost, the one whose read policies cost least is taken, see
    `Objective.level_cost`. Policies that are listed first break further ties.

    Args:
        loop: Loop of the search, with candidates, levels and objective.
        rises: For each level, the loss increase of each candidate with only this candidate analog at this level, by name. A
            decrease counts as 0.
    """

    def __init__(self, loop: SearchLoop, rises: Sequence[Mapping[str, float]]) -> None:
        self._loop = loop
        fqns = [each.node.fqn for each in loop.candidates]
        #: Each row is a projection at a level.
        self._rows: list[tuple[Candidate, int]] = []
        gains: list[float] = []
        start = loop.objective.cost(loop.start)
        for candidate in loop.candidates:
            for number, level in enumerate(loop.levels):
                alone = on_tiles(loop.start, [candidate.node.fqn]).with_policies({candidate.node.fqn: level})
                self._rows.append((candidate, number))
                gains.append(start - loop.objective.cost(alone))
        self._gains = np.array(gains)
        self._rises = np.array([max(rises[number][each.node.fqn], 0.0) for each, number in self._rows])
        prices = np.array([loop.objective.level_cost(each, loop.levels[number]) for each, number in self._rows])
        places = np.array([number for _, number in self._rows], dtype=float)
        self._prices = prices * (1 + 1e-6 * places)
        self._tiles = np.array([loop.objective.count_tiles([each.node.fqn]) for each, _ in self._rows], dtype=float)
        owner = {fqn: position for position, fqn in enumerate(fqns)}
        self._one_level = np.zeros((len(fqns), len(self._rows)))
        for position, (each, _) in enumerate(self._rows):
            self._one_level[owner[each.node.fqn], position] = 1.0

    @property
    def least_sum(self) -> float:
        """Sum of sensitivities if every candidate that lowers the cost is analog at its least sensitive level."""
        rows = self._one_level.astype(bool)
        useful = self._gains > 0
        return float(sum(self._rises[row & useful].min() for row in rows if (row & useful).any()))

    @property
    def largest_sum(self) -> float:
        """Sum of sensitivities if every candidate is analog at its most sensitive level."""
        return float(sum(self._rises[row].max() for row in self._one_level.astype(bool)))

    def sum_of(self, mapping: LayerMapping) -> float:
        """Return the sum of the sensitivities of the analog projections in `mapping`, at their levels."""
        chosen = [self._is_in(mapping, position) for position in range(len(self._rows))]
        return float(self._rises[np.array(chosen, dtype=bool)].sum()) if chosen else 0.0

    def find(self, limit: float) -> LayerMapping:
        """Return the mapping of least cost whose sum of sensitivities is at most `limit`.

        Projections that save no cost on tiles, and those for which no tiles are left, stay digital.
        """
        if not self._rows:
            return self._loop.start
        useful = self._gains > 0
        constraints = [LinearConstraint(self._one_level, ub=1.0)]
        if math.isfinite(limit) and self._rises.max() > 0:
            unit = float(self._rises.max())
            constraints.append(LinearConstraint(self._rises[None] / unit, ub=limit / unit * (1 + _SLACK)))
        if self._loop.objective.max_tiles is not None:
            constraints.append(LinearConstraint(self._tiles[None], ub=self._loop.objective.max_tiles))
        bounds = Bounds(0, useful.astype(float))
        gain_unit = max(float(np.abs(self._gains).max()), 1e-300)
        gains = self._gains / gain_unit
        first = _solve(-gains, constraints, bounds)
        best = float(gains @ first)
        enough = LinearConstraint(gains[None], lb=best - _SLACK * max(best, 1.0))
        prices = self._prices / max(float(self._prices.max()), 1e-300)
        chosen = _solve(prices, [*constraints, enough], bounds)
        return self._mapping(chosen)

    def _mapping(self, chosen: np.ndarray[Any, Any]) -> LayerMapping:
        rows = [row for row, value in zip(self._rows, chosen, strict=True) if value > 0.5]
        mapping = on_tiles(self._loop.start, [each.node.fqn for each, _ in rows])
        mapping = mapping.with_policies({each.node.fqn: self._loop.levels[number] for each, number in rows})
        return self._loop.objective.drop_unprofitable(mapping)

    def _is_in(self, mapping: LayerMapping, position: int) -> bool:
        candidate, number = self._rows[position]
        fqn = candidate.node.fqn
        return mapping.is_analog(fqn) and mapping.policy_of(fqn).changes == self._loop.levels[number].changes


@final
class LevelShrink:
    """A `Shrink` function that lowers the sum of sensitivities: with better read policies, or with projections on the core.

    Args:
        plans: Mappings of least cost for given sums.
        slope: Drop for each unit of the sum, in the unit of the drop.
    """

    def __init__(self, plans: LevelPlans, slope: float) -> None:
        self.plans, self.slope = plans, slope

    def __call__(self, mapping: LayerMapping, excess_pp: float) -> LayerMapping | None:
        """Return the mapping of least cost whose drop is expected to be smaller by `excess_pp`; None if there is none.

        A small excess lowers the sum in proportion. An excess e of a drop D leaves the share exp(-e / D) of the sum, because D
        has an error from the samples that better mappings share: a mapping of half the sum can be right for an excess above D.
        """
        total = self.plans.sum_of(mapping)
        found = self.plans.find(total * math.exp(-excess_pp / (self.slope * total))) if total > 0 else None
        return found if found is not None and found.analog else None


def _solve(
    costs: np.ndarray[Any, Any], constraints: Sequence[LinearConstraint], bounds: Bounds
) -> np.ndarray[Any, Any]:
    """Return the 0/1 vector of least cost under the constraints; all zeros are always allowed by the first program."""
    whole, exact = np.ones(len(costs)), {"mip_rel_gap": 0.0}
    found = milp(costs, constraints=constraints, integrality=whole, bounds=bounds, options=exact)
    if found.x is None:  # the limit is below zero, or rounding made the second program infeasible
        return np.zeros(len(costs))
    rounded: np.ndarray[Any, Any] = np.round(found.x)
    return rounded
