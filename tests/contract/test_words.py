"""The source and the documentation use the field's words: words that were replaced do not return."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]
_SUFFIXES = {".py", ".pyi", ".j2", ".css", ".c", ".h", ".hh", ".toml", ".md"}

#: Replaced words and phrases -> what to say. Words are lower case; identifiers are split at underscores and capitals before the
#: search, so ``WeightStandIn`` is read as "weight stand in". The keys are regular expressions over whole words.
REPLACED: Final[dict[str, str]] = {
    "rooms?": "package, module, space",
    "houses?": "package",
    "floors?": "lower bound",
    "doors?": "module, function",
    "promis(?:e|es|ed|ing)": "confidence level",
    "last word": "hold-out test",
    "certif(?:y|ies|ied|ying|icates?)": "hold-out test",
    "limit pp": "drop_ucb_pp",
    "chip meters?": "ChipEvaluator",
    "ladders?": "sensitivity order",
    "rungs?": "prefix sets",
    "hasty": "early_stop",
    "lean": "drop_unprofitable",
    "settl(?:e|es|ed|ing)": "commit, rollback",
    "choose corrections": "tune_compensation",
    "find reprogramming": "refresh_interval",
    "efforts?": "preset",
    "register kinds?": "register_layer_type",
    "layer kinds?": "layer type",
    "kinds? of layers?": "layer type",
    "ledgers?": "TraceRecorder",
    "stand ins?": "proxy",
    "stands in for": "replaces",
    "shells?": "wrapper",
    "obstacles?": "unsupported_reason",
    "makers": "producers",
    "mvm jobs?": "MVMParams",
    "tile rows? spec": "TileSlice",
    "taught batches": "DistillationBatches",
    "some batches": "BatchSlice",
    "second opinions?": "cross-check",
    "verdicts?": "summary",
    "aims?": "objective",
    "aftermaths?": "post_search",
    "facts": "report data",
    "mend(?:s|ed|ing)?": "fix",
    "anew": "again, once more",
    "beside": "next to, with",
    "dearer": "more expensive",
    "at the plug": "wall power",
    "such a one": "name the noun",
}

#: Text that is removed before the search, with the reason.
ALLOWED_TEXT: Final[dict[str, str]] = {
    r"\b(?:math|np|numpy|torch)\.floor\w*|\.floor_?\(|\"floor\w*\"|\bfloor_divide\w*": "functions of NumPy and PyTorch",
    r"AIMClib": "name of ALPINE's library",
    r"^\[cycles_per_\w+\.floor\]": "operation of PyTorch in a table of costs",
    r"floor plan": "term of chip design",
    r"shell[- ](?:pattern|glob|command|completion)s?": "the command line's shell",
    r"(?:bash|zsh|fish|command)[- ]?shells?": "the command line's shell",
    r"shell=(?:True|False)|/bin/sh|```shell": "the command line's shell",
}

#: File (or folder) -> (words exempt there, or None for all, reason).
EXEMPT: Final[dict[str, tuple[set[str] | None, str]]] = {
    "src/lionheart/deprecated.py": (None, "old public names that still work with a warning"),
    "src/lionheart/runs/upgrade.py": (None, "old keys of files"),
}

#: Names of fields, parameters and classes that are ordinary words in prose: name -> what to say.
FIELDS: Final[dict[str, str]] = {
    "after": "scheduled_after",
    "idle": "unused",
    "makers": "producers",
    "obstacle": "unsupported_reason",
    "promise": "confidence_level",
    "effort": "preset",
}
CLASSES: Final[dict[str, str]] = {
    "Measure": "Metric",
    "Steps": "SearchLoop",
    "TileRow": "TileSlice",
    "Part": "ProjectionView",
    "Parts": "ProjectionView",
    "Ledger": "TraceRecorder",
    "Origins": "StorageTracker",
}
MODULES: Final[dict[str, str]] = {
    "readers": "question_answering",
    "spans": "answer_spans",
    "windows": "tokenised_windows",
    "kinds": "layer_types",
    "shells": "wrappers",
    "parts": "wrappers",
    "stand_ins": "proxies",
}
#: Packages whose records describe layers; there a field ``kind`` is a layer type.
LAYER_PACKAGES = ("graph", "candidates", "analog", "mapping.py", "partition.py")


def _files() -> list[Path]:
    found = [path for folder in ("src", "docs") for path in (ROOT / folder).rglob("*") if path.suffix in _SUFFIXES]
    return sorted([*found, ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def _sources() -> list[Path]:
    return [path for path in _files() if path.suffix == ".py" and path.is_relative_to(ROOT / "src")]


def _exempt(path: Path) -> set[str] | None:
    """Return the words that are exempt in a file; None = all."""
    name = path.relative_to(ROOT).as_posix()
    for exempt, (words, _) in EXEMPT.items():
        if name == exempt or name.startswith(f"{exempt}/"):
            return words
    return set()


@cache
def _allowed() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in ALLOWED_TEXT), re.MULTILINE)


@cache
def _replaced() -> list[tuple[str, str, re.Pattern[str]]]:
    """Return (key, letters that every match contains, expression) of each replaced word."""
    found = []
    for key in REPLACED:
        stem = re.match(r"[a-z ]*", key)[0]
        stem = stem[:-1] if key[len(stem) :].startswith("?") else stem
        found.append((key, stem, re.compile(rf"\b{key}\b")))
    return found


def normalise(text: str) -> str:
    """Return text in lower case with identifiers split into words and without allowed text; lines stay."""
    text = _allowed().sub(" ", text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return re.sub(r"[ \t_\-]+", " ", text).lower()


def find_replaced(text: str, exempt: Collection[str] | None = ()) -> Iterator[tuple[int, str, str]]:
    """Yield (line, word, what to say) for each replaced word; `exempt` None = all are exempt."""
    if exempt is None:
        return
    normal = normalise(text)
    found = []
    for key, stem, expression in _replaced():
        if key not in exempt and stem in normal:
            found += [(match.start(), match[0], REPLACED[key]) for match in expression.finditer(normal)]
    for start, word, say in sorted(found):
        yield normal.count("\n", 0, start) + 1, word, say


def test_replaced_words_do_not_return():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {word!r}, say {say}"
        for path in _files()
        for number, word, say in find_replaced(path.read_text(encoding="utf-8"), _exempt(path))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class WeightStandIn:", ["stand in"]),
        ("self.limit_pp = choose_corrections(x)", ["limit pp", "choose corrections"]),
        ("math.floor(x) and torch.floor(x), a shell pattern", []),
        ("a floor under the noise, a second opinion, register_kind", ["floor", "second opinion", "register kind"]),
        ("clean besides cleaning; compromise; leaner", []),
        ("--effort robust, --promise 0.95", ["effort", "promise"]),
    ],
)
def test_what_is_found(text: str, words: list[str]):
    assert [word for _, word, _ in find_replaced(text)] == words


def _names(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield (line, name, advice) of fields, parameters and classes with replaced names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if node.name in CLASSES:
                yield node.lineno, node.name, CLASSES[node.name]
            for field in node.body:
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and field.target.id in FIELDS
                ):
                    yield field.lineno, field.target.id, FIELDS[field.target.id]
        elif isinstance(node, ast.arg) and node.arg == "place" and node.annotation is not None:
            yield from [(node.lineno, node.arg, "device")] if "device" in ast.unparse(node.annotation) else []


@cache
def _may_have() -> re.Pattern[str]:
    fields, classes = "|".join(FIELDS), "|".join(CLASSES)
    return re.compile(rf"^\s+(?:{fields}): |^class (?:{classes})\b|\bplace: |^\s+kind: ", re.MULTILINE)


def _trees() -> Iterator[tuple[Path, ast.AST]]:
    """Yield the parsed sources that may have a replaced name."""
    for path in _sources():
        text = path.read_text(encoding="utf-8")
        if _exempt(path) is not None and _may_have().search(text):
            yield path, ast.parse(text)


def test_fields_and_classes_have_the_fields_names():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {name!r}, say {say}"
        for path, tree in _trees()
        for number, name, say in _names(tree)
    ]
    assert not found, "\n".join(found)


def test_a_layer_has_a_layer_type():
    found = [
        f"{path.relative_to(ROOT)}:{field.lineno}: 'kind', say layer_type"
        for path, tree in _trees()
        if path.relative_to(ROOT / "src" / "lionheart").parts[0] in LAYER_PACKAGES
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id == "kind"
    ]
    assert not found, "\n".join(found)


def test_modules_have_the_fields_names():
    found = [
        f"{path.relative_to(ROOT)}: say {MODULES[name]}"
        for path in _sources()
        for name in (path.stem if path.stem != "__init__" else path.parent.name,)
        if name in MODULES
    ]
    assert not found, "\n".join(found)


def test_exemptions_are_in_use():
    for name in EXEMPT:
        assert (ROOT / name).exists(), name
