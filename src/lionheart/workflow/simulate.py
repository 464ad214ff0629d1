"""Questions that need no training: what a network could put on tiles, and what a mapping costs on a platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lionheart.candidates import find_candidates, partition_matrix
from lionheart.errors import ArtifactError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.mapping import LayerMapping
from lionheart.specs import TileSpec
from lionheart.system import estimate_system, load_platform
from lionheart.tasks import Task
from lionheart.workflow.evaluate import open_finished
from lionheart.workflow.map import describe_candidate
from lionheart.workflow.settings import MapSettings


def estimate_run(run_dir: Path | str, platforms: Sequence[str]) -> list[dict[str, Any]]:
    """Return time and energy of a finished run's mapping on `platforms`, against all-digital; writes ``system.json``."""
    run = open_finished(run_dir)
    try:
        graph = LayerGraph.from_json(run.read("graph.json"))
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{run.file('graph.json')}: damaged: {error}", hint="restore the file") from error
    mapping = LayerMapping.load(run.file("mapping.json"))
    tile = MapSettings.from_json(run.description()["settings"]).tile
    partitions = {n.fqn: partition_matrix(n.rows, n.cols, n.groups, tile.rows, tile.cols) for n in graph.nodes}
    estimates = [estimate_system(graph, mapping, load_platform(name), partitions).to_json() for name in platforms]
    run.write("system.json", {"system": estimates})
    return estimates


def inspect_task(task: Task, tile: TileSpec | None = None, platform: str = "alpine-high-power") -> dict[str, Any]:
    """Return every projection with its shape, work, tiles, refusal, and time and energy in both placements."""
    tile = tile or TileSpec()
    graph = trace_graph(task.model, task.example_inputs())
    candidates = find_candidates(graph, tile)
    analog = LayerMapping.from_analog(graph, [c.node.fqn for c in candidates if c.is_mappable])
    partitions = {c.node.fqn: c.partition for c in candidates}
    cost = estimate_system(graph, analog, load_platform(platform), partitions).to_json()
    rows = {row["fqn"]: row for row in cost["layers"]}
    data = graph.to_json()
    for projection, candidate in zip(data["projections"], candidates, strict=True):
        row = rows[candidate.node.fqn]
        projection.update(describe_candidate(candidate))
        projection["digital"] = {"latency_s": row["digital_latency_s"], "energy_j": row["digital_energy_j"]}
        if candidate.is_mappable:
            projection["analog"] = {"latency_s": row["latency_s"], "energy_j": row["energy_j"]}
    mappable = [c for c in candidates if c.is_mappable]
    data["totals"] |= {
        "macs_mappable": sum(c.node.macs for c in mappable),
        "weights_mappable": sum(c.node.weights for c in mappable),
        "n_tiles_all_analog": sum(c.partition.n_tiles for c in mappable),
    }
    return {"task": task.name, "platform": platform, **data}
