"""Read ``pareto.json`` files that this version or an older version of LionHeart has written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lionheart.errors import ArtifactError
from lionheart.experimental.pareto.records import FrontResults
from lionheart.files import read_json, require_mapping
from lionheart.runs import RunDirectory
from lionheart.runs.upgrade import limit_intervals

RESULTS = "pareto.json"


def read_front(run: RunDirectory) -> FrontResults:
    """Return the results of a search for a Pareto front, read from ``pareto.json`` in a run directory.

    The search may be unfinished. Results of older versions of LionHeart are converted to the format of this version, and the
    file is not changed.

    Args:
        run: Run directory that contains ``pareto.json``.

    Raises:
        ArtifactError: ``pareto.json`` is missing or damaged.
    """
    where = run.file(RESULTS)
    data = _upgrade(read_json(where), where)
    results = FrontResults.from_json(limit_intervals(data, data.get("metric")), str(where))
    named = {*results.front, *(bound.number for bound in results.bounds if bound.number is not None)}
    unknown = sorted(named - set(results.rows))
    if unknown:
        raise ArtifactError(
            f"{where}: 'front' or 'bounds' contains trial {unknown[0]}, expected a trial that is listed in 'mappings'",
            hint="restore the file from a backup, or run the search again",
        )
    return results


def _upgrade(data: Any, where: Path) -> dict[str, Any]:
    """Return the content of ``pareto.json`` in the format of this version.

    Version 1 of the format had the key ``measure`` instead of ``metric``. Its entry ``fresh`` stored the accuracy and the
    accuracy drop on newly programmed simulated chips in one object; version 2 stores the accuracy in an object of its own.

    Args:
        data: Content of ``pareto.json`` in the format of any version.
        where: Path of the file, for error messages.
    """
    results = dict(require_mapping(data, where))
    if results.get("schema_version") == 1 and isinstance(results.get("mappings"), list):
        accuracy = {"name": "accuracy", "drop_unit": "pp", "kind": "share"}
        rows = [_upgrade_row(row) for row in results["mappings"]]
        results |= {"schema_version": 2, "metric": results.get("measure") or accuracy, "mappings": rows}
    return results


def _upgrade_row(row: Any) -> Any:
    if not isinstance(row, Mapping) or not isinstance(row.get("fresh"), Mapping):
        return row
    fresh = row["fresh"]
    return {**row, "fresh": {"accuracy": fresh, "drop_pp": fresh.get("drop_pp")}}
