"""The data of `lionheart platforms`: the shipped platforms, and every constant of one platform."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, final

from lionheart.record import Record
from lionheart.system.platform import load_platform, platform_names
from lionheart.system.platform_files import read_platform_files


@final
class PlatformRow(Record):
    """A shipped platform.

    Args:
        platform: Name of the platform.
        description: Description in one line.
        n_cores: Number of cores.
        n_tiles: Number of tiles; None = as many as needed.
    """

    platform: str
    description: str
    n_cores: int
    n_tiles: int | None


@final
class PlatformList(Record):
    """All shipped platforms."""

    platforms: tuple[PlatformRow, ...]


@final
class PlatformConstant(Record):
    """A constant of a platform.

    Args:
        value: Value of the constant.
        unit: Unit of the value.
        source: Source of the value.
        kind: How the value was obtained, e.g. ``measured`` or ``assumed``.
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
        constants: Constants by name.
    """

    platform: str
    description: str
    constants: dict[str, PlatformConstant]


def list_platforms() -> PlatformList:
    """Return name and description of every shipped platform."""
    rows = (
        PlatformRow(platform=spec.name, description=spec.description, n_cores=spec.n_cores, n_tiles=spec.n_tiles)
        for spec in map(load_platform, platform_names())
    )
    return PlatformList(platforms=tuple(rows))


def describe_platform(name: str) -> PlatformDescription:
    """Return every constant of a platform with the file that defines it; `name` is a shipped platform or a user's file.

    Raises:
        ConfigError: The platform is unknown, or its file has errors.
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
