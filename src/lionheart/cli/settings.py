"""The command ``lionheart settings``, which lists the settings that --set accepts, with value and description."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import ConfigFile, JsonFlag, PresetName, SetFlags


def settings(
    group: Annotated[
        str | None,
        typer.Argument(
            metavar="GROUP",
            help="Group of settings: search, tile, tile.device, tile.hwa, train or pareto. Without it, list all settings.",
        ),
    ] = None,
    preset: PresetName = "fast",
    config: ConfigFile = None,
    settings: SetFlags = None,
    as_json: JsonFlag = False,
) -> None:
    """List the settings that --set accepts: name, value and description.

    The values are those of the preset, overridden by --config and --set.
    """
    from lionheart.errors import ConfigError, suggest
    from lionheart.jobs import read_settings
    from lionheart.jobs.assignments import describe_settings

    found = describe_settings(read_settings(preset, config, assignments=settings or ()))
    groups = dict.fromkeys(path.rpartition(".")[0] for path in found if "." in path)
    if group is not None and group not in groups:
        raise ConfigError(
            f"settings: got {group!r}, expected the name of a group of settings",
            hint=suggest(group, groups, label="groups"),
        )
    chosen = {path: row for path, row in found.items() if group is None or path.startswith(f"{group}.")}
    if as_json:
        print_json([{"setting": path, "value": row.value, "meaning": row.meaning} for path, row in chosen.items()])
        return
    table = make_table(f"settings, preset {preset}", "setting", "value", "description")
    for path, row in chosen.items():
        table.add_row(path, Text(row.text), Text(row.meaning))  # brackets around units are no markup
    stderr.print(table)
