"""The folder of a run: its default name, its description, and what happens to it if the run fails before its search."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from lionheart.errors import ConfigError, LionHeartWarning, check_type
from lionheart.evaluation import naming_data
from lionheart.files import make_file_name
from lionheart.jobs.checks import list_splits
from lionheart.jobs.settings import MapSettings
from lionheart.runs import RunDescription, RunDirectory, describe_environment, timestamp
from lionheart.runs.environment import compare_environments, describe_environment_change
from lionheart.tasks import Task
from lionheart.text import escape_controls

_BEFORE_SEARCH = ("baseline", "bound", "rescaling")  # values in the journal that are no results of the search


def choose_run_dir(run_dir: Path | str | None, name: str) -> Path:
    """Return the directory of a new run: `run_dir` or, if this is None, a new directory below ``./runs``.

    Args:
        run_dir: Directory that the user has chosen; None = a directory with a default name.
        name: Name of the task, from which the default name is composed.

    Raises:
        ConfigError: `run_dir` is not a path, or is empty.
    """
    if run_dir is None:
        return default_run_dir(name)
    check_type(run_dir, (str, Path), "run_dir", hint="give the path of a new directory, for example runs/first")
    if not str(run_dir).strip():
        raise ConfigError(
            f"run_dir: got {str(run_dir)!r}, expected the path of a new directory",
            hint="for example runs/first; None selects a new directory below ./runs",
        )
    return Path(run_dir)


def default_run_dir(name: str) -> Path:
    """Return a path below ``./runs`` that does not exist yet, composed of the task's name and the current time.

    The name of the directory is safe on command lines, in addresses of scp and on Windows.
    """
    base = Path("runs") / f"{make_file_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(p for i in range(1000) if not (p := base if i == 0 else base.with_name(f"{base.name}-{i}")).exists())


def describe_run(task: Task, settings: MapSettings, command: str) -> RunDescription:
    """Return the description of a new run: task, settings, command, software and hardware. It is stored as ``run.json``."""
    environment = describe_environment(task.device)
    return RunDescription(
        lionheart_version=environment.lionheart,
        created=timestamp(),
        task=task.name,
        seed=settings.seed,
        command=escape_controls(command),
        settings=settings.to_json(),
        environment=environment,
    )


@contextmanager
def working_on_new(run: RunDirectory, task: Task) -> Iterator[None]:
    """Lock a new run within the context. If an error occurs before a result of the search is in the journal, delete the run.

    The corrected call can then use the same directory. A run that is interrupted or killed is kept, because it can be resumed.
    A `NumericsError` names the split and the batch with invalid values, if there are any.

    Args:
        run: Run that `RunDirectory.create` has returned.
        task: Task of the run.
    """
    with run.lock(), naming_data(list_splits(task)):
        try:
            yield
        except Exception:
            if not any("value" in event and event["event"] not in _BEFORE_SEARCH for event in run.journal.events()):
                run.discard()
            raise


def warn_of_environment(run: RunDirectory, device: torch.device) -> None:
    """Issue a warning if the process that started a run had other software, another device or another number of threads.

    The last digits of sums depend on them, so that a resumed run can differ from an uninterrupted run.

    Args:
        run: Run that is resumed.
        device: Torch device on which the model is computed now.
    """
    before, now = run.description().environment, describe_environment(device)
    changes = compare_environments(before, now)
    if before is None or not changes:
        return
    hint = f" OMP_NUM_THREADS={before.threads} sets the number of threads." if before.threads != now.threads else ""
    warnings.warn(f"{run.path}: {describe_environment_change(changes)}{hint}", LionHeartWarning, stacklevel=3)
