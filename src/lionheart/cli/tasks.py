"""From a name on the command line to a `Task`: a built-in one, or a function in the user's file or package."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError, LionHeartError, suggest
from lionheart.progress import Progress
from lionheart.tasks import TASKS, Task, build_task
from lionheart.tasks.registry import build_example
from lionheart.training import choose_device


def load_task(name: str, progress: Progress, device: str | None = None) -> Task:
    """Return the task called ``cifar10/resnet8``, ``path/to/file.py:function`` or ``package.module:function``.

    Args:
        name: Of the task.
        progress: Where downloads show themselves.
        device: Where its model is put: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one; None leaves it where the task
            has it, which for built-in tasks is the CPU.

    Raises:
        ConfigError: There is no such task, function or device, or the function does not return a `Task`.
        ArtifactError: The file cannot be read.
    """
    chosen = None if device is None else choose_device(device)  # before anything is downloaded
    task = _find_task(name, progress)
    if chosen is not None:
        task.model.to(chosen)
    return task


def _find_task(name: str, progress: Progress) -> Task:
    if ":" not in name:
        return build_known(name, progress)
    task = call_function(name)
    if not isinstance(task, Task):
        raise ConfigError(
            f"task: {name} returned {type(task).__name__}, expected a lionheart.Task",
            hint="return lionheart.Task(model=..., train=..., validation=..., test=...)",
        )
    return _renamed(task, name)


def build_known(name: str, progress: Progress) -> Task:
    """Return a built-in task."""
    _require_known(name)
    return build_task(name, progress=progress)


def build_structure(name: str) -> tuple[nn.Module, Tensor] | None:
    """Return a built-in task's network, untrained, and inputs for it; None if it takes the task's data to know them."""
    _require_known(name)
    return build_example(name)


def _require_known(name: str) -> None:
    if "@" not in name and name not in TASKS:
        raise ConfigError(
            f"task: got {name!r}, expected a built-in task or path/to/file.py:function",
            hint=suggest(name, TASKS, label="built-in tasks"),
        )


def call_function(name: str) -> Any:
    """Return what the user's function called ``path/to/file.py:function`` or ``package.module:function`` returns."""
    where, _, function = name.rpartition(":")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    build = getattr(module, function, None)
    if not callable(build):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ConfigError(
            f"task: {where} has no function {function!r}", hint=suggest(function, known, label="functions")
        )
    try:
        return build()
    except LionHeartError:
        raise
    except Exception as error:
        raise ConfigError(
            f"task: {name} failed: {type(error).__name__}: {error}",
            hint="it is called without arguments; --verbose shows where it failed",
        ) from error


def _renamed(task: Task, name: str) -> Task:
    """Return the task under the name by which it can be found again, for example to resume a run."""
    return dataclasses.replace(task, name=name)


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"task: cannot import {name!r}: {error}", hint="is it installed, and spelt right?") from error
    except Exception as error:
        raise ConfigError(
            f"{name}: failed on import: {type(error).__name__}: {error}", hint="fix the module"
        ) from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file", hint="check the path before the colon")
    spec = importlib.util.spec_from_file_location(f"lionheart_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ArtifactError(f"{path}: cannot be imported", hint="expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: failed on import: {type(error).__name__}: {error}", hint="fix the file") from error
    return module
