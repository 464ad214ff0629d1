"""Functions that import optional dependencies (extras), and modules that are slow to import, when they are first used."""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any, final

from lionheart.errors import ConfigError

_CONNECT_S = 3.0  # time after which the Hugging Face hub counts as unreachable [s]


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


def hub_options(name: str) -> dict[str, Any]:
    """Return keyword arguments for ``from_pretrained`` of transformers: no code of a model runs, and no waiting offline.

    Without a connection, transformers repeats each request for half a minute before it looks into its cache.

    Args:
        name: Name of a model on the Hugging Face hub, or path of its directory.
    """
    options: dict[str, Any] = {"trust_remote_code": False}
    if not os.path.isdir(name) and not _is_hub_reachable():
        options["local_files_only"] = True
    return options


def _is_hub_reachable() -> bool:
    import socket  # slow to import, and rarely needed
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    if getproxies():  # a proxy makes the connection
        return True
    address = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = 443 if address.scheme == "https" else 80
    try:
        with socket.create_connection((address.hostname or "", address.port or port), timeout=_CONNECT_S):
            return True
    except (OSError, ValueError):
        return False
