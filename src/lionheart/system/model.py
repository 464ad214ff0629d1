"""Cost of many mappings of one network: the cost of each projection (weight matrix) is computed once for each placement.

The placement of a projection influences the cost of the other projections in only one way: all digital weights share the
last-level cache (LLC), and the fraction of the weights that does not fit is read from DRAM. The cost of a digital projection is
linear in this fraction. The cost of a mapping is therefore computed from nine sums over all projections. Moving a projection to
or from the tiles changes each sum by a fixed amount. Sums of times and energies are integers in units
of the smallest positive floating-point number, so that rounding errors do not accumulate when many projections are moved.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

from lionheart.devices import TileSpec
from lionheart.errors import ConfigError, suggest
from lionheart.graph import LayerGraph, LayerNode
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition
from lionheart.system.cost import Cost, add_costs, price_work, scale_cost
from lionheart.system.estimate import leave_out_unpriced, price_other_ops
from lionheart.system.inputs import check_mapping, find_partition
from lionheart.system.platform import PlatformSpec
from lionheart.system.read_policy import TilePlan
from lionheart.system.work import Residency, analog_projection, digital_projection, overflow_share

_UNIT = 1 << 1074  # every finite float is an integer multiple of 1 / _UNIT


@final
@dataclass(frozen=True)
class MappingCost:
    """Cost of one inference of a mapped network. A mapping is the placement of each projection (weight matrix).

    Args:
        latency_s: Time of one inference [s].
        energy_j: Energy of one inference [J].
        n_tiles: Number of tiles that the analog projections need.
    """

    latency_s: float
    energy_j: float
    n_tiles: int


@final
@dataclass(frozen=True)
class _Row:
    """Costs of one projection (weight matrix) on the digital core and on tiles.

    The cost on the core is ``digital + first_share * first + later_share * later``. Here, ``first_share`` and ``later_share``
    are the fractions of reads that miss the last-level cache (LLC), 0 to 1, in the first pass over the weights and in all later
    passes.

    Args:
        digital: Cost on the core without the LLC misses that are counted in `first` and `later`.
        first: Additional cost if all reads in the first pass over the weights miss the LLC.
        later: Additional cost if all reads in later passes miss the LLC. This cost is zero if no other projection runs at the
            same time, because `digital` then includes the misses in later passes.
        analog: Cost on tiles; None if no tiles are known for the projection.
        n_bytes: Size of the weights [bytes].
        n_bytes_later: Size of the weights if the digital projection reads them repeatedly while other projections run, else 0
            [bytes].
        n_tiles: Number of tiles that the projection needs; 0 if no tiles are known.
    """

    digital: Cost
    first: Cost
    later: Cost
    analog: Cost | None
    n_bytes: int
    n_bytes_later: int
    n_tiles: int

    def digital_sums(self) -> list[int]:
        """Return the nine terms that a digital projection adds to the cost sums, in the order listed in `_Prices`."""
        times = [_exact(cost.latency_s) for cost in (self.digital, self.first, self.later)]
        energies = [_exact(cost.energy_j) for cost in (self.digital, self.first, self.later)]
        return [*times, *energies, self.n_bytes, self.n_bytes_later, 0]

    def analog_sums(self) -> list[int]:
        """Return the nine terms that a projection on tiles adds to the cost sums, in the order listed in `_Prices`."""
        cost = self.analog or Cost()
        return [_exact(cost.latency_s), 0, 0, _exact(cost.energy_j), 0, 0, 0, 0, self.n_tiles]


@final
class _Prices:
    """Cost sums of the all-digital network, and the change of each sum when a projection (weight matrix) moves to tiles.

    The cost of a mapping is computed from nine sums over all projections and other operations, in this order:

    - sum 0: time without the cache misses in sums 1 and 2;
    - sum 1: additional time if all reads in first passes over digital weights miss the last-level cache (LLC);
    - sum 2: additional time if all reads in later passes miss the LLC while other projections run;
    - sums 3 to 5: energies that correspond to the times in sums 0 to 2;
    - sum 6: size of all digital weights [bytes];
    - sum 7: size of the digital weights that are read repeatedly while other projections run [bytes];
    - sum 8: number of tiles.

    Times and energies are integers in units of ``2**-1074`` s and ``2**-1074`` J.

    Args:
        graph: Layer graph of the network.
        rows: Costs of each projection on the core and on tiles, by name.
        fixed: Cost of all other operations, which is equal in every mapping.
        llc_bytes: Capacity of the LLC [bytes].
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
        """Return the nine cost sums after the projections `fqns` have moved. `sums` are the cost sums before the moves.

        A projection that is named in `analog` moves from tiles to the core. Any other projection moves from the core to tiles.
        """
        for fqn in fqns:
            change = self._moves.get(fqn)
            if change is None:
                raise self._cannot_move(fqn)
            sums = list(map(operator.sub if fqn in analog else operator.add, sums, change))
        return sums

    def shares(self, sums: list[int]) -> tuple[float, float]:
        """Return the fractions of weight reads that miss the LLC in first and in later passes, 0 to 1, from the cost sums."""
        return overflow_share(sums[6], self._llc_bytes), overflow_share(sums[7], self._llc_bytes)

    def evaluate(self, sums: list[int]) -> MappingCost:
        """Return the cost of the mapping for which `sums` are the nine cost sums."""
        first, later = self.shares(sums)
        latency_s = sums[0] / _UNIT + first * (sums[1] / _UNIT) + later * (sums[2] / _UNIT)
        energy_j = sums[3] / _UNIT + first * (sums[4] / _UNIT) + later * (sums[5] / _UNIT)
        return MappingCost(latency_s, energy_j, sums[8])

    def _cannot_move(self, fqn: str) -> ConfigError:
        self._graph[fqn]  # raises if the projection does not exist
        return ConfigError(
            f"partitions: {fqn!r} is analog but has no tiles, expected tiles for each analog projection (weight matrix)",
            hint=suggest(fqn, self._moves, label="projections with tiles"),
        )


