"""Functions that read physical constants from TOML files.

Every constant in these files has a value, a unit and a source. The key ``kind`` states how the value was obtained: measured,
fitted, derived or assumed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, final

from lionheart.errors import ArtifactError
from lionheart.files import parse_toml

KINDS = ("measured", "fitted", "derived", "assumed")
_KEYS = ("value", "unit", "source", "kind")
_DATA_FOLDERS = (("lionheart.devices", ""), ("lionheart.system", "data/"), ("lionheart.system", "platforms/"))


@final
@dataclass(frozen=True)
class Constant:
    """A physical constant: a number or a list of numbers, with its unit and its source.

    Args:
        value: Number or list of numbers.
        unit: Unit of the value; ``"1"`` if the value has no unit.
        source: Paper with the table, equation or page of the value; for an assumed value, the reason for the assumption.
        kind: How the value was obtained: ``measured``, ``fitted``, ``derived`` or ``assumed``.
    """

    value: Any
    unit: str
    source: str
    kind: str


@final
@dataclass(frozen=True)
class ConstantsFile:
    """Constants that were read from a TOML file, and descriptions of the errors in the file.

    Args:
        constants: Constants by name. The name of a constant in a nested table has dots (``"adc.energy"``). Invalid entries with
            a value are included, so that the caller can check the value too.
        texts: Entries that are a plain string instead of a constant, such as a title, by name.
        faults: Descriptions of all errors, each with the name of the file and of the entry.
    """

    constants: Mapping[str, Constant]
    texts: Mapping[str, str]
    faults: tuple[str, ...]


def read_constants(text: str, where: str) -> ConstantsFile:
    """Return the constants in TOML text. Invalid entries do not raise an error, but are described in `faults` of the result.

    Args:
        text: TOML text.
        where: Name of the text in error messages, for example a path.

    Raises:
        ArtifactError: The text is not valid TOML.
    """
    tree = parse_toml(text, where)
    constants: dict[str, Constant] = {}
    texts: dict[str, str] = {}
    faults: list[str] = []
    for name, entry in _walk(tree):
        if isinstance(entry, str):
            texts[name] = entry
        elif not isinstance(entry, dict):
            faults.append(f"{where}:{name}: got the bare value {entry!r}, expected value, unit, source and kind")
        else:
            faults += [f"{where}:{name}{fault}" for fault in _find_faults(entry)]
            if "value" in entry:
                constants[name] = Constant(*(entry.get(key, "") for key in _KEYS))
    return ConstantsFile(constants, texts, tuple(faults))


def write_value(value: object) -> str:
    """Return the value of a constant as a platform file writes it, for example ``true``; a text has no quotation marks."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_constants(text: str, where: str) -> Mapping[str, Constant]:
    """Return the constants in TOML text by name. The name of a constant in a nested table has dots (``"adc.energy"``).

    Args:
        text: TOML text.
        where: Name of the text in error messages, for example a path.

    Raises:
        ArtifactError: The text is not valid TOML, an entry lacks a value, unit, source or kind, or a kind is unknown. The
            message lists all invalid entries.
    """
    file = read_constants(text, where)
    if file.faults:
        raise ArtifactError("\n".join(file.faults), hint="give every constant exactly a value, unit, source and kind")
    return file.constants


def _find_faults(entry: Mapping[str, Any]) -> list[str]:
    """Return a description of each error in `entry`, the TOML table of one constant, without the name of the constant."""
    if set(entry) != set(_KEYS):
        unknown = [f"unknown: {key!r}" + _near(key, _KEYS) for key in entry if key not in _KEYS]
        missing = [f"missing: {key}" for key in _KEYS if key not in entry]
        return [
            f": got the keys {sorted(entry)}, expected value, unit, source and kind ({'; '.join(missing + unknown)})"
        ]
    faults = [
        f".{key}: got {entry[key]!r}, expected a non-empty text"
        for key in ("unit", "source")
        if not (isinstance(entry[key], str) and entry[key].strip())
    ]
    if entry["kind"] not in KINDS:
        faults.append(f".kind: got {entry['kind']!r}, expected one of {', '.join(KINDS)}")
    return faults


def _near(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {found[0]!r}?" if found else ""


def _walk(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(name, value)`` for each entry of a TOML document. The name of a nested entry has dots (``"adc.energy"``).

    A table that contains other tables is not an entry. Its items are visited instead.

    Args:
        tree: The parsed document, or a table in it.
        prefix: Text that precedes each name.
    """
    for key, value in tree.items():
        if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def load_constants(package: str, file: str) -> Mapping[str, Constant]:
    """Return the constants in a TOML file of the lionheart package, by name. Each file is read only once.

    Args:
        package: Name of the Python package that contains the file, such as ``"lionheart.devices"``.
        file: Path of the file within the package, with ``/`` between folders.

    Raises:
        ArtifactError: The file is not valid TOML or has an invalid entry.
    """
    text = resources.files(package).joinpath(*file.split("/")).read_text(encoding="utf-8")
    return parse_constants(text, file.rpartition("/")[2])


def data_files() -> list[tuple[str, str]]:
    """Return ``(package, file)``, the arguments of `load_constants`, for every file of constants in lionheart."""
    found = []
    for package, prefix in _DATA_FOLDERS:
        folder = Path(str(resources.files(package).joinpath(prefix)))
        found += [(package, f"{prefix}{path.name}") for path in sorted(folder.glob("*.toml"))]
    return found
