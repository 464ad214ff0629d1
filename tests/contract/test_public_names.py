"""The reference of the Python API agrees with the package; our own benchmarks use nothing but what it lists."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

import lionheart
from lionheart.errors import ConfigError

PAGE = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
STABLE, PROVISIONAL = (
    re.findall(r"^\| `([\w.]+)` \| (.+) \|$", part, re.MULTILINE)
    for part in PAGE.split("## Stable")[1].split("## Provisional")
)
BENCHMARKS = sorted(path for path in (ROOT / "benchmarks").rglob("*.py"))
PUBLIC = {name for name, _ in PROVISIONAL}


def test_the_page_lists_every_stable_name_once():
    assert [name for name, _ in STABLE] == sorted(lionheart.__all__)
    assert len(set(lionheart.__all__)) == len(lionheart.__all__)


def test_every_line_says_something_else():
    lines = [line for _, line in STABLE + PROVISIONAL]
    assert len(set(lines)) == len(lines)


def test_provisional_packages_exist_and_every_package_is_listed():
    packages = {
        f"lionheart.{module.name}"
        for module in pkgutil.iter_modules(lionheart.__path__)
        if module.ispkg and module.name != "cli"
    }
    assert packages <= PUBLIC
    for name in PUBLIC:
        try:
            assert importlib.import_module(name).__doc__, name
        except ConfigError:  # another simulator that is not installed
            assert name.startswith("lionheart.interop.")


def list_imports(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, module and name of everything that a file imports from the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lionheart":
            for alias in node.names:
                yield node.lineno, node.module or "", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "lionheart":
                    yield node.lineno, alias.name, ""


def list_exports(module: str) -> list[str] | None:
    """Return ``__all__`` of a module from its source, as another simulator may not be installed; None if it has none."""
    path = ROOT / "src" / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: str(path.relative_to(ROOT / "benchmarks")))
def test_benchmarks_import_what_is_public(path: Path):
    wrong = []
    for line, module, name in list_imports(path):
        if module not in PUBLIC | {"lionheart"}:
            wrong.append(f"{path.name}:{line}: {module} is private")
        elif name and f"{module}.{name}" not in PUBLIC and module != "lionheart":
            exported = list_exports(module)
            if name.startswith("_") or (exported is not None and name not in exported):
                wrong.append(f"{path.name}:{line}: {module} does not export {name}")
        elif name and module == "lionheart" and name not in lionheart.__all__ and f"{module}.{name}" not in PUBLIC:
            wrong.append(f"{path.name}:{line}: lionheart does not export {name}")
    assert wrong == []
