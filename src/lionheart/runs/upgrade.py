"""Results of older versions, read as those of this one. The only place that knows how they were written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lionheart.errors import ArtifactError
from lionheart.files import require_mapping
from lionheart.runs.records import RESULTS_VERSION

_ACCURACY = {"metric": {"name": "accuracy", "drop_unit": "pp", "kind": "share"}}


def upgrade(data: Any, where: Path) -> dict[str, Any]:
    """Return the plain data of ``results.json`` as this version writes them.

    Version 1 had the names ``measure``, ``limit_pp``, ``certificate`` and ``reprogramming``, flat hold-out tests, and called
    the retrained network's accuracy ``test_digital_accuracy``. What it did not have yet has the record's default.

    Args:
        data: What the file holds.
        where: Its name, for errors.

    Raises:
        ArtifactError: The version is unknown.
    """
    results = dict(require_mapping(data, where))
    version = results.get("schema_version")
    if version == RESULTS_VERSION:
        return results
    if version != 1:
        raise ArtifactError(
            f"{where}: schema_version: got {version!r}, expected 1 or {RESULTS_VERSION}",
            hint="this file was written by another version of lionheart",
        )
    results |= {"schema_version": RESULTS_VERSION, "metric": results.get("measure") or _ACCURACY["metric"]}
    results["retrained_test_accuracy"] = results.get("test_digital_accuracy")
    results["decisions"] = [_upgrade_decision(each) for each in _items(results.get("decisions"))]
    results["holdout_tests"] = [_upgrade_test(each) for each in _items(results.get("certificate"))]
    refresh = results.get("reprogramming")
    if isinstance(refresh, Mapping):
        results["refresh"] = {**refresh, "measured": [_rename(each) for each in _items(refresh.get("measured"))]}
    optional = ("notes", "tiles", "system", "test_over_time", "validation_over_time", "objective", "n_steps")
    return {key: value for key, value in results.items() if value is not None or key not in optional}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _rename(row: Any) -> Any:
    """Return a row with ``drop_ucb_pp`` for ``limit_pp``; the first versions held the drop itself against the bound."""
    if not isinstance(row, Mapping):
        return row
    limit = row.get("limit_pp")
    return {**row, "drop_ucb_pp": row.get("drop_pp") if limit is None else limit}


def _upgrade_decision(row: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    renamed = dict(_rename(row))
    return {**renamed, "note": renamed.get("note") or "", "n_remeasured": renamed.get("n_remeasured") or 0}


def _upgrade_test(row: Any) -> Any:
    if not isinstance(row, Mapping):
        return row
    drop = {"chip_error_pp": 0.0, "sample_error_pp": 0.0, "chip_yield": None, **_rename(row)}
    return {
        "analog": row.get("analog", []),
        "accuracy": row.get("accuracy"),
        "accepted": row.get("accepted"),
        "drop": drop,
    }
