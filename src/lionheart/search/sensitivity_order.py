"""From nothing to the best mapping there is: sets of candidates, each better than the one before and dearer in accuracy."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import final

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping
from lionheart.search.loop import SearchLoop
from lionheart.search.objective import on_tiles, with_analog


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
class PrefixSets:
    """Candidates in the order of their sensitivity, and the sets of them that a search climbs.

    Without a limit of tiles and where every candidate is worth something, the sets are the prefixes of the order. Else a set is
    what of a prefix fits and saves something in its company, and only sets that cost less than those before are kept.

    Args:
        loop: Of the search.
        rises: Of the loss, when each candidate alone is analog.
    """

    def __init__(self, loop: SearchLoop, rises: Mapping[str, float]) -> None:
        self._loop, self.objective = loop, loop.objective
        self._rises = {fqn: max(rise, 0.0) for fqn, rise in rises.items()}
        fqns = [each.node.fqn for each in loop.candidates]
        useful = set(self.objective.without_losers(loop.start, fqns))
        self._gains = self.objective.gains(loop.start, fqns)
        ordered = order_by_sensitivity(loop.candidates, rises, self._gains)
        self.order = [each for each in ordered if each.node.fqn in useful]
        self.sets = self._build_sets()
        self.sums = [functools.reduce(operator.add, self._rises_of(chosen_set), 0.0) for chosen_set in self.sets]
        top = self.objective.cost(with_analog(loop.start, self.sets[-1]))
        self.most = self.objective.cost(loop.start) - top

    def left(self) -> list[Candidate]:
        """Return the candidates that are digital now."""
        return [each for each in self.order if not self._loop.mapping.is_analog(each.node.fqn)]

    def sum_of_rises(self, chosen: Sequence[Candidate]) -> float:
        """Return how much the loss should rise with candidates analog."""
        return math.fsum(self._rises_of(chosen))

    def grow(self, extra: Sequence[Candidate]) -> list[LayerMapping]:
        """Return mappings with more and more of `extra` on tiles too, each better than the last and than the present one."""
        present, found = [each for each in self.order if self._loop.mapping.is_analog(each.node.fqn)], []
        best = self.objective.cost(self._loop.mapping)
        for number in range(1, len(extra) + 1):
            mapping = self._choose([*present, *extra[:number]])
            cost = self.objective.cost(mapping)
            if cost < best:
                best = cost
                found.append(mapping)
        return found

    def label(self, number: int) -> str:
        """Return what a set is, in words."""
        first = "first " if self.objective.is_plain else ""
        return f"{first}{len(self.sets[number])} of {len(self.order)}, not retrained"

    def note(self, number: int) -> str:
        """Return what of the prefix up to the last of a set's candidates it leaves digital, and why."""
        if self.objective.is_plain or not self.sets[number]:
            return ""
        wanted = [each.node.fqn for each in self.order]
        last = max(wanted.index(each.node.fqn) for each in self.sets[number])
        return self.objective.note(wanted[: last + 1], with_analog(self._loop.start, self.sets[number]))

    def _rises_of(self, chosen: Sequence[Candidate]) -> list[float]:
        return [self._rises[each.node.fqn] for each in chosen]

    def _choose(self, wanted: Sequence[Candidate]) -> LayerMapping:
        """Return the mapping of what of the candidates fits and saves something in this company."""
        fitting = self.objective.pack([each.node.fqn for each in wanted], self._gains)
        return self.objective.drop_unprofitable(on_tiles(self._loop.start, fitting))

    def _build_sets(self) -> list[list[Candidate]]:
        prefixes = [self.order[:number] for number in range(len(self.order) + 1)]
        if self.objective.is_plain:
            return prefixes
        after = self.objective.price(self._loop.start)
        distinct = {mapping.analog: None for mapping in map(self._choose, prefixes)}
        chosen = [[each for each in self.order if each.node.fqn in analog] for analog in map(set, distinct)]
        sets: list[list[Candidate]] = []
        best = math.inf
        for wanted in sorted(chosen, key=self.sum_of_rises):
            cost = after(*(each.node.fqn for each in wanted))
            if cost < best:
                best = cost
                sets.append(wanted)
        return sets