@final
class CostTracker:
    """Tracker that updates the cost of a mapping when single projections (weight matrices) move between tiles and core.

    `SystemModel.track` creates the tracker. The attribute `cost` is the cost of the current mapping. The time for an update
    does not depend on the size of the network.

    Args:
        prices: Changes of the nine cost sums when a projection moves, for each projection of the network.
        sums: Cost sums of the initial mapping, in the order listed in `_Prices`.
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
        """Return the cost that the mapping would have if the projections `fqns` were moved. The mapping does not change.

        A projection on tiles would be moved to the core, and a projection on the core would be moved to tiles. Each name may be
        given only once.

        Raises:
            ConfigError: A name in `fqns` is not a projection of the network, or no tiles are known for the projection.
        """
        return self._prices.evaluate(self._prices.move(self._sums, self._analog, fqns))

    def change(self, *fqns: str) -> MappingCost:
        """Move each projection in `fqns` to the core if it is on tiles, else to tiles, and return the new cost of the mapping.

        Each name may be given only once.

        Raises:
            ConfigError: A name in `fqns` is not a projection of the network, or no tiles are known for the projection. In this
                case the mapping is unchanged.
        """
        self._sums = self._prices.move(self._sums, self._analog, fqns)
        self._analog ^= set(fqns)
        self.cost = self._prices.evaluate(self._sums)
        return self.cost


@final
class SystemModel:
    """Model that computes the time and energy of many mappings of one network on one core with tiles.

    The times and energies equal those computed by `estimate_system` up to rounding. A mapping is the placement of each
    projection (weight matrix).

    Args:
        graph: Layer graph of the network, with the work of one inference (batch size 1).
        platform: Core, memory, tiles and cost coefficients.
        partitions: Tiles of each projection that can be analog, by name; None = computed from the size of `tile`, or of the
            platform's tile if `tile` is None.
        count_memory_controller: Whether to add the energy of the memory controller and IO, which is their power times the time
            of the inference.
        skip_unpriced: Whether to leave operations for which the platform has no cost out of the totals instead of raising an
            error.
        concurrent: Names of projections that run at the same time, on cores that share the last-level cache.
        tile: Tile that gives the converter resolutions and the read policy, and the tile size if `partitions` is None; a
            `TilePlan` gives the tile of each projection; None = the platform's tile.

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
        tile: TileSpec | TilePlan | None = None,
    ) -> None:
        if skip_unpriced:
            graph = leave_out_unpriced(graph, platform)
        self.graph, self.platform, self.tiles = graph, platform, TilePlan.of(tile)
        self._controller, self._concurrent = count_memory_controller, frozenset(concurrent)
        fixed = price_other_ops(graph, platform, count_memory_controller=count_memory_controller)
        self._fixed = add_costs(op.cost for op in fixed)
        self._partitions = {
            node.fqn: find_partition(node, platform, partitions, self.tiles.find(node.fqn))
            for node in graph.nodes
            if partitions is None or node.fqn in partitions
        }
        self._rows = {node.fqn: self._price(node, self._partitions.get(node.fqn)) for node in graph.nodes}
        self._prices = _Prices(graph, self._rows, self._fixed, platform.llc_bytes)

    def cost(self, mapping: LayerMapping) -> MappingCost:
        """Return the time and energy of one inference with a mapping, and the number of tiles that the mapping needs.

        Raises:
            ConfigError: The mapping belongs to another network, or no tiles are known for an analog projection.
        """
        return self._prices.evaluate(self._sums(mapping))

    def track(self, mapping: LayerMapping) -> CostTracker:
        """Return a tracker of the cost of a mapping that changes by a few projections (weight matrices) at a time.

        Args:
            mapping: Initial mapping.

        Raises:
            ConfigError: The mapping belongs to another network, or no tiles are known for an analog projection.
        """
        return CostTracker(self._prices, self._sums(mapping), mapping.analog)

    def breakdown(self, mapping: LayerMapping) -> Cost:
        """Return the time and energy of one inference with a mapping, by component, such as products and memory accesses.

        Raises:
            ConfigError: The mapping belongs to another network, or no tiles are known for an analog projection.
        """
        first, later = self._prices.shares(self._sums(mapping))
        costs = [self._fixed]
        for fqn, row in self._rows.items():
            if row.analog is not None and mapping.is_analog(fqn):
                costs.append(row.analog)
            else:
                costs += [row.digital, scale_cost(row.first, first), scale_cost(row.later, later)]
        return add_costs(costs)

    def with_tiles(self, own: Mapping[str, TileSpec]) -> SystemModel:
        """Return a copy of the model in which the projections named in `own` have these tiles, for example other read policies.

        Only the costs of these projections are computed again. All tiles have the size of the present ones.

        Args:
            own: Tiles of single projections, by name. Projections without an entry keep their tile.

        Raises:
            ConfigError: A name in `own` is not a projection of the network, or no tiles are known for the projection.
        """
        changed = copy.copy(self)
        changed.tiles = TilePlan(self.tiles.usual, {**self.tiles.own, **own})
        changed._rows = dict(self._rows)
        for fqn, tile in own.items():
            cost = self.analog_cost(fqn, tile)
            changed._rows[fqn] = replace(self._rows[fqn], analog=cost)
        changed._prices = _Prices(self.graph, changed._rows, self._fixed, self.platform.llc_bytes)
        return changed

    def analog_cost(self, fqn: str, tile: TileSpec | None = None) -> Cost:
        """Return the cost of one projection (weight matrix) on tiles, which does not depend on the other projections.

        Args:
            fqn: Name of the projection.
            tile: Tile with another read policy; None = the projection's own tile.

        Raises:
            ConfigError: `fqn` is not a projection of the network, or no tiles are known for the projection.
        """
        node = self.graph[fqn]
        partition = find_partition(node, self.platform, self._partitions)
        return self._price_analog(node, partition, tile or self.tiles.find(fqn))

    def _sums(self, mapping: LayerMapping) -> list[int]:
        if mapping.placements.keys() != self._rows.keys():
            check_mapping(self.graph, mapping)
        return self._prices.move(self._prices.all_digital, (), mapping.analog)

    def _price(self, node: LayerNode, partition: TilePartition | None) -> _Row:
        """Return the costs of a projection (weight matrix) on the core and on the tiles in `partition`, if given.

        The additional cost of cache misses is the cost if all reads miss minus the cost if no reads miss.
        """
        size, shares = node.weights * self.platform.activation_bytes, node.fqn in self._concurrent
        own = 0.0 if shares else float(size)
        digital = self._price_digital(node, 0.0, own)
        minus = scale_cost(digital, -1.0)
        analog = None
        if partition is not None:
            analog = self._price_analog(node, partition, self.tiles.find(node.fqn))
        return _Row(
            digital=digital,
            first=add_costs([self._price_digital(node, math.inf, own), minus]),
            later=add_costs([self._price_digital(node, 0.0, math.inf), minus]) if shares else Cost(),
            analog=analog,
            n_bytes=size,
            n_bytes_later=size if shares and node.n_mvms > 1 else 0,
            n_tiles=0 if partition is None else partition.n_tiles,
        )

    def _price_analog(self, node: LayerNode, partition: TilePartition, tile: TileSpec | None) -> Cost:
        work = analog_projection(node, partition, self.platform, tile)
        return price_work(work, self.platform, count_memory_controller=self._controller)

    def _price_digital(self, node: LayerNode, resident: float, concurrent: float) -> Cost:
        work = digital_projection(node, self.platform, Residency(resident, concurrent))
        return price_work(work, self.platform, count_memory_controller=self._controller)


def _exact(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * (_UNIT // denominator)
