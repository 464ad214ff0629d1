"""Reading of platform files. A platform file is shipped with LionHeart or written by a user.

A platform file may extend another platform file, which is then also read. This module does not check the values of constants.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import final

from lionheart.constants import Constant, ConstantsFile, read_constants
from lionheart.errors import ConfigError, suggest
from lionheart.files import read_text
from lionheart.registry import Registry

#: Shipped platforms: file in ``platforms/`` by name. The name is the file name without ``.toml``.
PLATFORMS: Registry[str] = Registry("platform", "platforms")
for _file in sorted(
    resources.files("lionheart.system").joinpath("platforms").iterdir(),
    key=lambda file: file.name.removesuffix(".toml"),
):
    PLATFORMS.add(_file.name.removesuffix(".toml"), _file.name)
SHARED_FILES = ("software.toml", "element_ops.toml", "converters.toml", "programming.toml", "reads.toml")
OPERATION_TABLES = ("cycles_per_written", "cycles_per_read", "free_ops")
TEXTS = ("description", "extends")
TEMPLATE_HINT = "`lionheart platforms --template` writes a file that explains every key"


@final
@dataclass(frozen=True)
class PlatformFiles:
    """The constants of a platform, read from its file, from the files that it extends, and from files that all platforms share.

    If several files define a constant, the platform's own file has priority over the extended files. Extended files have
    priority over the shared files.

    Args:
        name: Name of the platform.
        description: One-line description in the platform's own file.
        constants: Constants by name.
        origins: Name or path of the file that defines each constant, by name of the constant.
        faults: Messages for all errors in the files, each with file and key.
        is_whole: Whether all extended files were found. If not, an absent constant may be defined in a file that was not found.
    """

    name: str
    description: str
    constants: Mapping[str, Constant]
    origins: Mapping[str, str]
    faults: tuple[str, ...] = ()
    is_whole: bool = True


@dataclass
class _Chain:
    """The files from which a platform is read, and messages for the errors in their ``extends`` lines.

    Args:
        files: Name or path and content of each file, from the shared files to the platform's own file.
        faults: Messages for the errors.
        is_whole: Whether all extended files were found.
    """

    files: list[tuple[str, ConstantsFile]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    is_whole: bool = True


def is_file(name: str | Path) -> bool:
    """Return whether `name` denotes a platform file, i.e. is a `Path` or a string that ends with ``.toml``.

    A path that contains a null character, which no file can have, does not denote a file.
    """
    return "\0" not in str(name) and (isinstance(name, Path) or name.endswith(".toml"))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the suggestion ``", did you mean 'NAME'?"``, where NAME is the name in `known` that is most similar to `name`.

    The returned string is empty if no name in `known` is similar.
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {found[0]!r}?" if found else ""


def read_platform_files(name: str | Path) -> PlatformFiles:
    """Read the file of a platform and all files that it extends, and return their constants.

    Args:
        name: Name of a shipped platform, or path to a user's ``.toml`` file.

    Raises:
        ConfigError: The name is unknown, or the files extend each other in a cycle.
        ArtifactError: A file cannot be read or is not valid TOML.
    """
    if not is_file(name) and str(name) not in PLATFORMS:
        hint = suggest(str(name), PLATFORMS, label="platforms")
        raise ConfigError(
            f"platform: got {str(name)!r}, expected the name of a shipped platform or a path to a .toml file", hint=hint
        )
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
    """Append to `chain` the files that the platform `name` extends, then the platform's own file.

    The tuple `above` contains the files that extend the platform `name`, directly or indirectly, so that cycles are detected.
    """
    where = str(name) if is_file(name) else PLATFORMS.find(str(name))
    identity = str(Path(name).resolve()) if is_file(name) else where
    if identity in above:
        circle = " -> ".join(Path(part).name for part in (*above[above.index(identity) :], identity))
        raise ConfigError(
            f"{where}:extends: got a cycle: {circle}, "
            "expected a chain of files that ends with a file without `extends`",
            hint="remove the line `extends = ...` from one of these files",
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
    """Copy the constants in `file` to `constants`, and set their entries in `origins` to the file name `where`.

    A constant in `file` replaces an earlier constant of the same name. If `file` gives the cost of an operation in one of the
    tables `OPERATION_TABLES`, earlier costs of this operation are removed from all these tables.
    """
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
    return _check_texts(read_constants(read_text(path), str(path)), str(path))


def _check_texts(file: ConstantsFile, where: str) -> ConstantsFile:
    """Return a copy of `file` with an error message for each string under an unknown key, such as a misspelt ``extends``."""
    faults = [
        f"{where}:{key}: got the bare string {text!r}, expected a table with value, unit, source and kind; "
        f"only {' and '.join(TEXTS)} may be bare strings"
        f"{nearest(key, TEXTS)}"
        for key, text in file.texts.items()
        if key not in TEXTS
    ]
    return ConstantsFile(file.constants, file.texts, (*file.faults, *faults))
