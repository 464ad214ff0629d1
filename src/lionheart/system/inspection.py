"""The coverage audit of a network: the projections (weight matrices) that can be analog, with their tiles and costs.

For all other projections, the audit gives the reason why they must stay digital.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, final

from pydantic import Field
from pydantic.dataclasses import dataclass

from lionheart.candidates import Candidate, Judgement, find_candidates, list_fields, select_ran
from lionheart.devices import TileSpec
from lionheart.graph import DigitalOp, LayerGraph, LayerNode
from lionheart.graph.blocks import make_pattern, make_unit_pattern, name_units
from lionheart.graph.nodes import GraphTotals, OtherWeight
from lionheart.mapping import LayerMapping
from lionheart.record import Record
from lionheart.runs.costs import CostTotals, PolicyCostRecord
from lionheart.system.estimate import estimate_system
from lionheart.system.platform import load_platform
from lionheart.system.read_policy import TilePlan
from lionheart.system.work import has_price

_Shape = tuple[str, int, int, int]  # layer type, rows, cols, groups


@final
@dataclass(frozen=True, kw_only=True)
class ProjectionAudit(LayerNode, Judgement):
    """A projection (weight matrix) in a coverage audit, with its costs and with the reason if it must stay digital.

    Args:
        unit: Name of the unit that contains the projection. A unit is usually one part of a repeated block, such as the
            attention of a transformer layer.
        digital: Cost on the digital core.
        analog: Cost on tiles; None if the projection must stay digital.
        policy: Read policy on tiles and its cost, included in `analog`; None if the projection must stay digital, or for one
            read without copies and with a static input range.
    """

    unit: str
    digital: CostTotals
    analog: Annotated[CostTotals | None, Field(exclude_if=lambda value: value is None)] = None
    policy: Annotated[PolicyCostRecord | None, Field(exclude_if=lambda value: value is None)] = None


@final
class CoverageTotals(GraphTotals):
    """Numbers of multiply-accumulate operations (MACs) and weights of a network, by possible placement of the projections.

    A projection is a weight matrix. All numbers of MACs are those of one inference.

    Args:
        macs_mappable: MACs of projections that can be analog.
        weights_mappable: Weights of projections that can be analog.
        macs_by_choice: MACs of projections that stay digital because of the include and exclude rules.
        weights_by_choice: Weights of projections that stay digital because of the include and exclude rules.
        macs_not_mappable: MACs of projections that cannot be analog.
        weights_not_mappable: Weights of projections that cannot be analog.
        macs_dynamic: MACs of products of two activations, which are always digital.
        n_tiles_all_analog: Number of tiles that are needed if all projections that can be analog are analog.
        n_units: Number of units. A unit is usually one part of a repeated block.
    """

    macs_mappable: int
    weights_mappable: int
    macs_by_choice: int
    weights_by_choice: int
    macs_not_mappable: int
    weights_not_mappable: int
    macs_dynamic: int
    n_tiles_all_analog: int
    n_units: int


@final
class ProjectionGroup(Record):
    """Projections (weight matrices) of the same shape whose names differ only in numbers, such as those of repeated blocks.

    Args:
        pattern: Common name with placeholders for the numbers; the full name if the group has only one projection.
        layer_type: Layer type, for example ``linear`` or ``conv2d``.
        rows: Inputs of one matrix.
        cols: Outputs of one matrix.
        groups: Number of independent matrices in each projection.
        reason: Reason why the projections must stay digital; empty if they can be analog.
        n_projections: Number of projections in the group.
        macs: Multiply-accumulate operations of the group in one inference.
        weights: Number of weights in the group.
        n_tiles: Number of tiles that the group needs, or would need if its projections must stay digital.
    """

    pattern: str
    layer_type: str
    rows: int
    cols: int
    groups: int
    reason: str
    n_projections: int
    macs: int
    weights: int
    n_tiles: int


@final
class ShapeCount(Record):
    """Number of projections (weight matrices) that have the same shape, in one unit of the network.

    A unit is a set of projections, usually one part of a repeated block.

    Args:
        layer_type: Layer type, for example ``linear`` or ``conv2d``.
        rows: Inputs of one matrix.
        cols: Outputs of one matrix.
        groups: Number of independent matrices in each projection.
        n_projections: Number of projections of this shape.
    """

    layer_type: str
    rows: int
    cols: int
    groups: int
    n_projections: int


@final
class UnitGroup(Record):
    """Units that are the same part of different blocks, such as the attention of each transformer layer.

    A unit is a set of projections (weight matrices), usually one part of a repeated block.

    Args:
        pattern: Common name with placeholders for the numbers; the full name if the group has only one unit.
        n_units: Number of units in the group.
        n_projections: Number of projections in all units of the group.
        shapes: Shapes of the projections in one unit. All units of the group have the same shapes.
        macs: Multiply-accumulate operations of all units in one inference.
        weights: Number of weights in all units.
        n_tiles_mappable: Number of tiles for the projections that can be analog.
        n_mappable: Number of projections that can be analog.
    """

    pattern: str
    n_units: int
    n_projections: int
    shapes: tuple[ShapeCount, ...]
    macs: int
    weights: int
    n_tiles_mappable: int
    n_mappable: int


@final
class CoverageAudit(Record):
    """Coverage audit of a network: costs of each projection (weight matrix), and reasons why projections must stay digital.

    Args:
        task: Name of the network.
        platform: Name of the platform for which costs are computed.
        projections: Shape, tiles and costs of each projection, in the order of the network.
        other_ops: All operations without a weight matrix, one row for each name.
        edges: Pairs of names of projections. The second projection reads the output of the first.
        unused: Names of projections that did not run when the layer graph was created.
        unused_projections: Projections that did not run when the layer graph was created.
        other_weights: Parameters of two or more dimensions that belong to no projection, embedding or norm.
        notes: Notes on the counts, such as example inputs in which no batch dimension was found.
        totals: Sums of MACs, weights and tiles over the network.
        groups: Projections grouped by name and shape, such as those of repeated blocks.
        units: Units (parts of repeated blocks) grouped by name and shapes.
        unpriced_ops: Names of operations for which the platform has no cost.
    """

    task: str
    platform: str
    projections: tuple[ProjectionAudit, ...]
    other_ops: tuple[DigitalOp, ...]
    edges: tuple[tuple[str, str], ...]
    unused: tuple[str, ...]
    unused_projections: tuple[LayerNode, ...] = ()
    other_weights: tuple[OtherWeight, ...] = ()
    notes: tuple[str, ...] = ()
    totals: CoverageTotals
    groups: tuple[ProjectionGroup, ...]
    units: tuple[UnitGroup, ...]
    unpriced_ops: tuple[str, ...]


def audit_coverage(
    graph: LayerGraph,
    name: str,
    *,
    tile: TileSpec | TilePlan | None = None,
    platform: str = "alpine-high-power",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> CoverageAudit:
    """Return the coverage audit of a network: the projections (weight matrices) that can be analog, with their tiles and costs.

    For all other projections, the audit gives the reason why they must stay digital.

    Args:
        graph: Layer graph of the network.
        name: Name of the network, shown in the audit.
        tile: Tile on which the projections are placed, or a `TilePlan` with the tile of each projection; None = the default
            tile.
        platform: Name of the platform for which costs are computed. The audit lists the operations for which the platform has
            no cost.
        include: Rules that select the projections that may become analog; empty = all projections. The rules have the syntax
            that `find_candidates` describes.
        exclude: Rules that select the projections that must stay digital, even if an include rule selects them.

    Raises:
        ConfigError: A rule matches no projection, or the platform is unknown.
    """
    plan, spec = TilePlan.of(tile or TileSpec()), load_platform(platform)
    usual = plan.common or TileSpec()
    candidates = select_ran(graph, find_candidates(graph, usual, include=include, exclude=exclude))
    analog = LayerMapping.from_analog(graph, [c.node.fqn for c in candidates if c.is_mappable])
    partitions = {c.node.fqn: c.partition for c in candidates}
    cost = estimate_system(graph, analog, spec, partitions, skip_unpriced=True, tile=plan)
    units = name_units(graph.fqns)
    rows = zip(candidates, cost.layers, cost.digital_layers, strict=True)
    return CoverageAudit(
        task=name,
        platform=platform,
        projections=tuple(
            ProjectionAudit(
                **list_fields(candidate.node),
                **list_fields(candidate.judgement),
                unit=units[candidate.node.fqn],
                digital=CostTotals(latency_s=digital.latency_s, energy_j=digital.energy_j),
                analog=CostTotals(latency_s=mapped.latency_s, energy_j=mapped.energy_j)
                if candidate.is_mappable
                else None,
                policy=mapped.policy,
            )
            for candidate, mapped, digital in rows
        ),
        other_ops=graph.ops_by_name,
        edges=graph.edges,
        unused=graph.unused,
        unused_projections=graph.unused_projections,
        other_weights=graph.other_weights,
        notes=graph.notes,
        totals=_count_coverage(graph, candidates, n_units=len(set(units.values()))),
        groups=_group(candidates),
        units=_group_units(candidates, units),
        unpriced_ops=tuple(op.name for op in graph.ops_by_name if not has_price(op, spec)),
    )


def _count_coverage(graph: LayerGraph, candidates: Sequence[Candidate], *, n_units: int) -> CoverageTotals:
    """Return sums of MACs, weights and tiles over all projections (weight matrices), by possible placement.

    The sums are separate for projections that can be analog, for projections that stay digital because of the include and
    exclude rules, and for projections that cannot be analog. Tiles are counted only for projections that can be analog.
    """
    mappable = [c for c in candidates if c.is_mappable]
    by_choice = [c for c in candidates if c.by_choice]
    others = [c for c in candidates if not c.is_mappable and not c.by_choice]
    return CoverageTotals(
        **dict(graph.totals),
        macs_mappable=sum(c.node.macs for c in mappable),
        weights_mappable=sum(c.node.weights for c in mappable),
        macs_by_choice=sum(c.node.macs for c in by_choice),
        weights_by_choice=sum(c.node.weights for c in by_choice),
        macs_not_mappable=sum(c.node.macs for c in others),
        weights_not_mappable=sum(c.node.weights for c in others),
        macs_dynamic=sum(op.macs for op in graph.other_ops),
        n_tiles_all_analog=sum(c.partition.n_tiles for c in mappable),
        n_units=n_units,
    )


def _group(candidates: Sequence[Candidate]) -> tuple[ProjectionGroup, ...]:
    """Return groups of projections. In a group, shape and `reason` are equal, and the names differ only in their numbers."""
    groups: dict[tuple[str, str, int, int, int, str], list[Candidate]] = {}
    for candidate in candidates:
        node = candidate.node
        pattern = make_pattern(node.fqn)
        groups.setdefault((pattern, node.layer_type, node.rows, node.cols, node.groups, candidate.reason), []).append(
            candidate
        )
    return tuple(
        ProjectionGroup(
            pattern=key[0] if len(members) > 1 else members[0].node.fqn,
            layer_type=key[1],
            rows=key[2],
            cols=key[3],
            groups=key[4],
            reason=key[5],
            n_projections=len(members),
            macs=sum(c.node.macs for c in members),
            weights=sum(c.node.weights for c in members),
            n_tiles=sum(c.partition.n_tiles for c in members),
        )
        for key, members in groups.items()
    )


def _group_units(candidates: Sequence[Candidate], units: Mapping[str, str]) -> tuple[UnitGroup, ...]:
    """Return groups of units that are the same part of different blocks and contain projections of the same shapes.

    The dict `units` gives the name of the unit of each projection.
    """
    members: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        members.setdefault(units[candidate.node.fqn], []).append(candidate)
    groups: dict[tuple[str, frozenset[tuple[_Shape, int]]], list[str]] = {}
    for unit, inside in members.items():
        key = make_unit_pattern(unit), frozenset(_count_shapes(inside).items())
        groups.setdefault(key, []).append(unit)
    rows = []
    for (pattern, _), names in groups.items():
        inside = [candidate for name in names for candidate in members[name]]
        shapes = _count_shapes(members[names[0]])
        rows.append(
            UnitGroup(
                pattern=pattern if len(names) > 1 else names[0],
                n_units=len(names),
                n_projections=len(inside),
                shapes=tuple(
                    ShapeCount(layer_type=layer_type, rows=n_rows, cols=n_cols, groups=n_groups, n_projections=number)
                    for (layer_type, n_rows, n_cols, n_groups), number in shapes.items()
                ),
                macs=sum(c.node.macs for c in inside),
                weights=sum(c.node.weights for c in inside),
                n_tiles_mappable=sum(c.partition.n_tiles for c in inside if c.is_mappable),
                n_mappable=sum(c.is_mappable for c in inside),
            )
        )
    return tuple(rows)


def _count_shapes(candidates: Iterable[Candidate]) -> Counter[_Shape]:
    return Counter((c.node.layer_type, c.node.rows, c.node.cols, c.node.groups) for c in candidates)
