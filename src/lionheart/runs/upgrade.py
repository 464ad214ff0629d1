"""Conversion of run files to the current format, for files that older versions of lionheart wrote.

No other module depends on the older formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lionheart.deprecated import rename_rules, rename_settings
from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import require_mapping
from lionheart.metrics import Metric
from lionheart.runs.records import RESULTS_VERSION

_ACCURACY = {"name": "accuracy", "drop_unit": "pp", "kind": "share"}
_DEPTH = 6  # levels of results.json and pareto.json above the keys of an accuracy
_OPTIONAL = (
    "notes",
    "tiles",
    "system",
    "test_over_time",
    "validation_over_time",
    "objective",
    "n_steps",
    "holdout_tests",
)


def upgrade(data: Any, where: Path) -> dict[str, Any]:
    """Return `data`, the contents of ``results.json``, converted to the current format if the file has version 1.

    Version 1 had other names for some fields (``measure``, ``limit_pp``, ``certificate``, ``reprogramming`` and
    ``test_digital_accuracy``), and did not nest the drop of a hold-out test. Fields that version 1 lacked are omitted here, and
    the class `Results` sets their defaults later. Damaged fields are not changed, so that `Results` rejects them.

    Args:
        data: Contents of the file, as read from JSON.
        where: Path of the file, for error messages.

    Raises:
        ArtifactError: `data` is not a dict, or its ``schema_version`` is unknown.
    """
    results = dict(require_mapping(data, where))
    version = results.get("schema_version")
    if version == RESULTS_VERSION:
        return limit_intervals(results, results.get("metric"))
    if version != 1:
        raise ArtifactError(
            f"{where}: schema_version: got {version!r}, expected 1 or {RESULTS_VERSION}",
            hint="another version of lionheart wrote this file; use the version that 'lionheart_version' in run.json names",
        )
    metric = results.get("measure")
    results |= {"schema_version": RESULTS_VERSION, "metric": _ACCURACY if metric is None else metric}
    results["retrained_test_accuracy"] = results.get("test_digital_accuracy")
    results["holdout_tests"] = _upgrade_rows(results.get("certificate"), _upgrade_test)
    results["refresh"] = _upgrade_refresh(results.get("reprogramming"))
    if "decisions" in results:
        results["decisions"] = _upgrade_rows(results["decisions"], _upgrade_decision)
    results = {key: value for key, value in results.items() if value is not None or key not in _OPTIONAL}
    return limit_intervals(results, results["metric"])


def limit_intervals(data: dict[str, Any], metric: Any) -> dict[str, Any]:
    """Return results of any version in which the confidence intervals of scores are within the limits of the metric.

    Older versions of lionheart wrote intervals of a share that exceed the range from 0 to 1.

    Args:
        data: Plain data of results, or a part of them.
        metric: Plain data of the metric. If they are damaged, the results are not changed.
    """
    try:
        limits = Metric(**metric).clip_interval
    except (ConfigError, TypeError):
        return data

    def limit(part: Any, depth: int = 0) -> Any:
        if isinstance(part, list) and depth < _DEPTH:
            return [limit(each, depth + 1) for each in part]
        if not isinstance(part, dict) or depth >= _DEPTH:
            return part
        changed = {key: limit(value, depth + 1) for key, value in part.items()}
        low, high = part.get("low"), part.get("high")
        if "scores" in part and isinstance(low, (int, float)) and isinstance(high, (int, float)):
            changed["low"], changed["high"] = limits(low, high)
        return changed

    return {key: limit(value, 1) for key, value in data.items()}


def upgrade_graph(data: Any) -> Any:
    """Return `data`, the contents of ``graph.json``, with current instead of old field names. Damaged parts are not changed."""
    if not isinstance(data, Mapping):
        return data
    graph = _renamed(data, {"idle": "unused"})
    for key, names in (
        ("projections", {"kind": "layer_type", "obstacle": "unsupported_reason"}),
        ("other_ops", {"after": "scheduled_after"}),
    ):
        if key in graph:
            graph[key] = _upgrade_rows(graph[key], lambda row, names=names: _renamed(row, names))  # type: ignore[misc]
    return graph


def list_mappable(data: Any) -> list[str]:
    """Return the names of the projections that may run analog, from `data`, the contents of ``graph.json`` of any version.

    Damaged parts are left out.
    """
    rows = data.get("candidates") if isinstance(data, Mapping) else None
    rows = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    return [str(row.get("fqn")) for row in rows if row.get("mappable") is True]


def upgrade_run(data: Any) -> Any:
    """Return `data`, the contents of ``run.json``, with current instead of deprecated setting names and rule prefixes.

    Damaged parts are not changed.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("settings"), Mapping):
        return data
    settings = dict(data["settings"])
    if isinstance(settings.get("search"), Mapping):
        search = rename_settings("SearchSpec", settings["search"], is_file=True)
        for option in ("include", "exclude"):
            if isinstance(search.get(option), list) and all(isinstance(rule, str) for rule in search[option]):
                search[option] = rename_rules(option, search[option], is_file=True)
        settings["search"] = search
    return {**data, "settings": settings}


#: Functions that convert older forms of a run's file, by file name. `upgrade` and `upgrade_run` need further checks.
UPGRADES: Mapping[str, Callable[[Any], Any]] = {"graph.json": upgrade_graph}


def _renamed(row: Any, names: Mapping[str, str]) -> Any:
    return {names.get(key, key): value for key, value in row.items()} if isinstance(row, Mapping) else row


def _upgrade_rows(rows: Any, change: Callable[[Any], Any]) -> Any:
    return [change(row) for row in rows] if isinstance(rows, list) else rows


def _upgrade_refresh(refresh: Any) -> Any:
    if not isinstance(refresh, Mapping) or "measured" not in refresh:
        return refresh
    return {**refresh, "measured": _upgrade_rows(refresh["measured"], _rename)}


def _rename(row: Any) -> Any:
    """Return a copy of `row`, a JSON object of a file of version 1, in which the key ``drop_ucb_pp`` is added.

    ``drop_ucb_pp`` is the drop that was compared with the bound on the drop. Its value is that of ``limit_pp`` or, if this key
    is missing, that of ``drop_pp``: the first versions of lionheart computed no upper confidence bound. If `row` is not a JSON
    object, `row` is returned unchanged.
    """
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
