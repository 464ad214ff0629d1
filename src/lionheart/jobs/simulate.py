"""What a finished run's mapping costs on a platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lionheart.errors import ArtifactError
from lionheart.graph import LayerGraph
from lionheart.jobs.evaluate import open_finished
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_graph
from lionheart.system import compare_on_cores, estimate_system, load_platform


@final
@dataclass(frozen=True)
class CoresRequest:
    """What to simulate beside one inference on one core.

    Args:
        n_cores: Cores there are.
        n_inferences: How many pass one after another.
        max_tiles: Crossbars there are; None = as many as the platform has.
        reprogram: Program layers without room again for every inference, at the platform's price; else they stay digital.
    """

    n_cores: int
    n_inferences: int = 10
    max_tiles: int | None = None
    reprogram: bool = False


def estimate_run(
    run_dir: Path | str, platforms: Sequence[str], cores: CoresRequest | None = None
) -> list[dict[str, Any]]:
    """Return time and energy of a finished run's mapping on `platforms`, against all-digital; writes ``system.json``.

    With `cores` each platform has a key ``pipeline`` more: the same on several cores, or with few tiles, with its schedule.
    """
    run = open_finished(run_dir)
    try:
        graph = LayerGraph.from_json(run.read("graph.json", dict[str, Any]))
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{run.file('graph.json')}: damaged: {error}", hint="restore the file") from error
    mapping = LayerMapping.load(run.file("mapping.json"))
    tile = MapSettings.from_json(run.description().settings).tile
    partitions = partition_graph(graph, tile)
    estimates = []
    for platform in map(load_platform, platforms):
        estimate = estimate_system(graph, mapping, platform, partitions, tile=tile).to_json()
        if cores is not None:
            comparison = compare_on_cores(
                graph,
                mapping,
                platform,
                partitions,
                n_cores=cores.n_cores,
                n_inferences=cores.n_inferences,
                max_tiles=cores.max_tiles,
                reprogram=cores.reprogram,
                tile=tile,
            )
            estimate["pipeline"] = comparison.to_json()
        estimates.append(estimate)
    run.write("system.json", {"system": estimates})
    return estimates
