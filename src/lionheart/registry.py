"""Everything that has a name is registered in one way: once, found with a suggestion, listed for help texts and documents."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Generic, TypeVar, final

from lionheart.errors import ConfigError, suggest

T = TypeVar("T")


@final
class Registry(Generic[T]):
    """Named entries of one sort.

    Args:
        setting: Of the setting that holds a name, for errors: ``"search.strategy"``.
        plural: Of an entry, for hints: ``"strategies"``.
        package: Whose modules, those of its packages too, register entries when they are imported; they are, on first use.
            None = nothing is imported.
        one_per_module: Whether each module of `package` registers one entry, under its own name with ``-`` for ``_``. Names are
            then known without an import, and only the module of the entry that is looked for is imported.
    """

    def __init__(self, setting: str, plural: str, *, package: str | None = None, one_per_module: bool = False) -> None:
        self.setting, self.plural = setting, plural
        self._package, self._one_per_module = package, one_per_module
        self._entries: dict[str, T] = {}
        self._is_loaded = package is None

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that makes an entry known under `name`.

        Raises:
            ConfigError: The name is taken.
        """

        def add(entry: T) -> T:
            self.add(name, entry)
            return entry

        return add

    def add(self, name: str, entry: T) -> None:
        """Make an entry known under `name`.

        Raises:
            ConfigError: The name is taken.
        """
        if name in self._entries:
            raise ConfigError(f"{self.setting}: {name!r} is registered twice", hint="choose another name")
        self._entries[name] = entry

    def remove(self, name: str) -> None:
        """Forget an entry; nothing happens if there is none."""
        self._entries.pop(name, None)

    def find(self, name: str) -> T:
        """Return the entry called `name`.

        Raises:
            ConfigError: There is none; the nearest names are suggested.
        """
        self._load(name)
        if name not in self._entries:
            raise ConfigError(f"{self.setting}: got {name!r}", hint=suggest(str(name), self.names(), label=self.plural))
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return all names: in the order of registration, those of modules that are not imported yet last."""
        if self._one_per_module:
            return tuple(dict.fromkeys([*self._entries, *map(_name_of, self._modules())]))
        self._load()
        return tuple(self._entries)

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return all names with their entries."""
        return tuple((name, self.find(name)) for name in self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def _modules(self) -> list[str]:
        if self._package is None:
            return []
        found = pkgutil.iter_modules(import_module(self._package).__path__)
        return [module.name for module in found if not module.name.startswith("_")]

    def _load(self, name: str | None = None) -> None:
        """Import the modules that register entries: all of them, or that of one entry where each has its own."""
        if self._is_loaded:
            return
        if self._one_per_module and name is not None:
            if name not in self._entries and name in map(_name_of, self._modules()):
                import_module(f"{self._package}.{name.replace('-', '_')}")
            return
        self._is_loaded = True  # before the imports: they may look something up
        _import_all(str(self._package))


def _name_of(module: str) -> str:
    return module.replace("_", "-")


def _import_all(package: str) -> None:
    """Import the modules of a package and of the packages in it, but those whose name begins with an underscore."""
    for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if not module.name.rpartition(".")[2].startswith("_"):
            import_module(module.name)
            if module.ispkg:
                _import_all(module.name)
