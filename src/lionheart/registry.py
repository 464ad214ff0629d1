"""Everything that has a name is registered in one way: once, found with a suggestion, listed for help texts and documents."""

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
    """Named entries of one sort.

    Args:
        setting: Of the setting that holds a name, for errors: ``"search.strategy"``.
        plural: Of an entry, for hints: ``"strategies"``.
        package: Whose modules, those of its packages too, register entries when they are imported; they are, on first use.
            None = nothing is imported.
        one_per_module: Whether each module of `package` registers one entry, under its own name with ``-`` for ``_``. Names are
            then known without an import, and only the module of the entry that is looked for is imported.
        renamed: Modules whose entry has another name.
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
        if self._one_per_module:
            self._load(name)  # the name of a module is taken before it is imported
        if name in self._entries:
            raise ConfigError(f"{self.setting}: {name!r} is registered twice", hint="choose another name")
        self._entries[name] = entry
        self._removed.discard(name)

    def remove(self, name: str) -> None:
        """Forget an entry; nothing happens if there is none."""
        self._load(name)  # else its module would register it later
        self._entries.pop(name, None)
        self._removed.add(name)

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
        """Return all names: of modules in their order, else in the order of registration."""
        if self._one_per_module:
            known = dict.fromkeys([*self._modules(), *self._entries])
            return tuple(name for name in known if name not in self._removed)
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

    def _modules(self) -> dict[str, str]:
        """Return the modules of the package by the names of their entries."""
        if self._package is None:
            return {}
        root, *below = self._package.split(".")
        folders = [str(Path(folder, *below)) for folder in import_module(root).__path__]
        found = [
            each.name for each in pkgutil.iter_modules(folders)
        ]  # found as files: packages on the way are not imported
        return {self._renamed.get(name, name.replace("_", "-")): name for name in found if not name.startswith("_")}

    def _load(self, name: str | None = None) -> None:
        """Import the modules that register entries: all of them, or that of one entry where each has its own."""
        if self._is_loaded:
            return
        modules = self._modules()
        if self._one_per_module and name is not None:
            if name not in self._entries and name in modules:
                import_module(f"{self._package}.{modules[name]}")
            return
        self._is_loaded = True  # before the imports: they may look something up
        _import_all(str(self._package))


def _import_all(package: str) -> None:
    """Import the modules of a package and of the packages in it, but those whose name begins with an underscore."""
    for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if not module.name.rpartition(".")[2].startswith("_"):
            import_module(module.name)
            if module.ispkg:
                _import_all(module.name)


#: Search strategies: one module each; the paper's greedy search carries the project's name. See `lionheart.search`.
STRATEGIES: Registry[Any] = Registry(
    "search.strategy",
    "strategies",
    package="lionheart.search.strategies",
    one_per_module=True,
    renamed={"greedy": "lionheart"},
)
#: Orders in which candidates are tried: one module each. See `lionheart.jobs.ranking`.
RANKINGS: Registry[Any] = Registry("ranking", "rankings", package="lionheart.jobs.rankings", one_per_module=True)
