"""The objective of a search: the cost to minimise, and the limit on the number of tiles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, final

from lionheart.candidates import Candidate
from lionheart.devices import ReadPolicy, TileSpec
from lionheart.mapping import LayerMapping, Placement

_MOST_NOTES = 5  # largest number of projections that a note names


class Moves(Protocol):
    """Function that returns the cost of one given mapping, or the cost after some projections of this mapping have moved."""

    def __call__(self, *fqns: str) -> float:
        """Return the cost of this function's mapping after the named projections have moved.

        Analog projections move to the digital core, and digital projections move to tiles. Without names, the cost of the
        unchanged mapping is returned.
        """


#: Function that returns a `Moves` function for a mapping. Building a `Moves` function may be slow; calling it must be fast.
Pricing = Callable[[LayerMapping], Moves]


def count_digital(worth: Mapping[str, int]) -> Pricing:
    """Return a `Pricing` function for which the cost of a mapping is the sum of `worth` over the digital projections.

    A `Pricing` function receives a mapping, and returns a `Moves` function that computes the mapping's cost.

    Args:
        worth: Contribution of each projection to the cost, e.g. its MACs, by name; absent projections contribute 0.
    """
    total = sum(worth.values())

    def price(mapping: LayerMapping) -> Moves:
        left = total - sum(worth.get(fqn, 0) for fqn in mapping.analog)

        def cost_with(*fqns: str) -> float:
            return left + sum(worth.get(fqn, 0) if mapping.is_analog(fqn) else -worth.get(fqn, 0) for fqn in fqns)

        return cost_with

    return price


@final
class Objective:
    """The cost that a search minimises, and the limit on the number of tiles.

    Args:
        price: Function that receives a mapping and returns a `Moves` function, which computes the mapping's cost.
        n_tiles: Number of tiles that each projection (weight matrix) needs, by name.
        name: Name of the cost, e.g. ``macs`` or ``energy``.
        max_tiles: Largest number of tiles of all analog projections together; None = no limit.
        may_lose: Whether a projection can cost more on tiles than on the digital core. If so, `drop_unprofitable` and
            `without_losers` remove such projections.
        show: Function that formats a cost with its unit.
        price_level: Function that returns the cost of a projection on tiles at a read policy, by which policies are compared
            that leave the objective as it is; None = the outputs that are read, see `level_cost`.
    """

    def __init__(
        self,
        price: Pricing,
        n_tiles: Mapping[str, int],
        *,
        name: str = "macs",
        max_tiles: int | None = None,
        may_lose: bool = False,
        show: Callable[[float], str] = str,
        price_level: Callable[[str, ReadPolicy], float] | None = None,
    ) -> None:
        self.price, self.name, self.max_tiles, self.may_lose = price, name, max_tiles, may_lose
        self._n_tiles, self._show, self._price_level = dict(n_tiles), show, price_level

    @classmethod
    def of_macs(cls, candidates: Sequence[Candidate]) -> Objective:
        """Return the default objective: minimise the MACs on digital cores, without a limit on the number of tiles."""
        macs = {each.node.fqn: each.node.macs for each in candidates}
        return cls(count_digital(macs), {each.node.fqn: each.partition.n_tiles for each in candidates})

    @property
    def is_plain(self) -> bool:
        """Whether moving a projection to tiles lowers the cost in every mapping and the number of tiles is not limited."""
        return self.max_tiles is None and not self.may_lose

    # -- tiles ---------------------------------------------------------------------------------------------------------

    def count_tiles(self, fqns: Iterable[str]) -> int:
        """Return the number of tiles that the named projections need together."""
        return sum(self._n_tiles.get(fqn, 0) for fqn in fqns)

    def fits(self, fqns: Iterable[str]) -> bool:
        """Return whether the named projections together need at most `max_tiles` tiles; always True without a limit."""
        return self.max_tiles is None or self.count_tiles(fqns) <= self.max_tiles

    def count_fitting(self, fqns: Iterable[str]) -> int:
        """Return how many subsets of the named projections, including the empty set, need at most `max_tiles` tiles."""
        n_tiles = [self._n_tiles[fqn] for fqn in fqns]
        if self.max_tiles is None:
            return int(2 ** len(n_tiles))
        counts = [1] + [0] * min(self.max_tiles, sum(n_tiles))  # number of subsets for each number of tiles
        for size in n_tiles:
            for total in range(len(counts) - 1, size - 1, -1):
                counts[total] += counts[total - size]
        return sum(counts)

    def pack(self, fqns: Sequence[str], gains: Mapping[str, float]) -> list[str]:
        """Return the names of projections that together fit on `max_tiles` tiles.

        The projections are chosen greedily: a projection with a larger gain (saved cost) per tile is chosen before others.

        Args:
            fqns: Names of the projections to choose from; the result keeps their order.
            gains: Cost that each projection saves on tiles, by name.
        """
        if self.max_tiles is None or self.fits(fqns):
            return list(fqns)
        left, chosen = self.max_tiles, set()
        for fqn in sorted(fqns, key=lambda fqn: -gains[fqn] / max(self._n_tiles[fqn], 1)):
            if self._n_tiles[fqn] <= left:
                left -= self._n_tiles[fqn]
                chosen.add(fqn)
        return [fqn for fqn in fqns if fqn in chosen]

    def level_cost(self, candidate: Candidate, level: ReadPolicy) -> float:
        """Return what a read policy of a candidate costs, by which policies with the same objective are compared.

        The cost is the time of the projection on the tiles of the first platform [s]. Without a platform it is the number of
        MACs on tiles, each counted once for every read and every copy of the weights on columns.
        """
        if self._price_level is not None:
            return self._price_level(candidate.node.fqn, level)
        _, columns = candidate.partition.count_copies(level.apply(TileSpec()))
        return float(candidate.node.macs * (level.n_reads or 1) * columns)

    # -- cost ----------------------------------------------------------------------------------------------------------

    def cost(self, mapping: LayerMapping) -> float:
        """Return the cost of a mapping, in the unit of this objective: MACs, weights, seconds or joules."""
        return self.price(mapping)()

    def gains(self, mapping: LayerMapping, fqns: Iterable[str]) -> dict[str, float]:
        """For each named projection, return the cost saved by moving only this projection; negative for a cost increase.

        Analog projections move to the digital core, and digital projections move to tiles.

        Args:
            mapping: Mapping before the move.
            fqns: Names of the projections.
        """
        cost_with = self.price(mapping)
        cost = cost_with()
        return {fqn: cost - cost_with(fqn) for fqn in fqns}

    def drop_unprofitable(self, mapping: LayerMapping) -> LayerMapping:
        """Move analog projections that are not cheaper on tiles to the digital core, and return the new mapping.

        Projections move one at a time: in each step, the projection whose move saves the most cost. The savings are computed
        again after each step.
        """
        while self.may_lose and mapping.analog:
            gains = self.gains(mapping, mapping.analog)
            worst = max(gains, key=lambda fqn: gains[fqn])
            if gains[worst] < 0:
                break
            mapping = mapping.with_placement(worst, Placement.DIGITAL)
        return mapping

    def without_losers(self, start: LayerMapping, fqns: Sequence[str]) -> list[str]:
        """Return the names of the projections that save cost on tiles, in the given order.

        A projection is returned in two cases: it saves cost if no other projection moves to tiles, or it belongs to a set of
        projections that each save cost while all others of the set are on tiles too.

        Args:
            start: Mapping from which projections move to tiles.
            fqns: Names of the digital projections to check.
        """
        if not self.may_lose:
            return list(fqns)
        alone = self.gains(start, fqns)
        present, losers = list(fqns), set(fqns)
        while losers:
            together = self.gains(on_tiles(start, present), present)
            losers = {fqn for fqn in present if together[fqn] >= 0}
            present = [fqn for fqn in present if fqn not in losers]
        return [fqn for fqn in fqns if alone[fqn] > 0 or fqn in present]

    # -- reasons -------------------------------------------------------------------------------------------------------

    def explain(self, mapping: LayerMapping, fqns: Iterable[str]) -> dict[str, str]:
        """For each named projection that is digital, return the reason to keep the projection digital, by name.

        The reason is that the projection saves no cost on tiles, or that too few tiles are left for it. Projections with
        neither reason are not included.

        Args:
            mapping: Mapping that determines the digital projections and the number of tiles left.
            fqns: Names of the projections to explain. Analog projections are skipped.
        """
        if self.is_plain:
            return {}
        used = self.count_tiles(mapping.analog)
        digital = [fqn for fqn in fqns if not mapping.is_analog(fqn)]
        gains = self.gains(mapping, digital) if self.may_lose else {}
        reasons = {}
        for fqn in digital:
            if self.may_lose and gains[fqn] <= 0:
                reasons[fqn] = f"would cost {self._show(-gains[fqn])} more on tiles"
            elif self.max_tiles is not None and used + self._n_tiles[fqn] > self.max_tiles:
                reasons[fqn] = f"needs {_tiles(self._n_tiles[fqn])}, {self.max_tiles - used} of {self.max_tiles} left"
        return reasons

    def note(self, wanted: Collection[str], mapping: LayerMapping) -> str:
        """Return text that names the digital projections among `wanted`, each with the reason for being digital.

        The text names at most five projections and the number of the others. The text is empty if all projections in `wanted`
        are analog in `mapping`.
        """
        left = [fqn for fqn in wanted if not mapping.is_analog(fqn)]
        reasons = self.explain(mapping, left)
        rest = [fqn for fqn in left if fqn not in reasons]
        parts = [f"{fqn} {reason}" for fqn, reason in reasons.items()]
        parts += [f"{fqn} leaves its tiles to others" for fqn in rest]
        more = f"; {len(parts) - _MOST_NOTES} more" if len(parts) > _MOST_NOTES else ""
        return "; ".join(parts[:_MOST_NOTES]) + more


def on_tiles(mapping: LayerMapping, fqns: Iterable[str]) -> LayerMapping:
    """Return a copy of the mapping in which the named projections are analog too."""
    return LayerMapping({**mapping.placements, **dict.fromkeys(fqns, Placement.ANALOG)}, policies=mapping.policies)


def with_analog(mapping: LayerMapping, candidates: Iterable[Candidate]) -> LayerMapping:
    """Return a copy of the mapping in which the projections of `candidates` are analog too."""
    return on_tiles(mapping, (each.node.fqn for each in candidates))


def _tiles(number: int) -> str:
    return f"{number} tile{'' if number == 1 else 's'}"
