"""The structure of the package: sizes, one way of doing each thing, no circle of imports. Read from the source, not run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

SOURCE = ROOT / "src"
PACKAGE = SOURCE / "lionheart"
MODULES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 400
MOST_PARAMETERS = 8
#: Functions that may have more parameters, each an evaluation's full description.
MANY_PARAMETERS = {"lionheart.evaluation.chips.evaluate_over_chips", "lionheart.jobs.evaluate.evaluate_run"}
#: Modules whose functions are verbs of the command line: each option is a parameter.
VERBS = ("lionheart.cli.", "lionheart.experimental.pareto.verb")
#: Modules that convert by hand: the two base classes, whose methods call pydantic.
CONVERTERS = {"lionheart.spec", "lionheart.record"}
UPGRADES = {"lionheart.runs.upgrade", "lionheart.experimental.pareto.files"}  # read what older versions wrote
STRING_READS = re.compile(r"""\b(?:\w*results|evaluation|decision|accuracy|certificate)(?:\[["']|\.get\(["'])""")
DROP = re.compile(r"\b100(?:\.0)?\s*\*\s*\(.*\s-\s")  # 100 times a difference


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in NAMES.items()}


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield all functions and methods with their full names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}.{node.name}", node
        nested = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        yield from functions(node, f"{prefix}.{node.name}" if nested else prefix)


def count_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    stars = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return len([name for name in names if name not in ("self", "cls")]) + len(stars)


# --------------------------------------------------------------------------------------------------------------- sizes


def test_modules_are_short():
    folders = (PACKAGE, ROOT / "benchmarks")
    lines = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for each in folders for path in each.rglob("*.py")
    }
    assert {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > MOST_LINES} == {}


def test_functions_have_few_parameters():
    many = {
        name: n
        for module, tree in TREES.items()
        if not module.startswith(VERBS)
        for name, function in functions(tree, module)
        if (n := count_parameters(function)) > MOST_PARAMETERS
    }
    assert {name: n for name, n in many.items() if name not in MANY_PARAMETERS} == {}
    assert set(many) == MANY_PARAMETERS  # an exception that is not needed any more is removed here


# ------------------------------------------------------------------------------------------------------ one of each


def test_records_convert_themselves():
    by_hand = [
        name
        for module, tree in TREES.items()
        if module not in CONVERTERS
        for name, function in functions(tree, module)
        if function.name in ("to_json", "from_json")
    ]
    assert by_hand == []


def test_there_is_one_registry():
    classes = [
        f"{module}.{node.name}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and re.search("Registry", node.name)
    ]
    assert classes == ["lionheart.registry.Registry"]


def test_nothing_is_registered_in_a_dictionary():
    """A dictionary of a module that a function of it fills from outside is a registry of its own."""
    found = []
    for module, tree in TREES.items():
        tables = {
            target.id
            for node in tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, (ast.Dict, ast.DictComp))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        for name, function in functions(tree, module):
            if function.name.lstrip("_").startswith("register"):
                filled = {
                    node.value.id
                    for node in ast.walk(function)
                    if isinstance(node, ast.Subscript)
                    and isinstance(node.ctx, ast.Store)
                    and isinstance(node.value, ast.Name)
                }
                found += [f"{name}: {table}" for table in sorted(filled & tables)]
    assert found == []


def test_results_are_read_by_attribute():
    found = [
        f"{module}:{number}: {line.strip()}"
        for module, path in NAMES.items()
        if module not in UPGRADES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if STRING_READS.search(line)
    ]
    assert found == []


def test_there_is_one_formula_of_the_drop():
    found = [
        f"{module}:{number}: {line.strip()}"
        for module, path in NAMES.items()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if DROP.search(line)
    ]
    [formula] = [line for line in found if line.startswith("lionheart.metrics.metric:")]
    assert found == [formula]


# ------------------------------------------------------------------------------------------------------------- imports


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield what is imported anywhere in a module, in its functions too; not what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif is_type_checking(node):
            for other in node.orelse:
                yield from imports(other)
        else:
            yield from imports(node)


def imported_modules(module: str) -> set[str]:
    """Return the modules of the package that a module imports. A package is no module of what is in it."""
    found = set()
    for node in imports(TREES[module]):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{module}: relative import"
            base = node.module or ""
            targets = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in NAMES else base for alias in node.names]
        found |= {target for target in targets if target in NAMES}
    return found - {module}


def find_circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of a circle, or nothing."""
    done: set[str] = set()
    for start in sorted(graph):
        path: list[str] = []
        on_path: set[str] = set()
        stack = [(start, iter(sorted(graph[start])))] if start not in done else []
        while stack:
            module, following = stack[-1]
            if module not in on_path:
                path.append(module)
                on_path.add(module)
            step = next((each for each in following if each not in done), None)
            if step is None:
                done.add(module)
                on_path.discard(path.pop())
                stack.pop()
            elif step in on_path:
                return [*path[path.index(step) :], step]
            else:
                stack.append((step, iter(sorted(graph[step]))))
    return []


def test_no_circle_of_imports():
    graph = {module: imported_modules(module) for module in NAMES}
    assert sum(map(len, graph.values())) > len(graph)  # the graph was read
    circle = find_circle(graph)
    assert circle == [], " -> ".join(circle)


@pytest.mark.parametrize(
    ("graph", "circle"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"c"}, "c": set(), "d": {"a"}}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
    ],
)
def test_circles_are_found(graph: dict[str, set[str]], circle: list[str]):
    assert find_circle(graph) == circle
