"""Comparison of the environment in which a run was resumed with that in which it was started.

Another number of threads, another processor or another version of PyTorch changes the last bits of sums. Weights and scores of
such a run differ from those of an unbroken run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lionheart.errors import ArtifactError
from lionheart.record import read_record
from lionheart.runs.records import Environment, RunDescription
from lionheart.runs.summary import Caution

_NAMES = {
    "threads": "threads",
    "device": "PyTorch device",
    "gpu": "GPU",
    "cpu_capability": "instruction set",
    "torch": "PyTorch",
    "lionheart": "lionheart",
}


def compare_environments(first: Environment | None, now: Environment) -> list[str]:
    """Return one phrase for each property that affects last bits and differs, such as ``"threads: 2, then 1"``.

    Args:
        first: Environment at the start of the run; None = not recorded, and nothing is compared.
        now: Environment at a resume.
    """
    if first is None:
        return []
    pairs = {text: (getattr(first, name), getattr(now, name)) for name, text in _NAMES.items()}
    return [f"{text}: {before}, then {after}" for text, (before, after) in pairs.items() if before != after]


def describe_environment_change(changes: Iterable[str]) -> str:
    """Return a sentence on a run that was resumed in another environment."""
    return (
        f"The run was resumed in another environment ({'; '.join(changes)}): its weights and scores differ from those of an "
        "unbroken run, in the last bits or more."
    )


def find_environment_cautions(description: RunDescription, events: Iterable[Mapping[str, Any]]) -> tuple[Caution, ...]:
    """Return a caution if a run was resumed in another environment than that of its start.

    Args:
        description: Description of the run.
        events: Events of the journal. A resume whose environment cannot be read is skipped.
    """
    changes: dict[str, None] = {}
    for event in events:
        if event.get("event") != "resumed":
            continue
        try:
            now = read_record(Environment, event.get("environment"), "journal")
        except ArtifactError:
            continue
        changes |= dict.fromkeys(compare_environments(description.environment, now))
    return (Caution(code="other_environment", text=describe_environment_change(changes)),) if changes else ()
