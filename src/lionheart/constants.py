"""Physical constants: TOML files in which every number has a unit, a source and a kind (measured, fitted, derived, assumed)."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, final

from lionheart.errors import ArtifactError

KINDS = ("measured", "fitted", "derived", "assumed")
_KEYS = ("value", "unit", "source", "kind")
_DATA_FOLDERS = (("lionheart.devices", ""), ("lionheart.system", "data/"), ("lionheart.system", "platforms/"))


@final
@dataclass(frozen=True)
class Constant:
    """One number, or a list of numbers, with its provenance.

    Args:
        value: Number or list of numbers.
        unit: Unit; ``"1"`` for a number without unit.
        source: Paper with table, equation or page; for an assumption, the reason.
        kind: Kind of provenance: ``measured``, ``fitted``, ``derived`` or ``assumed``.
    """

    value: Any
    unit: str
    source: str
    kind: str


@final
@dataclass(frozen=True)
class ConstantsFile:
    """The content of a TOML file of constants.

    Args:
        constants: Constant by name; nested tables have dotted names.
        texts: Text by name, for entries that are a bare text, such as a title.
        faults: Descriptions of all errors, each with file and key. Invalid entries that have a value are in `constants` too,
            so that the value can be checked.
    """

    constants: Mapping[str, Constant]
    texts: Mapping[str, str]
    faults: tuple[str, ...]


def read_constants(text: str, where: str) -> ConstantsFile:
    """Read constants from TOML and collect all errors in the result instead of raising at the first.

    Args:
        text: TOML text.
        where: Name of the text in error messages, for example a path.

    Raises:
        ArtifactError: The text is not TOML.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArtifactError(f"{where}: not valid TOML: {error}", hint="fix the file") from error
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


def parse_constants(text: str, where: str) -> Mapping[str, Constant]:
    """Read constants from TOML; nested tables have dotted names.

    Args:
        text: TOML text.
        where: Name of the text in error messages, for example a path.

    Raises:
        ArtifactError: The text is not TOML, an entry lacks value, unit, source or kind, or its kind is unknown. The message
            lists all invalid entries.
    """
    file = read_constants(text, where)
    if file.faults:
        raise ArtifactError("\n".join(file.faults), hint="give every constant a value, unit, source and kind")
    return file.constants


def _find_faults(entry: Mapping[str, Any]) -> list[str]:
    """Return descriptions of all errors in an entry, without its name."""
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
    """Yield the names and values of all entries; a table that contains tables is not an entry, but its tables are."""
    for key, value in tree.items():
        if isinstance(value, dict) and any(isinstance(item, dict) for item in value.values()):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def load_constants(package: str, file: str) -> Mapping[str, Constant]:
    """Return the constants of a file of a lionheart package by name; the result is cached.

    Args:
        package: Name of the package.
        file: Path of the TOML file within the package.

    Raises:
        ArtifactError: The file is invalid.
    """
    text = resources.files(package).joinpath(*file.split("/")).read_text(encoding="utf-8")
    return parse_constants(text, file.rpartition("/")[2])


def data_files() -> list[tuple[str, str]]:
    """Return ``(package, file)`` of every constants file of lionheart, the arguments of `load_constants`."""
    found = []
    for package, prefix in _DATA_FOLDERS:
        folder = Path(str(resources.files(package).joinpath(prefix)))
        found += [(package, f"{prefix}{path.name}") for path in sorted(folder.glob("*.toml"))]
    return found
