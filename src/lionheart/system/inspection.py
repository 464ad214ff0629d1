"""The coverage audit: what of a network may go analog, on how many tiles, at what cost, and why the rest may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lionheart.candidates import Candidate, find_candidates
from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph
from lionheart.graph.blocks import make_pattern, make_unit_pattern, name_units
from lionheart.mapping import LayerMapping
from lionheart.system.estimate import estimate_system
from lionheart.system.platform import load_platform
from lionheart.system.work import has_price

_Shape = tuple[str, int, int, int]  # kind, rows, cols, groups


def audit_coverage(
    graph: LayerGraph,
    name: str,
    *,
    tile: TileSpec | None = None,
    platform: str = "alpine-high-power",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the coverage audit of a network: each projection with shape, unit, work, tiles, and why if it stays digital.

    Args:
        graph: The network.
        name: Of the model.
        tile: Crossbar size.
        platform: Prices both placements of each projection; other operations that it has no price for are named.
        include: Rules of projections that may go analog; none = all.
        exclude: Rules of projections that stay digital.

    Raises:
        ConfigError: A rule matches nothing.
    """
    tile, spec = tile or TileSpec(), load_platform(platform)
    candidates = find_candidates(graph, tile, include=include, exclude=exclude)
    analog = LayerMapping.from_analog(graph, [c.node.fqn for c in candidates if c.is_mappable])
    partitions = {c.node.fqn: c.partition for c in candidates}
    cost = estimate_system(graph, analog, spec, partitions, skip_unpriced=True, tile=tile)
    units = name_units(graph.fqns)
    data = graph.to_json()
    rows = zip(data["projections"], candidates, cost.layers, cost.digital_layers, strict=True)
    for projection, candidate, mapped, digital in rows:
        projection.update(candidate.to_json(), unit=units[candidate.node.fqn])
        projection["digital"] = {"latency_s": digital.latency_s, "energy_j": digital.energy_j}
        if candidate.is_mappable:
            projection["analog"] = {"latency_s": mapped.latency_s, "energy_j": mapped.energy_j}
    data["totals"] |= _count_coverage(graph, candidates) | {"n_units": len(set(units.values()))}
    data["groups"] = _group(candidates)
    data["units"] = _group_units(candidates, units)
    data["other_ops"] = [asdict(op) for op in graph.ops_by_name]
    data["unpriced_ops"] = [op.name for op in graph.ops_by_name if not has_price(op, spec)]
    return {"task": name, "platform": platform, **data}


def _count_coverage(graph: LayerGraph, candidates: Sequence[Candidate]) -> dict[str, int]:
    """Return MACs and weights that may go analog, stay digital by choice, and cannot go analog."""
    totals: dict[str, int] = {}
    parts = {
        "mappable": [c for c in candidates if c.is_mappable],
        "by_choice": [c for c in candidates if c.by_choice],
        "not_mappable": [c for c in candidates if not c.is_mappable and not c.by_choice],
    }
    for part, chosen in parts.items():
        totals[f"macs_{part}"] = sum(c.node.macs for c in chosen)
        totals[f"weights_{part}"] = sum(c.node.weights for c in chosen)
    totals["macs_dynamic"] = sum(op.macs for op in graph.other_ops)
    totals["n_tiles_all_analog"] = sum(c.partition.n_tiles for c in parts["mappable"])
    return totals


def _group(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return projections that differ only in the numbers of their names, such as those of all blocks, together."""
    groups: dict[tuple[str, str, int, int, int, str], list[Candidate]] = {}
    for candidate in candidates:
        node = candidate.node
        pattern = make_pattern(node.fqn)
        groups.setdefault((pattern, node.kind, node.rows, node.cols, node.groups, candidate.reason), []).append(
            candidate
        )
    return [
        {
            "pattern": key[0] if len(members) > 1 else members[0].node.fqn,
            "kind": key[1],
            "rows": key[2],
            "cols": key[3],
            "groups": key[4],
            "reason": key[5],
            "n_projections": len(members),
            "macs": sum(c.node.macs for c in members),
            "weights": sum(c.node.weights for c in members),
            "n_tiles": sum(c.partition.n_tiles for c in members),
        }
        for key, members in groups.items()
    ]


def _group_units(candidates: Sequence[Candidate], units: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return units that are the same part of different blocks together; ``shapes`` are those of one unit."""
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
            {
                "pattern": pattern if len(names) > 1 else names[0],
                "n_units": len(names),
                "n_projections": len(inside),
                "shapes": [
                    {"kind": kind, "rows": n_rows, "cols": n_cols, "groups": n_groups, "n_projections": number}
                    for (kind, n_rows, n_cols, n_groups), number in shapes.items()
                ],
                "macs": sum(c.node.macs for c in inside),
                "weights": sum(c.node.weights for c in inside),
                "n_tiles_mappable": sum(c.partition.n_tiles for c in inside if c.is_mappable),
                "n_mappable": sum(c.is_mappable for c in inside),
            }
        )
    return rows


def _count_shapes(candidates: Iterable[Candidate]) -> Counter[_Shape]:
    return Counter((c.node.kind, c.node.rows, c.node.cols, c.node.groups) for c in candidates)
