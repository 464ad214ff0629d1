"""The verb `platforms`: which there are, every constant of one, and a template for one's own."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any, final

import typer

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.record import Record


def platforms(
    show: Annotated[
        str | None, typer.Option(metavar="NAME", help="Every constant of a platform or of a TOML file of your own.")
    ] = None,
    template: Annotated[
        bool, typer.Option("--template", help="Write a platform file with every key explained to stdout.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
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
    data = list_platforms() if show is None else describe_platform(show)
    if as_json:
        print_json(data.to_json())
    elif isinstance(data, PlatformList):
        _show_list(data)
    else:
        _show_platform(data)


@final
class PlatformRow(Record):
    """A shipped platform.

    Args:
        platform: Its name.
        description: What it is.
        n_cores: Its cores.
        n_tiles: Its tiles; None = as many as needed.
    """

    platform: str
    description: str
    n_cores: int
    n_tiles: int | None


@final
class PlatformList(Record):
    """All shipped platforms."""

    platforms: tuple[PlatformRow, ...]


@final
class PlatformConstant(Record):
    """A constant of a platform.

    Args:
        value: Its value.
        unit: Of the value.
        source: Where it comes from.
        kind: How it was obtained.
        file: The file that gives it.
    """

    value: Any
    unit: str
    source: str
    kind: str
    file: str


@final
class PlatformDescription(Record):
    """A platform with all its constants.

    Args:
        platform: Its name.
        description: What it is.
        constants: By name.
    """

    platform: str
    description: str
    constants: dict[str, PlatformConstant]


def list_platforms() -> PlatformList:
    """Return name and description of every shipped platform."""
    from lionheart.system import load_platform, platform_names

    rows = (
        PlatformRow(platform=spec.name, description=spec.description, n_cores=spec.n_cores, n_tiles=spec.n_tiles)
        for spec in map(load_platform, platform_names())
    )
    return PlatformList(platforms=tuple(rows))


def describe_platform(name: str) -> PlatformDescription:
    """Return every constant of a platform, with the file that gives it; `name` may be a user's file.

    Raises:
        ConfigError: There is no such platform, or its file has faults.
        ArtifactError: The file cannot be read.
    """
    from lionheart.system import load_platform
    from lionheart.system.platform_files import read_platform_files

    spec, files = load_platform(name), read_platform_files(name)
    order = {field: place for place, field in enumerate(type(spec).model_fields)}
    keys = sorted(files.constants, key=lambda key: order[key.partition(".")[0]])
    return PlatformDescription(
        platform=spec.name,
        description=spec.description,
        constants={key: PlatformConstant(**asdict(files.constants[key]), file=files.origins[key]) for key in keys},
    )


def _show_list(data: PlatformList) -> None:
    table = make_table("platforms", "platform", "what it is")
    for row in data.platforms:
        table.add_row(row.platform, row.description)
    stderr.print(table)
    stderr.print(
        "More on one: lionheart platforms --show hermes. To write your own:\n"
        "$ lionheart platforms --template > mine.toml; docs/platforms.md has more.",
        markup=False,
    )


def _show_platform(data: PlatformDescription) -> None:
    stderr.print(f"{data.platform}: {data.description}", style="bold", markup=False)
    for name, entry in data.constants.items():
        stderr.print(f"{name} = {entry.value} [{entry.unit}] ({entry.kind})", markup=False)
        stderr.print(f"    {entry.source} ({entry.file})", markup=False)
