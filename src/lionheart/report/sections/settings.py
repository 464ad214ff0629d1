"""Section of the report page that lists the settings, the seed and the software versions of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lionheart.report.data import ReportData
from lionheart.report.sections._base import SECTIONS, Section

_TITLES = {"search": "Search", "tile": "Tile, device and hardware-aware training", "train": "Training"}


def describe(data: ReportData) -> dict[str, Any]:
    """Return the template values of this section: groups of settings, each with a title and pairs of a name and a value.

    Groups without settings are left out.
    """
    run = data.run
    first = {"task": run.task, "seed": run.seed, "created": run.created, "lionheart": run.lionheart_version}
    groups = [
        ("Run", first),
        ("Software and hardware", {} if run.environment is None else run.environment.to_json()),
        *((title, run.settings.get(name)) for name, title in _TITLES.items()),
    ]
    return {"groups": [{"title": title, "pairs": _flatten(settings)} for title, settings in groups if settings]}


def _describe_value(value: Any) -> str:
    """Return the value of a setting as text.

    Booleans become "yes" or "no", None and empty lists become "none", the items of a list are separated by commas, and groups
    in a list show what they set.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.8g}"
    if isinstance(value, list):
        return ", ".join(_describe_value(item) for item in value) or "none"
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {each}' for name, each in value.items() if each is not None) or 'as the tile'})"
    return str(value)


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as a flat list of pairs, each with a dotted name and a value as text.

    Args:
        settings: Settings, whose values may be dicts of further settings. Entries named ``schema_version`` are left out.
        prefix: Text before all names, for example ``"tile."``.
    """
    pairs: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            pairs += _flatten(value, f"{prefix}{name}.")
        elif name != "schema_version":
            pairs.append((f"{prefix}{name}", _describe_value(value)))
    return pairs


SECTIONS.add("settings", Section(60, describe))
