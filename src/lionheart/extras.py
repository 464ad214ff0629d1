"""Packages that are imported late: those of an extra, and those that are slow to import."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, final

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


@final
class _LazyModule(ModuleType):
    """Imports the module of its name when an attribute is first used; each attribute is looked up once."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def lazy_import(module: str) -> Any:
    """Return a module that is imported when an attribute of it is first used."""
    return _LazyModule(module)
