"""The verb `settings`: everything that --set takes, with its value in a preset and its meaning."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import ConfigFile, JsonFlag, PresetName, SetFlags


def settings(
    group: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="search, tile, tile.device, train, ...; without one all.")
    ] = None,
    preset: PresetName = "quick",
    config: ConfigFile = None,
    settings: SetFlags = None,
    as_json: JsonFlag = False,
) -> None:
    """List the settings of a run: name, value, meaning."""
    from lionheart.errors import ConfigError, suggest
    from lionheart.jobs import read_settings
    from lionheart.jobs.assignments import describe_settings

    found = describe_settings(read_settings(preset, config, assignments=settings or ()))
    groups = dict.fromkeys(path.rpartition(".")[0] for path in found if "." in path)
    if group is not None and group not in groups:
        raise ConfigError(f"settings: got {group!r}", hint=suggest(group, groups, label="groups"))
    chosen = {path: row for path, row in found.items() if group is None or path.startswith(f"{group}.")}
    if as_json:
        print_json([{"setting": path, "value": row.value, "meaning": row.meaning} for path, row in chosen.items()])
        return
    table = make_table(f"settings, preset {preset}", "setting", "value", "meaning")
    for path, row in chosen.items():
        table.add_row(path, Text(row.text), Text(row.meaning))  # units are in brackets
    stderr.print(table)
