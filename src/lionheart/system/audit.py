"""The coverage audit: what of a network may go analog, on how many tiles, at what cost, and why the rest may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lionheart.candidates import Candidate, find_candidates
from lionheart.graph import LayerGraph
from lionheart.mapping import LayerMapping
from lionheart.specs import TileSpec
from lionheart.system.estimate import estimate_system
from lionheart.system.platform import load_platform
from lionheart.system.work import has_price


def audit_coverage(
    graph: LayerGraph,
    name: str,
    *,
    tile: TileSpec | None = None,
    platform: str = "alpine-high-power",
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the coverage audit of a network: every projection with shape, work, tiles, and the reason if it stays digital.

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
    cost = estimate_system(graph, analog, spec, partitions, skip_unpriced=True)
    data = graph.to_json()
    rows = zip(data["projections"], candidates, cost.layers, cost.digital_layers, strict=True)
    for projection, candidate, mapped, digital in rows:
        projection.update(candidate.to_json())
        projection["digital"] = {"latency_s": digital.latency_s, "energy_j": digital.energy_j}
        if candidate.is_mappable:
            projection["analog"] = {"latency_s": mapped.latency_s, "energy_j": mapped.energy_j}
    data["totals"] |= _count_coverage(graph, candidates)
    data["groups"] = _group(candidates)
    data["unpriced_ops"] = [op.name for op in graph.other_ops if not has_price(op, spec)]
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
        pattern = ".".join("*" if part.isdigit() else part for part in node.fqn.split("."))
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
