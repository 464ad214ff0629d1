"""What a finished run's mapping costs on a platform."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lionheart.candidates import partition_matrix
from lionheart.errors import ArtifactError
from lionheart.graph import LayerGraph
from lionheart.mapping import LayerMapping
from lionheart.system import estimate_system, load_platform
from lionheart.workflow.evaluate import open_finished
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
    estimates = [
        estimate_system(graph, mapping, load_platform(name), partitions, tile=tile).to_json() for name in platforms
    ]
    run.write("system.json", {"system": estimates})
    return estimates
