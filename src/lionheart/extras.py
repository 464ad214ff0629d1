"""Packages that are not installed with LionHeart but with one of its extras."""

from __future__ import annotations

import importlib
from typing import Any

from lionheart.errors import ConfigError


def import_extra(module: str, extra: str, where: str) -> Any:
    """Return a module of an extra.

    Args:
        module: Its name.
        extra: That installs it.
        where: What needs it, for the error.

    Raises:
        ConfigError: It cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{where}: {module} cannot be imported: {error}", hint=f"pip install 'lionheart-aimc[{extra}]'"
        ) from error
