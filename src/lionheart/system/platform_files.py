"""Platform files, shipped or a user's, each of which may extend another; this module reads them without checking values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import final

from lionheart.constants import Constant, ConstantsFile, read_constants
from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.registry import Registry

#: Shipped platforms: the stem of each file in ``platforms/`` is its name.
PLATFORMS: Registry[str] = Registry("platform", "platforms")
for _file in sorted(
    resources.files("lionheart.system").joinpath("platforms").iterdir(),
    key=lambda file: file.name.removesuffix(".toml"),
):
    PLATFORMS.add(_file.name.removesuffix(".toml"), _file.name)
SHARED_FILES = ("software.toml", "element_ops.toml", "converters.toml", "programming.toml")
OPERATION_TABLES = ("cycles_per_written", "cycles_per_read", "free_ops")
TEXTS = ("description", "extends")
TEMPLATE_HINT = "`lionheart platforms --template` writes a file that explains every key"


@final
@dataclass(frozen=True)
class PlatformFiles:
    """All constants of a platform. The file's own constants override those that it extends, which override the shared ones.

    Args:
        name: Name of the platform.
        description: Description in the file itself, one line.
        constants: Constants by name.
        origins: File that defines each constant, by name.
        faults: Errors in the files, each with file and key.
        is_whole: Whether all extended files were found, so that an absent constant is really missing.
    """

    name: str
    description: str
    constants: Mapping[str, Constant]
    origins: Mapping[str, str]
    faults: tuple[str, ...] = ()
    is_whole: bool = True


@dataclass
class _Chain:
    """Files from the most general to the platform's own."""

    files: list[tuple[str, ConstantsFile]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    is_whole: bool = True


def is_file(name: str | Path) -> bool:
    """Return whether a name is the path of a file."""
    return isinstance(name, Path) or name.endswith(".toml")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a half sentence that suggests the closest name of `known`; empty if none is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {found[0]!r}?" if found else ""


def read_platform_files(name: str | Path) -> PlatformFiles:
    """Read the file of a platform and all files that it extends.

    Raises:
        ConfigError: The name is unknown, or files extend each other in a circle.
        ArtifactError: A file cannot be read or is not TOML.
    """
    if not is_file(name) and str(name) not in PLATFORMS:
        hint = suggest(str(name), PLATFORMS, label="platforms")
        raise ConfigError(f"platform: got {str(name)!r}, expected a known name or a path to a .toml file", hint=hint)
    chain = _Chain([(file, _read_shipped(file)) for file in SHARED_FILES])
    _append_chain(chain, name, ())
    constants: dict[str, Constant] = {}
    origins: dict[str, str] = {}
    for where, file in chain.files:
        _lay_over(constants, origins, where, file)
    return PlatformFiles(
        name=Path(name).stem if is_file(name) else str(name),
        description=chain.files[-1][1].texts.get("description", ""),
        constants=constants,
        origins=origins,
        faults=(*(fault for _, file in chain.files for fault in file.faults), *chain.faults),
        is_whole=chain.is_whole,
    )


def _append_chain(chain: _Chain, name: str | Path, above: tuple[str, ...]) -> None:
    """Append the files that `name` extends, then its own file; `above` holds the files that extend `name`."""
    where = str(name) if is_file(name) else PLATFORMS.find(str(name))
    identity = str(Path(name).resolve()) if is_file(name) else where
    if identity in above:
        circle = " -> ".join(Path(part).name for part in (*above[above.index(identity) :], identity))
        raise ConfigError(
            f"{where}:extends: got a circle: {circle}, expected files that end with one that extends nothing",
            hint="remove one of the lines `extends`",
        )
    file = _read_users(Path(name)) if is_file(name) else _read_shipped(where)
    base = file.texts.get("extends")
    if base is not None:
        if is_file(base):
            _append_chain(chain, Path(name).parent / base, (*above, identity))
        elif base in PLATFORMS:
            _append_chain(chain, base, (*above, identity))
        else:
            chain.is_whole = False
            expected = "expected the name of a shipped platform or a path to a .toml file"
            chain.faults.append(f"{where}:extends: got {base!r}, {expected}{nearest(base, PLATFORMS)}")
    chain.files.append((where, file))


def _lay_over(constants: dict[str, Constant], origins: dict[str, str], where: str, file: ConstantsFile) -> None:
    """Override constants by those of a file; an operation that moves to another table is removed from its old table."""
    moved = set()
    for key in file.constants:
        table, _, operation = key.partition(".")
        if table in OPERATION_TABLES and operation:
            moved |= {f"{other}.{operation}" for other in OPERATION_TABLES}
    for key in moved:
        constants.pop(key, None)
    constants |= file.constants
    origins |= dict.fromkeys(file.constants, where)


@cache
def _read_shipped(file: str) -> ConstantsFile:
    folder = "data" if file in SHARED_FILES else "platforms"
    text = resources.files("lionheart.system").joinpath(folder, file).read_text(encoding="utf-8")
    return _check_texts(read_constants(text, file), file)


def _read_users(path: Path) -> ConstantsFile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}", hint="give the path of a platform file") from error
    return _check_texts(read_constants(text, str(path)), str(path))


def _check_texts(file: ConstantsFile, where: str) -> ConstantsFile:
    """Report strings without meaning: a misspelt ``extends``, or a constant without unit, source and kind."""
    faults = [
        f"{where}:{key}: got the bare string {text!r}, expected value, unit, source and kind, or one of {', '.join(TEXTS)}"
        f"{nearest(key, TEXTS)}"
        for key, text in file.texts.items()
        if key not in TEXTS
    ]
    return ConstantsFile(file.constants, file.texts, (*file.faults, *faults))
