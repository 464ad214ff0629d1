"""Loading of tasks that are named on the command line: built-in tasks, and functions in the user's files or packages."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError, LionHeartError, suggest
from lionheart.progress import Progress
from lionheart.runs import RunDirectory
from lionheart.tasks import TASKS, Task, build_task
from lionheart.tasks.registry import build_example
from lionheart.training import choose_device


def load_task(name: str, progress: Progress, device: str | None = None) -> Task:
    """Return the task called `name`: a built-in task, or the result of a function of the user.

    Args:
        name: Built-in task, such as ``cifar10/resnet8``; or function that returns a `Task`, as ``path/to/file.py:function`` or
            ``package.module:function``.
        progress: Display of the progress of downloads.
        device: PyTorch device of the model: ``cpu``, ``cuda``, or ``auto`` for a GPU if available. None = the model is
            not moved. The models of built-in tasks are on the CPU.

    Raises:
        ConfigError: The task, function or device is unknown, or the function fails or does not return a `Task`.
        ArtifactError: The file cannot be read.
    """
    chosen = None if device is None else choose_device(device)  # raises before a download starts
    task = _find_task(name, progress)
    if chosen is not None:
        task.model.to(chosen)
    return task


def load_run_task(
    run: RunDirectory,
    given: str | None,
    progress: Progress,
    device: str | None = None,
    *,
    is_trusted: bool,
    verb: str,
) -> Task:
    """Return the task of a run. Unless the user names or trusts it, only a built-in task is loaded: others run code.

    Args:
        run: Run directory.
        given: Task that the user has named; None = the task that ``run.json`` names.
        progress: Display of the progress of downloads.
        device: PyTorch device of the model, as in `load_task`.
        is_trusted: Whether the user trusts the folder, so that any task that ``run.json`` names may be loaded.
        verb: Command that loads the task, for the hint of an error.

    Raises:
        ConfigError: The task that ``run.json`` names is not built in, and the user neither named nor trusts it. Errors of
            `load_task` are raised too.
        ArtifactError: The file of the task cannot be read.
    """
    name = given or run.description().task
    if given is None and not (name in TASKS or (is_trusted and (":" in name or "@" in name))):
        words = ["lionheart", verb, "TASK", "--resume", str(run.path)]
        if verb in ("evaluate", "export"):
            words = ["lionheart", verb, str(run.path), "--task", "TASK"]
        trust = " Or add --trust-task, which runs the code that the folder names." if ":" in name or "@" in name else ""
        raise ConfigError(
            f"{run.path}: the task {name!r} of this run is not built in; the command loads it only if you name it",
            hint=f"name the task: {shlex.join(words)} (FILE.py:FUNCTION, MODULE:FUNCTION or NAME@MODEL).{trust}",
        )
    return load_task(name, progress, device)


def resume_words(verb: str, task: str, path: Path) -> list[str]:
    """Return the words of the command that continues a run. It names the task if the task is not built in."""
    return ["lionheart", verb, *([] if task in TASKS else [task]), "--resume", str(path)]


def _find_task(name: str, progress: Progress) -> Task:
    if ":" not in name:
        return build_known(name, progress)
    task = call_function(name)
    if not isinstance(task, Task):
        raise ConfigError(
            f"task: {name!r} returned {type(task).__name__}, expected a lionheart.Task",
            hint="return lionheart.Task(model=..., train=..., validation=..., test=...)",
        )
    return _renamed(task, name)


def build_known(name: str, progress: Progress) -> Task:
    """Return the built-in task called `name`, with its data and trained weights.

    Raises:
        ConfigError: No built-in task has this name.
    """
    _require_known(name)
    return build_task(name, progress=progress)


def build_structure(name: str) -> tuple[nn.Module, Tensor] | None:
    """Return ``(network, example_inputs)`` of a built-in task, where the network is untrained and the inputs are zeros.

    Return None if the network cannot be traced without the data of the task.

    Raises:
        ConfigError: No built-in task has this name.
    """
    _require_known(name)
    return build_example(name)


def _require_known(name: str) -> None:
    if "@" not in name and name not in TASKS:
        raise ConfigError(
            f"task: got {name!r}, expected a built-in task, path/to/file.py:function or package.module:function",
            hint=suggest(name, TASKS, label="built-in tasks"),
        )


def call_function(name: str) -> Any:
    """Import the function called `name`, call it without arguments, and return its result.

    Args:
        name: ``path/to/file.py:function`` or ``package.module:function``.

    Raises:
        ConfigError: The module or function does not exist, or raises an exception.
        ArtifactError: The file cannot be read.
    """
    where, _, function = name.rpartition(":")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    build = getattr(module, function, None)
    if not callable(build):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(
            f"task: {where!r} has no function {function!r}", hint=suggest(function, known, label="functions")
        )
    try:
        return build()
    except LionHeartError:
        raise
    except Exception as error:
        raise ConfigError(
            f"task: the function {name!r} failed: {type(error).__name__}: {error}",
            hint="correct the function, which is called without arguments; --verbose shows the traceback",
        ) from error


def _renamed(task: Task, name: str) -> Task:
    """Return a copy of the task with the name `name`, as given on the command line, so that a resumed run can load the task."""
    return dataclasses.replace(task, name=name)


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"task: cannot import {name!r}: {error}",
            hint="check the spelling of the module, and that its package is installed",
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{name}: failed on import: {type(error).__name__}: {error}",
            hint="correct the error in the module; --verbose shows the traceback",
        ) from error


def _load_file(path: Path) -> Any:
    if not os.path.isfile(path):  # unlike Path.is_file, returns False for an impossible path
        raise ArtifactError(
            f"{path}: no such file", hint="check the path of the Python file, the part before the colon"
        )
    spec = importlib.util.spec_from_file_location(f"lionheart_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ArtifactError(
            f"{path}: cannot be imported as a Python module", hint="give the path of a Python file before the colon"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(
            f"{path}: failed on import: {type(error).__name__}: {error}",
            hint="correct the file; --verbose shows the traceback",
        ) from error
    return module
