"""The verb `platforms`: which there are, every constant of one, and a template for one's own."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lionheart.cli.console import make_table, print_json, stderr


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
        print_json(data)
    elif show is None:
        _show_list(data)
    else:
        _show_platform(data)


def list_platforms() -> dict[str, Any]:
    """Return name and description of every shipped platform."""
    from lionheart.system import load_platform, platform_names

    specs = [load_platform(name) for name in platform_names()]
    return {
        "platforms": [
            {"platform": spec.name, "description": spec.description, "n_cores": spec.n_cores, "n_tiles": spec.n_tiles}
            for spec in specs
        ]
    }


def describe_platform(name: str) -> dict[str, Any]:
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
    return {
        "platform": spec.name,
        "description": spec.description,
        "constants": {key: asdict(files.constants[key]) | {"file": files.origins[key]} for key in keys},
    }


def _show_list(data: dict[str, Any]) -> None:
    table = make_table("platforms", "platform", "what it is")
    for row in data["platforms"]:
        table.add_row(row["platform"], row["description"])
    stderr.print(table)
    stderr.print(
        "More on one: lionheart platforms --show hermes. To write your own:\n"
        "$ lionheart platforms --template > mine.toml; docs/how-to/platforms.md has more.",
        markup=False,
    )


def _show_platform(data: dict[str, Any]) -> None:
    stderr.print(f"{data['platform']}: {data['description']}", style="bold", markup=False)
    for name, entry in data["constants"].items():
        stderr.print(f"{name} = {entry['value']} [{entry['unit']}] ({entry['kind']})", markup=False)
        stderr.print(f"    {entry['source']} ({entry['file']})", markup=False)
