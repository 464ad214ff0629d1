"""Registries, which store objects of one type by name, such as search strategies, devices and layer types.

Each name can be registered only once. The error for an unknown name suggests a similar name. Help texts and the documentation
list the names in a registry.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar, final

from lionheart.errors import ConfigError, suggest

T = TypeVar("T")


@final
class Registry(Generic[T]):
    """Objects of one type (entries) that are stored by name.

    Args:
        setting: Name of the setting that selects an entry, such as ``"search.strategy"``, for error messages.
        plural: Plural noun for the entries, such as ``"strategies"``, for error messages.
        package: Python package whose modules register entries when they are imported. The modules are imported at the first
            use of the registry. None = all entries are registered by explicit calls.
        one_per_module: Whether each module in `package` registers exactly one entry, whose name is that of the module with
            ``-`` instead of ``_``. If True, names are listed without imports, and `find` imports only the module of the entry.
        renamed: Names of entries by name of the module, for modules whose entry is not named like the module.
    """

    def __init__(
        self,
        setting: str,
        plural: str,
        *,
        package: str | None = None,
        one_per_module: bool = False,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        self.setting, self.plural, self._renamed = setting, plural, dict(renamed or {})
        self._package, self._one_per_module = package, one_per_module
        self._entries: dict[str, T] = {}
        self._removed: set[str] = set()
        self._is_loaded = package is None

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers the decorated object under `name`.

        Raises:
            ConfigError: The name is already registered.
        """

        def add(entry: T) -> T:
            self.add(name, entry)
            return entry

        return add

    def add(self, name: str, entry: T) -> None:
        """Register the object `entry` under `name`.

        Raises:
            ConfigError: The name is already registered.
        """
        if self._one_per_module:
            self._load(name)  # the names of modules that are not yet imported are taken too
        if name in self._entries:
            raise ConfigError(
                f"{self.setting}: {name!r} is already registered",
                hint=f"use another name, or remove the registered entry first, with remove({name!r}) of the registry",
            )
        self._entries[name] = entry
        self._removed.discard(name)

    def remove(self, name: str) -> None:
        """Remove the entry registered under `name`; do nothing if there is none."""
        self._load(name)  # otherwise its module would register the entry later
        self._entries.pop(name, None)
        self._removed.add(name)

    def find(self, name: str) -> T:
        """Return the entry registered under `name`.

        Raises:
            ConfigError: No entry has this name. The hint suggests a similar name.
        """
        self._load(name)
        if name not in self._entries:
            raise ConfigError(
                f"{self.setting}: got {name!r}, expected the name of one of the known {self.plural}",
                hint=suggest(str(name), self.names(), label=self.plural),
            )
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries in the order of registration.

        With `one_per_module`, entries of the package come first, in alphabetical order of their modules.
        """
        if self._one_per_module:
            known = dict.fromkeys([*self._modules(), *self._entries])
            return tuple(name for name in known if name not in self._removed)
        self._load()
        return tuple(self._entries)

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return a pair ``(name, entry)`` for each entry, in the order of `names`."""
        return tuple((name, self.find(name)) for name in self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def _modules(self) -> dict[str, str]:
        """Return the name of the module for each entry name, for a package in which each module registers one entry."""
        if self._package is None:
            return {}
        root, *below = self._package.split(".")
        folders = [str(Path(folder, *below)) for folder in import_module(root).__path__]
        found = [
            each.name for each in pkgutil.iter_modules(folders)
        ]  # found as files, so that parent packages are not imported
        return {self._renamed.get(name, name.replace("_", "-")): name for name in found if not name.startswith("_")}

    def _load(self, name: str | None = None) -> None:
        """Import all modules of the package, which register their entries.

        If `one_per_module` is set and `name` is given, import only the module that registers the entry `name`.
        """
        if self._is_loaded:
            return
        modules = self._modules()
        if self._one_per_module and name is not None:
            if name not in self._entries and name in modules:
                import_module(f"{self._package}.{modules[name]}")
            return
        self._is_loaded = True  # before the imports, because they may use the registry
        _import_all(str(self._package))


def _import_all(package: str) -> None:
    """Import the modules of a package and its subpackages, except those whose name begins with an underscore."""
    for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if not module.name.rpartition(".")[2].startswith("_"):
            import_module(module.name)
            if module.ispkg:
                _import_all(module.name)


#: Search strategies, one module each; the greedy search of the paper is called ``lionheart``. See `lionheart.search`.
STRATEGIES: Registry[Any] = Registry(
    "search.strategy",
    "strategies",
    package="lionheart.search.strategies",
    one_per_module=True,
    renamed={"greedy": "lionheart"},
)
#: Rankings, which order candidates for the search, one module each. See `lionheart.jobs.ranking`.
RANKINGS: Registry[Any] = Registry("ranking", "rankings", package="lionheart.jobs.rankings", one_per_module=True)
