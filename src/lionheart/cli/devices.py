"""The command ``lionheart devices``, which lists memory technologies and their constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from lionheart.cli.console import make_table, print_json, stderr
from lionheart.cli.options import JsonFlag

if TYPE_CHECKING:
    from lionheart.constants import Constant


@final
@dataclass(frozen=True)
class TechnologyRow:
    """Name and description of one memory technology in the list of all memory technologies.

    Args:
        technology: Name of the memory technology.
        summary: Description in one line.
    """

    technology: str
    summary: str


@final
@dataclass(frozen=True)
class TechnologyList:
    """All memory technologies that lionheart can simulate, for the output of ``lionheart devices``.

    Args:
        technologies: One row for each memory technology.
    """

    technologies: tuple[TechnologyRow, ...]


@final
@dataclass(frozen=True)
class TechnologyPage:
    """Settings and constants of one memory technology.

    Args:
        technology: Name of the memory technology.
        summary: Description in one line.
        constants: Physical constants by name, with unit and source. The `kind` of a constant states how its value was obtained:
            measured, fitted, derived or assumed.
        settings: Descriptions of all settings of the technology, by name of the setting.
    """

    technology: str
    summary: str
    constants: Mapping[str, Constant]
    settings: Mapping[str, str]


def devices(
    technology: Annotated[
        str | None,
        typer.Argument(
            metavar="DEVICE",
            help="Memory technology, or TOML file of a user-defined device. Without it, list all technologies.",
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the memory technologies, or the constants and settings of one technology.

    Each constant is shown with its unit, its source and its kind: measured,
    fitted, derived or assumed.
    """
    if technology is None:
        listed = list_technologies()
        if as_json:
            print_json(asdict(listed))
        else:
            _show_list(listed)
        return
    page = describe_technology(technology)
    if as_json:
        print_json(asdict(page))
    else:
        _show_page(page)


def list_technologies() -> TechnologyList:
    """Return the name and the summary of each memory technology."""
    from lionheart.devices import DEVICES

    return TechnologyList(tuple(TechnologyRow(name, each.spec.summary) for name, each in DEVICES.items()))


def describe_technology(name: str) -> TechnologyPage:
    """Return the settings of a memory technology, and its physical constants with their sources.

    Args:
        name: Name of the memory technology, or TOML file of a user-defined device.

    Raises:
        ConfigError: The technology is unknown.
        ArtifactError: The file cannot be read.
    """
    from lionheart.constants import load_constants
    from lionheart.devices import DEVICES, DeviceSpec
    from lionheart.devices.table import read_device_constants

    if name not in DEVICES and name.endswith(".toml"):
        device = DeviceSpec.from_toml(name)
        return _describe(type(device), read_device_constants(Path(name)))
    spec = DEVICES.find(name).spec
    constants = load_constants("lionheart.devices", spec.constants_file) if spec.constants_file else {}
    return _describe(spec, {key: value for key, value in constants.items() if _belongs(key, spec.model_fields)})


def _belongs(constant: str, settings: Any) -> bool:
    """Return whether `constant` is the name of one of the `settings`, or begins with such a name and an underscore."""
    return any(constant == name or constant.startswith(f"{name}_") for name in settings)


def _describe(spec: Any, constants: Mapping[str, Constant]) -> TechnologyPage:
    return TechnologyPage(
        technology=spec.model_fields["technology"].default,
        summary=spec.summary,
        constants=constants,
        settings={name: field.description for name, field in spec.model_fields.items()},
    )


def _show_list(listed: TechnologyList) -> None:
    table = make_table("memory technologies", "technology", "description")
    for row in listed.technologies:
        table.add_row(row.technology, row.summary)
    stderr.print(table)
    stderr.print(
        "`lionheart devices pcm` shows the constants of one technology. Use and definition of devices: "
        "docs/how-to/devices.md.",
    )


def _show_page(page: TechnologyPage) -> None:
    stderr.print(f"{page.technology}: {page.summary}", style="bold")
    for name, constant in page.constants.items():
        stderr.print(f"{name} = {constant.value} [{constant.unit}] ({constant.kind})")
        stderr.print(f"    {constant.source}")
    table = make_table("other settings" if page.constants else "settings", "setting", "meaning")
    for name, text in page.settings.items():
        if name not in page.constants:
            table.add_row(name, text)
    stderr.print(table)
