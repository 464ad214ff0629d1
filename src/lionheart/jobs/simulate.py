"""Estimates of time and energy of one inference, for the mapping of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lionheart.graph import LayerGraph
from lionheart.jobs.result import open_finished
from lionheart.jobs.settings import MapSettings
from lionheart.mapping import LayerMapping
from lionheart.partition import partition_graph
from lionheart.system import CoresRequest, SystemRecord, TilePlan, compare_on_cores, estimate_system, load_platform


def estimate_run(
    run_dir: Path | str, platforms: Sequence[str], cores: CoresRequest | None = None
) -> list[SystemRecord]:
    """Estimate time and energy of one inference with the mapping of a finished run, and write ``system.json``.

    Time and energy of the all-digital network are estimated as well. ``system.json`` is written to the run directory.

    Args:
        run_dir: Directory of a finished run.
        platforms: Platforms to estimate for, each a name or the path of a platform file.
        cores: Numbers of cores, inferences and tiles for which a schedule of the inferences is computed; None = no schedule.

    Returns:
        One record for each platform. If `cores` is given, the field `pipeline` of the record contains the schedule.

    Raises:
        ArtifactError: The run is missing or has not finished.
    """
    run = open_finished(run_dir)
    graph = run.read("graph.json", LayerGraph)
    mapping = LayerMapping.load(run.file("mapping.json"))
    tile = MapSettings.from_json(run.description().settings).tile
    partitions = partition_graph(graph, tile)
    plan = TilePlan.from_changes(tile, run.results().tiles, mapping)
    estimates = []
    for platform in map(load_platform, platforms):
        estimate = estimate_system(graph, mapping, platform, partitions, tile=plan).summary()
        if cores is not None:
            comparison = compare_on_cores(graph, mapping, platform, partitions, cores, tile=plan)
            estimate = estimate.replace(pipeline=comparison.summary())
        estimates.append(estimate)
    run.write_or_warn("system.json", {"system": [estimate.to_json() for estimate in estimates]})
    return estimates
