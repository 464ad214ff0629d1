"""Section of the report page that lists the settings, the seed and the software versions of the run."""

from __future__ import annotations

from typing import Any

from lionheart.report.data import ReportData
from lionheart.report.sections._base import SECTIONS, Section
from lionheart.runs.text import flatten_settings

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
    return {"groups": [{"title": title, "pairs": flatten_settings(settings)} for title, settings in groups if settings]}


SECTIONS.add("settings", Section(60, describe))
