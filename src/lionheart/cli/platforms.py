"""The command ``lionheart platforms``, which lists hardware platforms, or writes a template for a new platform."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import JsonFlag

if TYPE_CHECKING:
    from lionheart.system.listing import PlatformDescription, PlatformList


def platforms(
    show: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show the constants of this platform: name or TOML file.")
    ] = None,
    template: Annotated[
        bool,
        typer.Option("--template", help="Write a TOML file to stdout that defines a platform and explains each key."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the platforms of the cost model, or the constants of one platform.

    A platform describes CPU cores, memory and analog tiles. Each constant is
    shown with its unit, its source and its kind: measured, fitted, derived or
    assumed.
    """
    from lionheart.errors import ConfigError

    if template and (show is not None or as_json):
        raise ConfigError(
            "--template: got --show or --json too, expected --template alone",
            hint="give --template without these flags, and use a separate command for --show NAME or --json",
        )
    if template:
        from lionheart.system.platform_template import render_template

        sys.stdout.write(render_template())
        return
    from lionheart.system.listing import describe_platform, list_platforms

    if show is None:
        found = list_platforms()
        print_json(found.to_json()) if as_json else _show_list(found)
    else:
        platform = describe_platform(show)
        print_json(platform.to_json()) if as_json else _show_platform(platform)


def _show_list(data: PlatformList) -> None:
    table = make_table("platforms", "platform", "description")
    for row in data.platforms:
        table.add_row(row.platform, row.description)
    stderr.print(table)
    stderr.print(
        "`lionheart platforms --show hermes` shows the constants of one platform.\n"
        "`lionheart platforms --template > mine.toml` writes a template for a new platform;\n"
        "docs/how-to/platforms.md explains it.",
    )


def _show_platform(data: PlatformDescription) -> None:
    from lionheart.constants import write_value

    stderr.print(f"{data.platform}: {data.description}", style="bold")
    for name, entry in data.constants.items():
        stderr.print(f"{name} = {write_value(entry.value)} [{entry.unit}] ({entry.kind})")
        stderr.print(f"    {entry.source} ({entry.file})")
