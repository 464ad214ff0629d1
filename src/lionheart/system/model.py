"""Cost of many mappings of one network: the cost of each projection (weight matrix) is computed once for each placement.

The cost of a mapping is then a sum. Projections influence each other in only one way: all digital weights share the last-level
cache (LLC), and the fraction that does not fit is read from DRAM. The cost of a digital projection is linear in this fraction.
The cost of a mapping therefore follows from a few sums, and moving a projection to or from the tiles changes each sum by a
fixed amount. The sums are integers in units of the smallest positive floating-point number, so that no number of moves causes
rounding errors.
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

_UNIT = 1 << 1074  # every finite float is an integer multiple of 1 / _UNIT


@final
@dataclass(frozen=True)
class MappingCost:
    """Cost of one inference of a network with a certain mapping.

    Args:
        latency_s: Time of one inference [s].
        energy_j: Energy of one inference [J].
        n_tiles: Number of tiles that the analog projections (weight matrices) need.
    """

    latency_s: float
    energy_j: float
    n_tiles: int


@final
@dataclass(frozen=True)
class _Row:
    """Costs of one projection (weight matrix) in both placements.

    The cost of the digital projection is ``digital + first_share * first + later_share * later``. The two shares are the
    fractions of reads that miss the last-level cache (LLC), 0 to 1.

    Args:
        digital: Cost on the core if other projections cause no LLC misses.
        first: Additional cost if all reads in the first pass over the weights miss the LLC.
        later: Additional cost if all reads in later passes miss the LLC; zero if these misses depend only on the size of this
            projection.
        analog: Cost on tiles; None if no tiles are known for the projection.
        n_bytes: Size of the weights [bytes].
        n_bytes_later: Size of the weights if the digital projection reads them repeatedly while other projections run, else 0
            [bytes].
        n_tiles: Number of tiles that the projection needs.
    """

    digital: Cost
    first: Cost
    later: Cost
    analog: Cost | None
    n_bytes: int
    n_bytes_later: int
    n_tiles: int

    def digital_sums(self) -> list[int]:
        """Return the contribution of the projection to the nine sums in `_Prices` if the projection is digital."""
        times = [_exact(cost.latency_s) for cost in (self.digital, self.first, self.later)]
        energies = [_exact(cost.energy_j) for cost in (self.digital, self.first, self.later)]
        return [*times, *energies, self.n_bytes, self.n_bytes_later, 0]

    def analog_sums(self) -> list[int]:
        """Return the contribution of the projection to the nine sums in `_Prices` if the projection is on tiles."""
        cost = self.analog or Cost()
        return [_exact(cost.latency_s), 0, 0, _exact(cost.energy_j), 0, 0, 0, 0, self.n_tiles]


@final
class _Prices:
    """Sums that determine the cost of a mapping, and the change of these sums when a projection moves to tiles.

    There are nine sums over all projections (weight matrices) and other operations, in this order:

    - times: without cache misses; added if all first passes over weights miss; added if all later passes miss;
    - energies: the same three cases;
    - bytes: all digital weights; digital weights that are read repeatedly while other projections run;
    - number of tiles.
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
        """Return the sums after each projection in `fqns` has moved: to the core if named in `analog`, else to tiles."""
        for fqn in fqns:
            change = self._moves.get(fqn)
            if change is None:
                raise self._cannot_move(fqn)
            sums = list(map(operator.sub if fqn in analog else operator.add, sums, change))
        return sums

    def shares(self, sums: list[int]) -> tuple[float, float]:
        """Return the fractions of reads of digital weights that miss the cache, 0 to 1: in first passes and in later passes."""
        return overflow_share(sums[6], self._llc_bytes), overflow_share(sums[7], self._llc_bytes)

    def evaluate(self, sums: list[int]) -> MappingCost:
        """Return the cost of the mapping whose sums are `sums`."""
        first, later = self.shares(sums)
        latency_s = sums[0] / _UNIT + first * (sums[1] / _UNIT) + later * (sums[2] / _UNIT)
        energy_j = sums[3] / _UNIT + first * (sums[4] / _UNIT) + later * (sums[5] / _UNIT)
        return MappingCost(latency_s, energy_j, sums[8])

    def _cannot_move(self, fqn: str) -> ConfigError:
        self._graph[fqn]  # raises if the projection does not exist
        return ConfigError(
            f"partitions: {fqn!r} is analog but has no tiles, expected an entry for each analog projection (weight matrix)",
            hint=suggest(fqn, self._moves, label="projections with tiles"),
        )


