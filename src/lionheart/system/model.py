"""Costs of many mappings of one network: every projection is priced once in both placements, the rest is addition.

Projections are coupled by one number alone: how much of the digital weights does not fit in the last-level cache (LLC). The
cost of a digital projection is linear in that share, so the cost of a mapping is a few sums, and moving a projection changes
each of them by a fixed amount. The sums are kept as whole numbers of the smallest floating-point number, so no number of
changes leaves a rounding error behind.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, LayerNode
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition, partition_graph
from lionheart.system.cost import Cost, add_costs, price_work, scale_cost
from lionheart.system.estimate import check_mapping, find_partition, leave_out_unpriced, price_other_ops
from lionheart.system.platform import PlatformSpec
from lionheart.system.work import Residency, analog_projection, digital_projection, overflow_share

_UNIT = 1 << 1074  # every finite float is a whole number of its inverses


@final
@dataclass(frozen=True)
class MappingCost:
    """What one inference of a mapped network takes.

    Args:
        latency_s: Time [s].
        energy_j: Energy [J].
        n_tiles: Tiles.
    """

    latency_s: float
    energy_j: float
    n_tiles: int


@final
@dataclass(frozen=True)
class _Row:
    """One projection in both placements; a digital one costs ``digital + first_share * first + later_share * later``.

    Args:
        digital: On the core, when nothing misses the LLC on account of other projections.
        first: More, if all reads of the first pass over its weights miss.
        later: More, if all reads of later passes miss; nothing where that is the projection's own affair.
        analog: On tiles; None if it has none.
        n_bytes: Weights that a digital projection keeps in the LLC.
        n_bytes_later: Those that are read again and again beside those of other projections.
        n_tiles: Tiles it would take.
    """

    digital: Cost
    first: Cost
    later: Cost
    analog: Cost | None
    n_bytes: int
    n_bytes_later: int
    n_tiles: int

    def digital_sums(self) -> list[int]:
        """Return what it adds to the sums on the core: times and energies, bytes and tiles."""
        times = [_exact(cost.latency_s) for cost in (self.digital, self.first, self.later)]
        energies = [_exact(cost.energy_j) for cost in (self.digital, self.first, self.later)]
        return [*times, *energies, self.n_bytes, self.n_bytes_later, 0]

    def analog_sums(self) -> list[int]:
        """Return what it adds to the sums on tiles."""
        cost = self.analog or Cost()
        return [_exact(cost.latency_s), 0, 0, _exact(cost.energy_j), 0, 0, 0, 0, self.n_tiles]


@final
class _Prices:
    """What each projection adds to the sums when it moves to tiles, and what sums mean.

    A list of sums has, of all projections and other operations: time with nothing missing, more if all first passes miss, more
    if all later ones do; the same of energy; digital bytes; those read again and again; tiles.
    """

    def __init__(self, graph: LayerGraph, rows: Mapping[str, _Row], fixed: Cost, llc_bytes: int) -> None:
        self._graph, self._rows, self._llc_bytes = graph, rows, llc_bytes
        on_core = {fqn: row.digital_sums() for fqn, row in rows.items()}
        zero = [_exact(fixed.latency_s), 0, 0, _exact(fixed.energy_j), 0, 0, 0, 0, 0]
        self.all_digital = [sum(column) for column in zip(zero, *on_core.values(), strict=True)]
        self._moves = {
            fqn: [new - old for new, old in zip(row.analog_sums(), on_core[fqn], strict=True)]
            for fqn, row in rows.items()
            if row.analog is not None
        }

    def move(self, sums: list[int], analog: Collection[str], fqns: Iterable[str]) -> list[int]:
        """Return the sums after projections have moved to where they are not; `analog` are on tiles before."""
        for fqn in fqns:
            change = self._moves.get(fqn)
            if change is None:
                raise self._cannot_move(fqn)
            sums = list(map(operator.sub if fqn in analog else operator.add, sums, change))
        return sums

    def shares(self, sums: list[int]) -> tuple[float, float]:
        """Return the shares of first and of later passes over digital weights that miss the LLC."""
        return overflow_share(sums[6], self._llc_bytes), overflow_share(sums[7], self._llc_bytes)

    def evaluate(self, sums: list[int]) -> MappingCost:
        """Return what a mapping with these sums costs."""
        first, later = self.shares(sums)
        latency_s = sums[0] / _UNIT + first * (sums[1] / _UNIT) + later * (sums[2] / _UNIT)
        energy_j = sums[3] / _UNIT + first * (sums[4] / _UNIT) + later * (sums[5] / _UNIT)
        return MappingCost(latency_s, energy_j, sums[8])

    def _cannot_move(self, fqn: str) -> ConfigError:
        self._graph[fqn]  # raises if there is none
        return ConfigError(
            f"partitions: {fqn!r} is analog but has no tiles, expected a partition for each analog projection",
            hint=suggest(fqn, self._moves, label="given partitions"),
        )


@final
class CostTracker:
    """The cost of a mapping that changes; made by `SystemModel.track`. A change takes as long in any network.

    Args:
        prices: Of the network's projections.
        sums: Of the mapping at first.
        analog: Its projections on tiles.
    """

    def __init__(self, prices: _Prices, sums: list[int], analog: Iterable[str]) -> None:
        self._prices, self._sums, self._analog = prices, sums, set(analog)
        self.cost = prices.evaluate(sums)

    @property
    def analog(self) -> frozenset[str]:
        """Projections on tiles."""
        return frozenset(self._analog)

    def with_change(self, *fqns: str) -> MappingCost:
        """Return what the mapping would cost with projections moved to where they are not, each named once.

        Raises:
            ConfigError: A projection is unknown or has no tiles.
        """
        return self._prices.evaluate(self._prices.move(self._sums, self._analog, fqns))

    def change(self, *fqns: str) -> MappingCost:
        """Move projections to where they are not, each named once, and return the cost.

        Raises:
            ConfigError: A projection is unknown or has no tiles; nothing has changed.
        """
        self._sums = self._prices.move(self._sums, self._analog, fqns)
        self._analog ^= set(fqns)
        self.cost = self._prices.evaluate(self._sums)
        return self.cost


@final
class SystemModel:
    """What mappings of a network cost on one core with tiles, equal to `estimate_system` to rounding.

    Args:
        graph: The network's work per inference, batch 1.
        platform: Core, memory, tiles and cost coefficients.
        partitions: Tiles of the projections that may be analog, by name; computed from the platform's tile if not given.
        count_memory_controller: Add the power of memory controller and IO over the whole time to the energy.
        skip_unpriced: Leave operations without a price out of the totals instead of raising.
        concurrent: Projections that run at the same time as each other, on cores that share the LLC.
        tile: Its converters, and its size where no partitions are given; default: the platform's tile.

    Raises:
        ConfigError: An operation has no price.
        TilingError: A partition does not cover its projection.
    """

    def __init__(
        self,
        graph: LayerGraph,
        platform: PlatformSpec,
        partitions: Mapping[str, TilePartition] | None = None,
        *,
        count_memory_controller: bool = False,
        skip_unpriced: bool = False,
        concurrent: Collection[str] = (),
        tile: TileSpec | None = None,
    ) -> None:
        if skip_unpriced:
            graph = leave_out_unpriced(graph, platform)
        if partitions is None and tile is not None:
            partitions = partition_graph(graph, tile)
        self.graph, self.platform, self._tile = graph, platform, tile
        self._controller, self._concurrent = count_memory_controller, frozenset(concurrent)
        fixed = price_other_ops(graph, platform, count_memory_controller=count_memory_controller)
        self._fixed = add_costs(op.cost for op in fixed)
        self._rows = {}
        for node in graph.nodes:
            known = partitions is None or node.fqn in partitions
            self._rows[node.fqn] = self._price(node, find_partition(node, platform, partitions) if known else None)
        self._prices = _Prices(graph, self._rows, self._fixed, platform.llc_bytes)

    def cost(self, mapping: LayerMapping) -> MappingCost:
        """Return what a mapping costs.

        Raises:
            ConfigError: The mapping is for another network, or an analog projection has no tiles.
        """
        return self._prices.evaluate(self._sums(mapping))

    def track(self, mapping: LayerMapping) -> CostTracker:
        """Return the cost of a mapping that will change, some projections at a time.

        Raises:
            ConfigError: As for `cost`.
        """
        return CostTracker(self._prices, self._sums(mapping), mapping.analog)

    def breakdown(self, mapping: LayerMapping) -> Cost:
        """Return time and energy of a mapping by component.

        Raises:
            ConfigError: As for `cost`.
        """
        first, later = self._prices.shares(self._sums(mapping))
        costs = [self._fixed]
        for fqn, row in self._rows.items():
            if row.analog is not None and mapping.is_analog(fqn):
                costs.append(row.analog)
            else:
                costs += [row.digital, scale_cost(row.first, first), scale_cost(row.later, later)]
        return add_costs(costs)

    def _sums(self, mapping: LayerMapping) -> list[int]:
        if mapping.placements.keys() != self._rows.keys():
            check_mapping(self.graph, mapping)
        return self._prices.move(self._prices.all_digital, (), mapping.analog)

    def _price(self, node: LayerNode, partition: TilePartition | None) -> _Row:
        """Price a projection; what misses cost is the difference between everything missing and nothing."""
        size, shares = node.weights * self.platform.activation_bytes, node.fqn in self._concurrent
        own = 0.0 if shares else float(size)
        digital = self._price_digital(node, 0.0, own)
        minus = scale_cost(digital, -1.0)
        analog = None
        if partition is not None:
            work = analog_projection(node, partition, self.platform, self._tile)
            analog = price_work(work, self.platform, count_memory_controller=self._controller)
        return _Row(
            digital=digital,
            first=add_costs([self._price_digital(node, math.inf, own), minus]),
            later=add_costs([self._price_digital(node, 0.0, math.inf), minus]) if shares else Cost(),
            analog=analog,
            n_bytes=size,
            n_bytes_later=size if shares and node.n_mvms > 1 else 0,
            n_tiles=0 if partition is None else partition.n_tiles,
        )

    def _price_digital(self, node: LayerNode, resident: float, concurrent: float) -> Cost:
        work = digital_projection(node, self.platform, Residency(resident, concurrent))
        return price_work(work, self.platform, count_memory_controller=self._controller)


def _exact(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * (_UNIT // denominator)
