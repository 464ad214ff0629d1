"""The order of projections by sensitivity (loss increase per saved cost), and the sets of projections that a search tries."""

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
    """Return the candidates in ascending order of sensitivity, i.e. of loss increase per gain (saved cost).

    Candidates are projections (weight matrices) that may become analog. Candidates whose gain is not positive come last.

    Args:
        candidates: Candidates to order; candidates of equal sensitivity keep the given order.
        rises: Loss increase for each candidate, by name, with only this candidate analog; a decrease counts as 0.
        gains: Cost saved by each candidate, by name, with only this candidate analog; None = its number of MACs.
    """

    def key(each: Candidate) -> tuple[bool, float]:
        gain = each.node.macs if gains is None else gains[each.node.fqn]
        return gain <= 0, max(rises[each.node.fqn], 0.0) / gain if gain > 0 else -gain

    return sorted(candidates, key=key)


@final
class PrefixSets:
    """Candidates in the order of sensitivity (loss increase per saved cost), and a sequence of candidate sets to try.

    Candidates are projections that may become analog. The sets are called prefix sets. If the number of tiles is not limited
    and every candidate lowers the cost, the set with index n contains the first n candidates. Otherwise a set is
    built from the first n candidates in this order: candidates that do not fit on the remaining tiles are skipped, and so are
    candidates that do not lower the cost of the set. The sets are in ascending order of their sum of loss
    increases. A set is kept only if a mapping with this set analog costs less than with any set before it.

    Args:
        loop: Loop of the search, which provides candidates, objective and current mapping.
        rises: Loss increase for each candidate, by name, with only this candidate analog.
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
        """Return the projections that may become analog but are digital in the current mapping, in the order of sensitivity."""
        return [each for each in self.order if not self._loop.mapping.is_analog(each.node.fqn)]

    def sum_of_rises(self, chosen: Sequence[Candidate]) -> float:
        """Return the sum of the loss increases of the chosen projections, each measured or estimated with only this one analog.

        The sum is an estimate of the loss increase with all of these projections analog.
        """
        return math.fsum(self._rises_of(chosen))

    def grow(self, extra: Sequence[Candidate]) -> list[LayerMapping]:
        """Return mappings that add the first one, two, three and more projections of `extra` to the analog projections.

        Projections that do not fit on the tiles or save no cost stay digital. A mapping is left out if it does not cost less
        than the current mapping and all mappings before it. The mappings are therefore in decreasing order of cost.
        """
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
        """Return the label of the decision that tries prefix set `number`, e.g. ``first 3 of 20, not retrained``.

        A prefix set contains the first projections in the order of sensitivity (loss increase per saved cost). The sets are
        numbered from 0.
        """
        first = "first " if self.objective.is_plain else ""
        return f"{first}{len(self.sets[number])} of {len(self.order)}, not retrained"

    def note(self, number: int) -> str:
        """Return text that names the projections that prefix set `number` leaves out, with the reason for each.

        A projection is left out if it precedes the set's last projection in the order of sensitivity and is not in the set. The
        text is empty if no projection is left out. The sets are numbered from 0.
        """
        if self.objective.is_plain or not self.sets[number]:
            return ""
        wanted = [each.node.fqn for each in self.order]
        last = max(wanted.index(each.node.fqn) for each in self.sets[number])
        return self.objective.note(wanted[: last + 1], with_analog(self._loop.start, self.sets[number]))

    def _rises_of(self, chosen: Sequence[Candidate]) -> list[float]:
        return [self._rises[each.node.fqn] for each in chosen]

    def _choose(self, wanted: Sequence[Candidate]) -> LayerMapping:
        """Return a copy of the search's start mapping in which some projections of `wanted` are analog.

        These are the projections that fit on the tiles and together save cost.
        """
        fitting = self.objective.pack([each.node.fqn for each in wanted], self._gains)
        return self.objective.drop_unprofitable(on_tiles(self._loop.start, fitting))

    def _build_sets(self) -> list[list[Candidate]]:
        prefixes = [self.order[:number] for number in range(len(self.order) + 1)]
        if self.objective.is_plain:
            return prefixes
        cost_with = self.objective.price(self._loop.start)
        distinct = {mapping.analog: None for mapping in map(self._choose, prefixes)}
        chosen = [[each for each in self.order if each.node.fqn in analog] for analog in map(set, distinct)]
        sets: list[list[Candidate]] = []
        best = math.inf
        for wanted in sorted(chosen, key=self.sum_of_rises):
            cost = cost_with(*(each.node.fqn for each in wanted))
            if cost < best:
                best = cost
                sets.append(wanted)
        return sets
