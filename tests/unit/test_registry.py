"""Registries: a name is found, suggested, taken once and forgotten; modules are imported when their entry is looked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lionheart.errors import ConfigError
from lionheart.registry import RANKINGS, STRATEGIES, Registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package ``plants.trees`` with a registry, two modules that register one entry each, and one that is private."""
    (tmp_path / "plants" / "trees").mkdir(parents=True)
    (tmp_path / "plants" / "__init__.py").write_text("")
    (tmp_path / "plants" / "trees" / "__init__.py").write_text("raise AssertionError('not needed for the names')")
    monkeypatch.syspath_prepend(tmp_path)
    yield "plants.trees"
    for name in [name for name in sys.modules if name.split(".")[0] == "plants"]:
        del sys.modules[name]


def fill(tmp_path: Path, **modules: str) -> None:
    for name, text in modules.items():
        (tmp_path / "plants" / "trees" / f"{name}.py").write_text(text)


def entry_of(name: str, entry: str) -> str:
    return f"from plants import register\n\n\n@register({name!r})\ndef {entry}():\n    return {entry!r}\n"


def make_lazy(tmp_path: Path, package: str, **options: object) -> Registry:
    import plants  # made by the fixture

    (tmp_path / "plants" / "trees" / "__init__.py").write_text("")
    registry = Registry("plant.tree", "trees", package=package, one_per_module=True, **options)
    plants.register = registry.register
    return registry


def imported() -> set[str]:
    return {name.rpartition(".")[2] for name in sys.modules if name.startswith("plants.trees.")}


# ------------------------------------------------------------------------------------------------------------- by itself


def test_entries_are_found_by_name_and_listed_in_order():
    registry: Registry[int] = Registry("number.name", "numbers")
    registry.add("two", 2)
    registry.add("one", 1)
    assert registry.register("three")(3) == 3
    assert (registry.find("one"), registry.names()) == (1, ("two", "one", "three"))
    assert registry.items() == (("two", 2), ("one", 1), ("three", 3))
    assert (list(registry), len(registry), "one" in registry, "four" in registry) == (
        ["two", "one", "three"], 3, True, False,
    )  # fmt: skip


def test_unknown_names_are_suggested():
    registry: Registry[int] = Registry("number.name", "numbers")
    registry.add("seven", 7)
    registry.add("eleven", 11)
    with pytest.raises(ConfigError, match=r"^number\.name: got 'sevne'") as caught:
        registry.find("sevne")
    assert caught.value.hint == "did you mean 'seven'? numbers: eleven, seven"


def test_a_name_is_taken_once():
    registry: Registry[int] = Registry("number.name", "numbers")
    registry.add("one", 1)
    with pytest.raises(ConfigError, match=r"number\.name: 'one' is already registered"):
        registry.register("one")(11)
    assert registry.find("one") == 1


def test_a_name_that_is_forgotten_is_free_again():
    registry: Registry[int] = Registry("number.name", "numbers")
    registry.add("one", 1)
    registry.remove("one")
    registry.remove("one")
    assert registry.names() == ()
    with pytest.raises(ConfigError, match="got 'one'"):
        registry.find("one")
    registry.add("one", 11)
    assert registry.items() == (("one", 11),)


# ------------------------------------------------------------------------------------------------- a module for each entry


def test_modules_are_known_before_they_are_imported(package: str, tmp_path: Path):
    registry = Registry("plant.tree", "trees", package=package, one_per_module=True)
    fill(tmp_path, oak="raise AssertionError", red_beech="raise AssertionError", _roots="raise AssertionError")
    assert registry.names() == ("oak", "red-beech")
    assert "oak" in registry
    assert imported() == set()


def test_only_the_module_that_is_looked_for_is_imported(package: str, tmp_path: Path):
    fill(tmp_path, oak="raise AssertionError", red_beech=entry_of("red-beech", "beech"))
    registry = make_lazy(tmp_path, package)
    assert registry.find("red-beech")() == "beech"
    assert imported() == {"red_beech"}
    with pytest.raises(ConfigError, match="got 'elm'"):
        registry.find("elm")
    assert imported() == {"red_beech"}


