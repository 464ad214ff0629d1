"""The command ``lionheart sources``, which lists all physical constants with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lionheart.cli.console import print_json, stderr
from lionheart.cli.options import JsonFlag

if TYPE_CHECKING:
    from lionheart.constants import Constant


def sources(as_json: JsonFlag = False) -> None:
    """List all physical constants with value, unit, source and kind.

    The kind states whether a value is measured, fitted, derived or assumed.
    """
    from lionheart.constants import data_files, load_constants
    from lionheart.record import write_record

    data = {file.rpartition("/")[2]: load_constants(package, file) for package, file in data_files()}
    if as_json:
        print_json(write_record(data))
    else:
        show_sources(data)


def show_sources(data: Mapping[str, Mapping[str, Constant]]) -> None:
    """Print the value, unit, kind and source of all constants.

    Args:
        data: Constants by name of the file and name of the constant.
    """
    from lionheart.constants import write_value

    for file, constants in data.items():
        stderr.print(f"\n{file}", style="bold")
        for name, entry in constants.items():
            stderr.print(f"{name} = {write_value(entry.value)} [{entry.unit}] ({entry.kind})")
            stderr.print(f"    {entry.source}")
