"""AIHWKIT: conversion of settings and models in both directions, and a backend that computes on AIHWKIT's tiles.

docs/how-to/aihwkit.md lists the corresponding fields. Importing this package without AIHWKIT raises a `ConfigError`.
"""

from lionheart.errors import ConfigError

try:
    import aihwkit.simulator.configs  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"AIHWKIT cannot be imported: {error}",
        hint="pip install --no-deps aihwkit==1.1.0 (torch tiles), or build 1.2.0 from source: docs/how-to/aihwkit.md",
    ) from error

from lionheart.interop.aihwkit.backend import AIHWKITBackend
from lionheart.interop.aihwkit.config import ConversionWarning, from_rpu_config, to_rpu_config
from lionheart.interop.aihwkit.models import ConvOverPatches, from_aihwkit_, to_aihwkit_

__all__ = [
    "AIHWKITBackend",
    "ConvOverPatches",
    "ConversionWarning",
    "from_aihwkit_",
    "from_rpu_config",
    "to_aihwkit_",
    "to_rpu_config",
]
