"""The scripts of `benchmarks`, imported as their commands run them: each with its folder on the path."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


def load_benchmark(name: str) -> ModuleType:
    """Import ``folder/script``; the script can import its neighbours."""
    path = BENCHMARKS / name
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = import_module(path.name)
    assert Path(str(module.__file__)).parent == path.parent, f"another module is called {path.name}"
    return module
