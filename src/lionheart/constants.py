"""Physical constants: TOML files in which every number has a unit, a source and a kind."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, final

from lionheart.errors import ArtifactError

KINDS = ("measured", "fitted", "derived", "assumed")
_DATA_PACKAGES = ("lionheart.specs", "lionheart.system")


@final
@dataclass(frozen=True)
class Constant:
    """One number (or list of numbers) with where it comes from.

    Args:
        value: The number.
        unit: Its unit, ``"1"`` when it has none.
        source: Paper with table, equation or page; for an assumption, the reason.
        kind: ``measured``, ``fitted``, ``derived`` or ``assumed``.
    """

    value: Any
    unit: str
    source: str
    kind: str


def parse_constants(text: str, where: str) -> Mapping[str, Constant]:
    """Read constants from TOML; nested tables become dotted names.

    Raises:
        ArtifactError: An entry lacks value, unit, source or kind, or its kind is unknown.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArtifactError(f"{where}: not valid TOML: {error}", hint="mend the file") from error
    found: dict[str, Constant] = {}
    for name, table in _walk(tree, where):
        if set(table) != {"value", "unit", "source", "kind"}:
            raise ArtifactError(
                f"{where}:{name}: got the keys {sorted(table)}, expected value, unit, source and kind",
                hint="every constant says where it comes from",
            )
        if table["kind"] not in KINDS:
            raise ArtifactError(f"{where}:{name}.kind: got {table['kind']!r}, expected one of {', '.join(KINDS)}")
        found[name] = Constant(**table)
    return found


def _walk(tree: Mapping[str, Any], where: str, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in tree.items():
        if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
            yield from _walk(value, where, f"{prefix}{key}.")
        elif isinstance(value, dict):
            yield f"{prefix}{key}", value
        elif not isinstance(value, str):  # a bare text, such as a title, is no constant
            raise ArtifactError(
                f"{where}:{prefix}{key}: got the bare value {value!r}, expected value, unit, source and kind",
                hint="every constant says where it comes from",
            )


@cache
def load_constants(package: str, file: str) -> Mapping[str, Constant]:
    """Read ``data/<file>`` of a lionheart package, once."""
    return parse_constants(resources.files(package).joinpath("data", file).read_text(encoding="utf-8"), file)


def data_files() -> list[tuple[str, str]]:
    """Return ``(package, file)`` of every constants file that lionheart ships."""
    found = []
    for package in _DATA_PACKAGES:
        folder = Path(str(resources.files(package).joinpath("data")))
        found += [(package, path.name) for path in sorted(folder.glob("*.toml"))]
    return found
