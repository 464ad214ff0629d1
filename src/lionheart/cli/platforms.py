"""The verb `platforms`: which there are, every constant of one, and a template for one's own."""

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
        str | None, typer.Option(metavar="NAME", help="Every constant of a platform or of a TOML file of your own.")
    ] = None,
    template: Annotated[
        bool, typer.Option("--template", help="Write a platform file with every key explained to stdout.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the platforms, or every constant of one with its unit, source and kind, or write a template for your own."""
    from lionheart.errors import ConfigError

    if template and (show is not None or as_json):
        raise ConfigError(
            "--template: got another option with it, expected it alone", hint="--show NAME lists constants"
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
    table = make_table("platforms", "platform", "what it is")
    for row in data.platforms:
        table.add_row(row.platform, row.description)
    stderr.print(table)
    stderr.print(
        "More on one: lionheart platforms --show hermes. To write your own:\n"
        "$ lionheart platforms --template > mine.toml; docs/how-to/platforms.md has more.",
        markup=False,
    )


def _show_platform(data: PlatformDescription) -> None:
    stderr.print(f"{data.platform}: {data.description}", style="bold", markup=False)
    for name, entry in data.constants.items():
        stderr.print(f"{name} = {entry.value} [{entry.unit}] ({entry.kind})", markup=False)
        stderr.print(f"    {entry.source} ({entry.file})", markup=False)
