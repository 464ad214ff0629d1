"""Late imports: packages of optional dependencies (extras), and packages that are slow to import."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, final

from lionheart.errors import ConfigError


def import_extra(module: str, extra: str, where: str) -> Any:
    """Import and return a module of an optional dependency.

    Args:
        module: Name of the module.
        extra: Name of the extra of lionheart-aimc that installs the module.
        where: Feature that needs the module, for the error message.

    Raises:
        ConfigError: The module cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{where}: {module} cannot be imported: {error}", hint=f"pip install 'lionheart-aimc[{extra}]'"
        ) from error


@final
class _LazyModule(ModuleType):
    """A module that is imported at the first use of an attribute; attributes are cached."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


def lazy_import(module: str) -> Any:
    """Return a module that is imported at the first use of one of its attributes."""
    return _LazyModule(module)