def test_an_entry_may_have_another_name_than_its_module(package: str, tmp_path: Path):
    fill(tmp_path, oak=entry_of("quercus", "oak"), fir=entry_of("fir", "fir"))
    registry = make_lazy(tmp_path, package, renamed={"oak": "quercus"})
    assert registry.names() == ("fir", "quercus")
    assert registry.find("quercus")() == "oak"
    with pytest.raises(ConfigError, match="got 'oak'"):
        registry.find("oak")


def test_others_may_be_added_to_those_of_modules(package: str, tmp_path: Path):
    fill(tmp_path, oak=entry_of("oak", "oak"))
    registry = make_lazy(tmp_path, package)
    registry.add("elm", len)
    assert (registry.names(), registry.find("elm"), imported()) == (("oak", "elm"), len, set())
    assert [name for name, _ in registry.items()] == ["oak", "elm"]


def test_the_name_of_a_module_is_taken_before_it_is_imported(package: str, tmp_path: Path):
    """Was accepted, stood in for the module's own entry, and failed once something imported the module."""
    fill(tmp_path, oak=entry_of("oak", "oak"))
    registry = make_lazy(tmp_path, package)
    with pytest.raises(ConfigError, match="'oak' is already registered"):
        registry.add("oak", len)
    assert registry.find("oak")() == "oak"


@pytest.mark.parametrize("is_found_before", [False, True])
def test_the_entry_of_a_module_is_forgotten_for_good(package: str, tmp_path: Path, is_found_before: bool):
    """Was still listed, and came back if its module had not been imported yet."""
    fill(tmp_path, oak=entry_of("oak", "oak"), fir=entry_of("fir", "fir"))
    registry = make_lazy(tmp_path, package)
    if is_found_before:
        registry.find("oak")
    registry.remove("oak")
    assert (registry.names(), len(registry), "oak" in registry) == (("fir",), 1, False)
    with pytest.raises(ConfigError, match="got 'oak'") as caught:
        registry.find("oak")
    assert caught.value.hint == "trees: fir"
    assert [name for name, _ in registry.items()] == ["fir"]
    registry.add("oak", len)
    assert registry.find("oak") is len


def test_all_modules_of_a_package_register_on_first_use(package: str, tmp_path: Path):
    import plants  # made by the fixture

    fill(tmp_path, many=entry_of("oak", "oak") + entry_of("fir", "fir"), one=entry_of("elm", "elm"))
    (tmp_path / "plants" / "trees" / "__init__.py").write_text("")
    registry = Registry("plant.tree", "trees", package=package)
    plants.register = registry.register
    assert imported() == set()
    assert registry.names() == ("oak", "fir", "elm")
    assert imported() == {"many", "one"}


def test_packages_in_the_package_register_too(package: str, tmp_path: Path):
    import plants  # made by the fixture

    fill(tmp_path, oak=entry_of("oak", "oak"))
    for folder in ("conifers", "conifers/pines", "_roots"):
        (tmp_path / "plants" / "trees" / folder).mkdir()
        (tmp_path / "plants" / "trees" / folder / "__init__.py").write_text("")
    fill(tmp_path, **{"conifers/fir": entry_of("fir", "fir"), "conifers/pines/stone": entry_of("stone", "stone")})
    fill(tmp_path, **{"conifers/_private": "raise AssertionError", "_roots/deep": "raise AssertionError"})
    (tmp_path / "plants" / "trees" / "__init__.py").write_text("")
    registry = Registry("plant.tree", "trees", package=package)
    plants.register = registry.register
    assert sorted(registry) == ["fir", "oak", "stone"]


# --------------------------------------------------------------------------------------------------------- the library's


def test_names_are_listed_without_torch():
    """Help texts list them; `import torch` takes seconds."""
    code = (
        "import sys\nfrom lionheart.registry import RANKINGS, STRATEGIES\n"
        "print(*STRATEGIES.names(), *RANKINGS.names())\nassert 'lionheart' in STRATEGIES\n"
        "assert not {'torch', 'numpy', 'lionheart.search', 'lionheart.jobs'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*STRATEGIES.names(), *RANKINGS.names()]


def test_the_papers_search_has_the_projects_name():
    assert STRATEGIES.find("lionheart").search.__module__ == "lionheart.search.strategies.greedy"
    assert "greedy" not in STRATEGIES