@final
class CostTracker:
    """The cost of a mapping that changes in small steps. `SystemModel.track` creates the tracker.

    The time of an update is independent of the size of the network.

    Args:
        prices: Changes of the cost sums for each projection (weight matrix) of the network.
        sums: Cost sums of the initial mapping.
        analog: Names of the projections that are on tiles in the initial mapping.
    """

    def __init__(self, prices: _Prices, sums: list[int], analog: Iterable[str]) -> None:
        self._prices, self._sums, self._analog = prices, sums, set(analog)
        self.cost = prices.evaluate(sums)

    @property
    def analog(self) -> frozenset[str]:
        """Names of the projections (weight matrices) that are on tiles in the current mapping."""
        return frozenset(self._analog)

    def with_change(self, *fqns: str) -> MappingCost:
        """Return the cost after a move of the projections `fqns` between tiles and core, without changing the mapping.

        Each name may be given only once.

        Raises:
            ConfigError: A projection is unknown or has no tiles.
        """
        return self._prices.evaluate(self._prices.move(self._sums, self._analog, fqns))

    def change(self, *fqns: str) -> MappingCost:
        """Move the projections `fqns` from tiles to the core, or from the core to tiles, and return the new cost.

        Each name may be given only once.

        Raises:
            ConfigError: A projection is unknown or has no tiles. In this case the mapping is unchanged.
        """
        self._sums = self._prices.move(self._sums, self._analog, fqns)
        self._analog ^= set(fqns)
        self.cost = self._prices.evaluate(self._sums)
        return self.cost


@final
class SystemModel:
    """Time and energy of many mappings of one network on one core with tiles.

    The results equal those of `estimate_system` up to rounding. A projection is a weight matrix of the network.

    Args:
        graph: Layer graph of the network, with the work of one inference (batch size 1).
        platform: Core, memory, tiles and cost coefficients.
        partitions: Tiles of each projection that can be analog, by name; None = computed from the size of `tile` or of the
            platform's tile.
        count_memory_controller: Whether to add the energy of the memory controller and IO: their power times the whole time.
        skip_unpriced: Whether to leave operations without a cost out of the totals instead of raising an error.
        concurrent: Names of projections that run at the same time, on cores that share the last-level cache.
        tile: Tile with the converters, and with the size if `partitions` is None; None = the platform's tile.

    Raises:
        ConfigError: An operation has no cost on the platform, and `skip_unpriced` is False.
        TilingError: A partition does not match the shape of its projection.
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
        """Return the time, the energy and the number of tiles of a mapping.

        Raises:
            ConfigError: The mapping belongs to another network, or an analog projection has no tiles.
        """
        return self._prices.evaluate(self._sums(mapping))

    def track(self, mapping: LayerMapping) -> CostTracker:
        """Return a tracker of the cost of a mapping that changes by a few projections (weight matrices) at a time.

        Args:
            mapping: Initial mapping.

        Raises:
            ConfigError: The mapping belongs to another network, or an analog projection has no tiles.
        """
        return CostTracker(self._prices, self._sums(mapping), mapping.analog)

    def breakdown(self, mapping: LayerMapping) -> Cost:
        """Return the time and energy of a mapping, divided into components such as products and memory accesses.

        Raises:
            ConfigError: The mapping belongs to another network, or an analog projection has no tiles.
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
        """Return the costs of a projection in both placements.

        The additional cost of cache misses is the cost if all reads miss minus the cost if no reads miss.
        """
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
