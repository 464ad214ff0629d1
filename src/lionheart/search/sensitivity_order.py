"""From nothing to the best mapping there is: sets of candidates, each better than the one before and dearer in accuracy."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import final

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.loop import Steps
from lionheart.search.objective import on_tiles
from lionheart.search.strategies.baselines import with_analog


def order_by_sensitivity(
    candidates: Sequence[Candidate], rises: Mapping[str, float], gains: Mapping[str, float] | None = None
) -> list[Candidate]:
    """Return the candidates by how much the loss rises for what each gains, the least first; what gains nothing comes last.

    Args:
        candidates: To be ordered; of equal ones the first stays first.
        rises: Of the loss, when each alone is analog; a fall counts as none.
        gains: What each alone saves; None = its MACs.
    """

    def key(each: Candidate) -> tuple[bool, float]:
        gain = each.node.macs if gains is None else gains[each.node.fqn]
        return gain <= 0, max(rises[each.node.fqn], 0.0) / gain if gain > 0 else -gain

    return sorted(candidates, key=key)


@final
class Ladder:
    """Candidates in the order of their sensitivity, and the sets of them that a search climbs.

    Without a limit of tiles and where every candidate is worth something, the sets are the prefixes of the order. Else a set is
    what of a prefix fits and saves something in its company, and only sets that cost less than those before are kept.

    Args:
        steps: Of the search.
        rises: Of the loss, when each candidate alone is analog.
    """

    def __init__(self, steps: Steps, rises: Mapping[str, float]) -> None:
        self._steps, self.objective = steps, steps.objective
        self._rises = {fqn: max(rise, 0.0) for fqn, rise in rises.items()}
        fqns = [each.node.fqn for each in steps.candidates]
        useful = set(self.objective.without_losers(steps.start, fqns))
        self._gains = self.objective.gains(steps.start, fqns)
        ordered = order_by_sensitivity(steps.candidates, rises, self._gains)
        self.order = [each for each in ordered if each.node.fqn in useful]
        self.rungs = self._climb()
        self.sums = [functools.reduce(operator.add, self._rises_of(rung), 0.0) for rung in self.rungs]
        top = self.objective.cost(with_analog(steps.start, self.rungs[-1]))
        self.most = self.objective.cost(steps.start) - top

    def left(self) -> list[Candidate]:
        """Return the candidates that are digital now."""
        return [each for each in self.order if not self._steps.mapping.is_analog(each.node.fqn)]

    def sum_of_rises(self, chosen: Sequence[Candidate]) -> float:
        """Return how much the loss should rise with candidates analog."""
        return math.fsum(self._rises_of(chosen))

    def grow(self, extra: Sequence[Candidate]) -> list[LayerMapping]:
        """Return mappings with more and more of `extra` on tiles too, each better than the last and than the present one."""
        present, found = [each for each in self.order if self._steps.mapping.is_analog(each.node.fqn)], []
        best = self.objective.cost(self._steps.mapping)
        for number in range(1, len(extra) + 1):
            mapping = self._choose([*present, *extra[:number]])
            cost = self.objective.cost(mapping)
            if cost < best:
                best = cost
                found.append(mapping)
        return found

    def label(self, number: int) -> str:
        """Return what a rung is, in words."""
        first = "first " if self.objective.is_plain else ""
        return f"{first}{len(self.rungs[number])} of {len(self.order)}, not retrained"

    def note(self, number: int) -> str:
        """Return what of the prefix up to the last of a rung's candidates it leaves digital, and why."""
        if self.objective.is_plain or not self.rungs[number]:
            return ""
        wanted = [each.node.fqn for each in self.order]
        last = max(wanted.index(each.node.fqn) for each in self.rungs[number])
        return self.objective.note(wanted[: last + 1], with_analog(self._steps.start, self.rungs[number]))

    def _rises_of(self, chosen: Sequence[Candidate]) -> list[float]:
        return [self._rises[each.node.fqn] for each in chosen]

    def _choose(self, wanted: Sequence[Candidate]) -> LayerMapping:
        """Return the mapping of what of the candidates fits and saves something in this company."""
        fitting = self.objective.pack([each.node.fqn for each in wanted], self._gains)
        return self.objective.lean(on_tiles(self._steps.start, fitting))

    def _climb(self) -> list[list[Candidate]]:
        prefixes = [self.order[:number] for number in range(len(self.order) + 1)]
        if self.objective.is_plain:
            return prefixes
        after = self.objective.price(self._steps.start)
        sets = {mapping.analog: None for mapping in map(self._choose, prefixes)}
        chosen = [[each for each in self.order if each.node.fqn in analog] for analog in map(set, sets)]
        rungs: list[list[Candidate]] = []
        best = math.inf
        for rung in sorted(chosen, key=self.sum_of_rises):
            cost = after(*(each.node.fqn for each in rung))
            if cost < best:
                best = cost
                rungs.append(rung)
        return rungs
