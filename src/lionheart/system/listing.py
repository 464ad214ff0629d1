"""Records that the command `lionheart platforms` prints: the list of shipped platforms, or all constants of one platform."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, final

from lionheart.record import Record
from lionheart.system.platform import load_platform, platform_names
from lionheart.system.platform_files import read_platform_files


@final
class PlatformRow(Record):
    """A shipped platform in the output of `lionheart platforms`.

    Args:
        platform: Name of the platform.
        description: Description in one line.
        n_cores: Number of cores.
        n_tiles: Number of tiles of the platform; None = as many as a mapping needs.
    """

    platform: str
    description: str
    n_cores: int
    n_tiles: int | None


@final
class PlatformList(Record):
    """All shipped platforms, as printed by `lionheart platforms`."""

    platforms: tuple[PlatformRow, ...]


@final
class PlatformConstant(Record):
    """A constant of a platform, with its unit, its source and the file that defines it.

    Args:
        value: Value of the constant.
        unit: Unit of the value.
        source: Source of the value, for example a paper and table.
        kind: How the value was obtained: ``measured``, ``fitted``, ``derived`` or ``assumed``.
        file: File that defines the constant.
    """

    value: Any
    unit: str
    source: str
    kind: str
    file: str


@final
class PlatformDescription(Record):
    """A platform with all its constants.

    Args:
        platform: Name of the platform.
        description: Description in one line.
        constants: Constants by name, in the order of the fields of `PlatformSpec`.
    """

    platform: str
    description: str
    constants: dict[str, PlatformConstant]


def list_platforms() -> PlatformList:
    """Return a row for each shipped platform, with name, description, number of cores and number of tiles."""
    rows = (
        PlatformRow(platform=spec.name, description=spec.description, n_cores=spec.n_cores, n_tiles=spec.n_tiles)
        for spec in map(load_platform, platform_names())
    )
    return PlatformList(platforms=tuple(rows))


def describe_platform(name: str) -> PlatformDescription:
    """Return every constant of a platform, each with the file that defines the constant.

    Args:
        name: Name of a shipped platform, or path to a user's ``.toml`` file.

    Raises:
        ConfigError: The platform is unknown, or its file contains errors.
        ArtifactError: The file cannot be read.
    """
    spec, files = load_platform(name), read_platform_files(name)
    order = {field: place for place, field in enumerate(type(spec).model_fields)}
    keys = sorted(files.constants, key=lambda key: order[key.partition(".")[0]])
    return PlatformDescription(
        platform=spec.name,
        description=spec.description,
        constants={key: PlatformConstant(**asdict(files.constants[key]), file=files.origins[key]) for key in keys},
    )
