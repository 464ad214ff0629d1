"""The verb `sources`: every physical constant and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lionheart.cli.console import print_json, stderr
from lionheart.cli.options import DebugFlag, JsonFlag


def sources(as_json: JsonFlag = False, debug: DebugFlag = False) -> None:
    """List every physical constant with its value, unit, source and kind."""
    from dataclasses import asdict

    from lionheart.constants import data_files, load_constants

    data = {
        file.rpartition("/")[2]: {k: asdict(v) for k, v in load_constants(package, file).items()}
        for package, file in data_files()
    }
    if as_json:
        print_json(data)
    else:
        show_sources(data)


def show_sources(data: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print every constant."""
    for file, constants in data.items():
        stderr.print(f"\n{file}", style="bold")
        for name, entry in constants.items():
            stderr.print(f"{name} = {entry['value']} [{entry['unit']}] ({entry['kind']})", markup=False)
            stderr.print(f"    {entry['source']}", markup=False)
