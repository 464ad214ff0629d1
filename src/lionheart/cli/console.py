"""How the command line talks: bars, tables, errors, exit codes."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lionheart.errors import LionHeartError

EXIT_DONE, EXIT_BUG, EXIT_BAD_INPUT, EXIT_NOT_MET, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

stderr = Console(stderr=True, highlight=False)


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: float = 1) -> None:
        self._progress.advance(self._task, steps)

    def describe(self, text: str) -> None:
        self._progress.update(self._task, description=text)


class RichProgress:
    """Bars with rate and time left on a terminal; one line for each finished bar elsewhere."""

    def note(self, text: str) -> None:
        """Print a line."""
        stderr.print(text, markup=False)

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[_RichBar]:
        """Open a bar that vanishes when it is done."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
            task = progress.add_task(text, total=total, rate="")
            yield _Rated(progress, task)


class _Rated(_RichBar):
    """Shows how many steps a second are done."""

    def advance(self, steps: float = 1) -> None:
        super().advance(steps)
        speed = self._progress.tasks[0].speed
        if speed:
            self._progress.update(self._task, rate=f"{speed:.1f}/s" if speed < 1e4 else f"{speed / 1e6:.1f} M/s")


def print_json(data: Any) -> None:
    """Write data to stdout."""
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


def make_table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return a table in the look of all verbs; columns named in `right` are right-aligned."""
    plain = Text(title, style="bold")  # a string may hold markup: hf:llama: would end in a picture of one
    table = Table(title=plain, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in right, overflow="fold"
        )
    return table


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Turn errors into one message and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LionHeartError as error:
            if debug:
                stderr.print(traceback.format_exc(), markup=False)
            stderr.print(f"error: {error.message}", style="bold red", markup=False, soft_wrap=True)
            if error.hint:
                stderr.print(f"  hint: {error.hint}", markup=False, soft_wrap=True)
            raise typer.Exit(EXIT_BAD_INPUT) from None
        except KeyboardInterrupt:
            stderr.print("stopped. A training goes on where it was when it is run again.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except typer.Exit:
            raise
        except Exception as error:
            if debug:
                stderr.print(traceback.format_exc(), markup=False)
            text = f"internal error: {type(error).__name__}: {error}"
            stderr.print(text, style="bold red", markup=False, soft_wrap=True)
            stderr.print("  hint: this is a bug in lionheart; run again with --debug and report it", markup=False)
            raise typer.Exit(EXIT_BUG) from None

    return run
