"""The verb `devices`: which technologies there are, and the constants of one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lionheart.cli.console import make_table, print_json, stderr


def devices(
    technology: Annotated[
        str | None, typer.Argument(metavar="[DEVICE]", help="A technology, or the TOML file of a device of your own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the result as JSON to stdout.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """List the memory technologies, or every constant of one with its unit, source and kind."""
    data = list_technologies() if technology is None else describe_technology(technology)
    if as_json:
        print_json(data)
    elif technology is None:
        table = make_table("memory technologies", "technology", "what it is")
        for row in data["technologies"]:
            table.add_row(row["technology"], row["summary"])
        stderr.print(table)
        stderr.print("More on one: lionheart devices pcm. How to use and define them: docs/devices.md.", markup=False)
    else:
        _show_technology(data)


def list_technologies() -> dict[str, Any]:
    """Return name and summary of every technology."""
    from lionheart.devices import DEVICES

    return {"technologies": [{"technology": name, "summary": each.spec.summary} for name, each in DEVICES.items()]}


def describe_technology(name: str) -> dict[str, Any]:
    """Return the settings of a technology, and its constants with their sources; `name` may be a device's TOML file.

    Raises:
        ConfigError: There is no such technology.
        ArtifactError: The file cannot be read.
    """
    from lionheart.constants import load_constants
    from lionheart.devices import DEVICES, DeviceSpec
    from lionheart.devices.table import read_device_constants

    if name not in DEVICES and name.endswith(".toml"):
        device = DeviceSpec.from_toml(name)
        constants = read_device_constants(Path(name))
        return _describe(type(device), {key: asdict(value) for key, value in constants.items()})
    kind = DEVICES.find(name).spec
    constants = load_constants("lionheart.devices", kind.constants_file) if kind.constants_file else {}
    shown = {key: asdict(value) for key, value in constants.items() if _belongs(key, kind.model_fields)}
    return _describe(kind, shown)


def _belongs(constant: str, settings: Any) -> bool:
    """Whether a setting has this constant as its default, or as one of several that it chooses from."""
    return any(constant == name or constant.startswith(f"{name}_") for name in settings)


def _describe(kind: Any, constants: dict[str, Any]) -> dict[str, Any]:
    return {
        "technology": kind.model_fields["technology"].default,
        "summary": kind.summary,
        "constants": constants,
        "settings": {name: field.description for name, field in kind.model_fields.items()},
    }


def _show_technology(data: dict[str, Any]) -> None:
    stderr.print(f"{data['technology']}: {data['summary']}", style="bold", markup=False)
    for name, entry in data["constants"].items():
        stderr.print(f"{name} = {entry['value']} [{entry['unit']}] ({entry['kind']})", markup=False)
        stderr.print(f"    {entry['source']}", markup=False)
    others = {name: text for name, text in data["settings"].items() if name not in data["constants"]}
    table = make_table("settings besides these" if data["constants"] else "settings", "setting", "meaning")
    for name, text in others.items():
        table.add_row(name, text)
    stderr.print(table, markup=False)
