"""The cost that a search minimises, and the limit of tiles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, final

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping, Placement

_MOST_NOTES = 5  # projections that a note lists by name


class Moves(Protocol):
    """A function that returns the cost of a mapping with some of its projections moved between tiles and digital core."""

    def __call__(self, *fqns: str) -> float:
        """Return the cost with the named projections moved; without names, the cost of the mapping itself."""


#: Returns the cost function of a mapping and its neighbours. Building the function may be slow; calling it must be fast.
Pricing = Callable[[LayerMapping], Moves]


def count_digital(worth: Mapping[str, int]) -> Pricing:
    """Return a `Pricing` whose cost is the sum of `worth` over the digital projections; absent projections count 0."""
    total = sum(worth.values())

    def price(mapping: LayerMapping) -> Moves:
        left = total - sum(worth.get(fqn, 0) for fqn in mapping.analog)

        def cost_with(*fqns: str) -> float:
            return left + sum(worth.get(fqn, 0) if mapping.is_analog(fqn) else -worth.get(fqn, 0) for fqn in fqns)

        return cost_with

    return price


@final
class Objective:
    """The cost that a search minimises, and the limit of tiles.

    Args:
        price: Cost function of mappings.
        n_tiles: Number of tiles of each projection that may become analog.
        name: Name of the cost, e.g. ``macs`` or ``energy``.
        max_tiles: Limit of the tiles of all analog projections together; None = no limit.
        may_lose: Whether a projection may cost more on tiles than on the digital core. Such projections stay digital.
        show: Formats a cost with its unit.
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
    ) -> None:
        self.price, self.name, self.max_tiles, self.may_lose = price, name, max_tiles, may_lose
        self._n_tiles, self._show = dict(n_tiles), show

    @classmethod
    def of_macs(cls, candidates: Sequence[Candidate]) -> Objective:
        """Return the default objective: as few digital MACs as possible, without a limit of tiles."""
        macs = {each.node.fqn: each.node.macs for each in candidates}
        return cls(count_digital(macs), {each.node.fqn: each.partition.n_tiles for each in candidates})

    @property
    def is_plain(self) -> bool:
        """Whether every candidate lowers the cost in every mapping and all candidates fit on the tiles together."""
        return self.max_tiles is None and not self.may_lose

    # -- tiles ---------------------------------------------------------------------------------------------------------

    def count_tiles(self, fqns: Iterable[str]) -> int:
        """Return the number of tiles of the projections together."""
        return sum(self._n_tiles.get(fqn, 0) for fqn in fqns)

    def fits(self, fqns: Iterable[str]) -> bool:
        """Return whether the projections together need at most `max_tiles` tiles."""
        return self.max_tiles is None or self.count_tiles(fqns) <= self.max_tiles

    def count_fitting(self, fqns: Iterable[str]) -> int:
        """Return the number of subsets of the projections that need at most `max_tiles` tiles, the empty set included."""
        n_tiles = [self._n_tiles[fqn] for fqn in fqns]
        if self.max_tiles is None:
            return int(2 ** len(n_tiles))
        counts = [1] + [0] * min(self.max_tiles, sum(n_tiles))  # number of subsets for each number of tiles
        for size in n_tiles:
            for total in range(len(counts) - 1, size - 1, -1):
                counts[total] += counts[total - size]
        return sum(counts)

    def pack(self, fqns: Sequence[str], gains: Mapping[str, float]) -> list[str]:
        """Return the projections that fit on `max_tiles` tiles, chosen greedily by gain per tile, in the given order."""
        if self.max_tiles is None or self.fits(fqns):
            return list(fqns)
        left, chosen = self.max_tiles, set()
        for fqn in sorted(fqns, key=lambda fqn: -gains[fqn] / max(self._n_tiles[fqn], 1)):
            if self._n_tiles[fqn] <= left:
                left -= self._n_tiles[fqn]
                chosen.add(fqn)
        return [fqn for fqn in fqns if fqn in chosen]

    # -- cost ----------------------------------------------------------------------------------------------------------

    def cost(self, mapping: LayerMapping) -> float:
        """Return the cost of a mapping."""
        return self.price(mapping)()

    def gains(self, mapping: LayerMapping, fqns: Iterable[str]) -> dict[str, float]:
        """Return the saving from moving each projection alone between tiles and core; negative = an increase."""
        cost_with = self.price(mapping)
        cost = cost_with()
        return {fqn: cost - cost_with(fqn) for fqn in fqns}

    def drop_unprofitable(self, mapping: LayerMapping) -> LayerMapping:
        """Return the mapping without the analog projections that are no cheaper on tiles; the least profitable goes first."""
        while self.may_lose and mapping.analog:
            gains = self.gains(mapping, mapping.analog)
            worst = max(gains, key=lambda fqn: gains[fqn])
            if gains[worst] < 0:
                break
            mapping = mapping.with_placement(worst, Placement.DIGITAL)
        return mapping

    def without_losers(self, start: LayerMapping, fqns: Sequence[str]) -> list[str]:
        """Return the projections that save cost on tiles, either alone or together with all other profitable projections."""
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
        """Return the reason for each digital projection that does not fit on the tiles left or would raise the cost."""
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
        """Return which of the `wanted` projections the mapping leaves digital and why, as one line; empty = none."""
        left = [fqn for fqn in wanted if not mapping.is_analog(fqn)]
        reasons = self.explain(mapping, left)
        rest = [fqn for fqn in left if fqn not in reasons]
        parts = [f"{fqn} {reason}" for fqn, reason in reasons.items()]
        parts += [f"{fqn} leaves its tiles to others" for fqn in rest]
        more = f"; {len(parts) - _MOST_NOTES} more" if len(parts) > _MOST_NOTES else ""
        return "; ".join(parts[:_MOST_NOTES]) + more


def on_tiles(mapping: LayerMapping, fqns: Iterable[str]) -> LayerMapping:
    """Return the mapping with the named projections analog in addition."""
    return LayerMapping({**mapping.placements, **dict.fromkeys(fqns, Placement.ANALOG)})


def with_analog(mapping: LayerMapping, candidates: Iterable[Candidate]) -> LayerMapping:
    """Return the mapping with `candidates` analog in addition."""
    return on_tiles(mapping, (each.node.fqn for each in candidates))


def _tiles(number: int) -> str:
    return f"{number} tile{'' if number == 1 else 's'}"
