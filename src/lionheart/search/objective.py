"""What makes one mapping better than another, and how many tiles it may take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, final

from lionheart.candidates import Candidate
from lionheart.mapping import LayerMapping, Placement

_MOST_NOTES = 5  # projections that a note names


class Moves(Protocol):
    """A function that says what a mapping costs after some of its projections have moved."""

    def __call__(self, *fqns: str) -> float:
        """Return the cost with the projections named moved to where they are not; with none named, that of the mapping."""


#: Prices a mapping and what is few moves away from it: the mapping costs time, a move should not.
Pricing = Callable[[LayerMapping], Moves]


def count_digital(worth: Mapping[str, int]) -> Pricing:
    """Return a price that is the sum of what the digital projections are worth; others are worth nothing."""
    total = sum(worth.values())

    def price(mapping: LayerMapping) -> Moves:
        left = total - sum(worth.get(fqn, 0) for fqn in mapping.analog)

        def after(*fqns: str) -> float:
            return left + sum(worth.get(fqn, 0) if mapping.is_analog(fqn) else -worth.get(fqn, 0) for fqn in fqns)

        return after

    return price


@final
class Objective:
    """What a search makes small, and the tiles that it has.

    Args:
        price: Of mappings.
        n_tiles: Tiles of each projection that may go analog.
        name: Of what is made small.
        max_tiles: Tiles of all analog projections together; None = no limit.
        may_lose: Whether a projection may cost more on tiles than on the core; such a one is left on the core.
        show: Writes a cost with its unit.
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
        """Return the objective of a search that was given none: few digital MACs, any number of tiles."""
        macs = {each.node.fqn: each.node.macs for each in candidates}
        return cls(count_digital(macs), {each.node.fqn: each.partition.n_tiles for each in candidates})

    @property
    def is_plain(self) -> bool:
        """Whether every candidate is worth something in every mapping, and all of them fit."""
        return self.max_tiles is None and not self.may_lose

    # -- tiles ---------------------------------------------------------------------------------------------------------

    def count_tiles(self, fqns: Iterable[str]) -> int:
        """Return the tiles of projections together."""
        return sum(self._n_tiles.get(fqn, 0) for fqn in fqns)

    def fits(self, fqns: Iterable[str]) -> bool:
        """Return whether projections together stay within the limit of tiles."""
        return self.max_tiles is None or self.count_tiles(fqns) <= self.max_tiles

    def count_fitting(self, fqns: Iterable[str]) -> int:
        """Return how many sets of projections stay within the limit of tiles, the empty one among them."""
        n_tiles = [self._n_tiles[fqn] for fqn in fqns]
        if self.max_tiles is None:
            return int(2 ** len(n_tiles))
        counts = [1] + [0] * min(self.max_tiles, sum(n_tiles))  # sets by their tiles
        for size in n_tiles:
            for total in range(len(counts) - 1, size - 1, -1):
                counts[total] += counts[total - size]
        return sum(counts)

    def pack(self, fqns: Sequence[str], gains: Mapping[str, float]) -> list[str]:
        """Return those of the projections that go on the tiles there are: those that gain most for each tile first."""
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
        """Return what a mapping costs."""
        return self.price(mapping)()

    def gains(self, mapping: LayerMapping, fqns: Iterable[str]) -> dict[str, float]:
        """Return what moving each projection alone to where it is not would save; negative where it would cost more."""
        after = self.price(mapping)
        cost = after()
        return {fqn: cost - after(fqn) for fqn in fqns}

    def drop_unprofitable(self, mapping: LayerMapping) -> LayerMapping:
        """Return a mapping without the projections that are no cheaper on tiles than on the core; the worst goes first."""
        while self.may_lose and mapping.analog:
            gains = self.gains(mapping, mapping.analog)
            worst = max(gains, key=lambda fqn: gains[fqn])
            if gains[worst] < 0:
                break
            mapping = mapping.with_placement(worst, Placement.DIGITAL)
        return mapping

    def without_losers(self, start: LayerMapping, fqns: Sequence[str]) -> list[str]:
        """Return the projections that alone on tiles save something, or do so in the company of all that may."""
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
        """Return for those of the digital projections that cannot or should not join a mapping why that is."""
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
        """Return which of the projections wanted a mapping leaves digital, and why; empty if none."""
        left = [fqn for fqn in wanted if not mapping.is_analog(fqn)]
        reasons = self.explain(mapping, left)
        rest = [fqn for fqn in left if fqn not in reasons]
        parts = [f"{fqn} {reason}" for fqn, reason in reasons.items()]
        parts += [f"{fqn} leaves its tiles to others" for fqn in rest]
        more = f"; {len(parts) - _MOST_NOTES} more" if len(parts) > _MOST_NOTES else ""
        return "; ".join(parts[:_MOST_NOTES]) + more


def on_tiles(mapping: LayerMapping, fqns: Iterable[str]) -> LayerMapping:
    """Return a mapping with projections on tiles too."""
    return LayerMapping({**mapping.placements, **dict.fromkeys(fqns, Placement.ANALOG)})


def with_analog(mapping: LayerMapping, candidates: Iterable[Candidate]) -> LayerMapping:
    """Return a mapping with `candidates` on tiles too."""
    return on_tiles(mapping, (each.node.fqn for each in candidates))


def _tiles(number: int) -> str:
    return f"{number} tile{'' if number == 1 else 's'}"
