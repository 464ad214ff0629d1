"""Functions that import optional dependencies (extras), and modules that are slow to import, when they are first used."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, final

from lionheart.errors import ConfigError


def import_extra(module: str, extra: str, where: str) -> Any:
    """Import the module named `module`, which belongs to an optional dependency, and return it.

    Args:
        module: Name of the module.
        extra: Name of the optional dependency group that installs the module, as in ``pip install lionheart-aimc[extra]``.
        where: Name of the feature that needs the module, with which the error message begins.

    Raises:
        ConfigError: The module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{where}: {module} cannot be imported: {error}",
            hint=f"install the extra: pip install 'lionheart-aimc[{extra}]'",
        ) from error


@final
class _LazyModule(ModuleType):
    """A placeholder that has the name of a module and imports this module when one of its attributes is first used."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def lazy_import(module: str) -> Any:
    """Return a placeholder for `module`. The module is imported when an attribute of the placeholder is first used."""
    return _LazyModule(module)
