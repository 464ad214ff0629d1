"""Tab completion of names on the command line. This module must not import torch, so that completion is fast."""

from __future__ import annotations

from pathlib import Path

from lionheart.registry import RANKINGS, STRATEGIES

_PACKAGE = Path(__file__).resolve().parent.parent
PRESETS = ("fast", "best", "quick", "robust", "paper")


def complete_presets(incomplete: str) -> list[str]:
    """Return the names of the presets (named sets of default settings) that start with `incomplete`."""
    return [name for name in PRESETS if name.startswith(incomplete)]


def complete_tasks(incomplete: str) -> list[str]:
    """Return the names of built-in tasks that start with `incomplete`. Only tasks with weights in the package are listed."""
    files = sorted(path.stem for path in (_PACKAGE / "tasks" / "checkpoints").glob("*.safetensors"))
    return [name for name in (stem.replace("_", "/", 1) for stem in files) if name.startswith(incomplete)]


def complete_platforms(incomplete: str) -> list[str]:
    """Return the names of the hardware platforms that start with `incomplete`."""
    names = sorted(path.stem for path in (_PACKAGE / "system" / "platforms").glob("*.toml"))
    return [name for name in names if name.startswith(incomplete)]


def complete_settings(incomplete: str) -> list[str]:
    """Return the assignments for ``--set``, such as ``platforms=hermes``, that start with `incomplete`.

    Only settings whose values are names are completed: search strategy, ranking and platforms.
    """
    values = {
        "search.strategy": STRATEGIES.names(),
        "search.ranking": ("objective", *RANKINGS.names()),
        "platforms": tuple(complete_platforms("")),
    }
    found = [f"{path}={name}" for path, names in values.items() for name in names]
    return [text for text in found if text.startswith(incomplete)]
