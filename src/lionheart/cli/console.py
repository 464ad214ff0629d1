"""Output of the command line (progress bars, tables, warnings and errors), and exit codes of the commands."""

from __future__ import annotations

import json
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as ProgressTask
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from lionheart.deprecated import DeprecatedNameWarning
from lionheart.errors import LionHeartWarning
from lionheart.text import cut_middle, escape_controls, shorten_message, shorten_words

_MOST_OF_A_CELL, _MOST_OF_A_NAME = 400, 1_000  # characters
EXIT_DONE, EXIT_BUG, EXIT_BAD_INPUT, EXIT_NOT_MET = 0, 1, 2, 3


class _Escaped:
    """A printable object of rich whose control characters, such as escape sequences of terminals, are shown escaped."""

    def __init__(self, shown: RenderableType) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._shown, options):
            yield segment if segment.control else Segment(escape_controls(segment.text), segment.style)


class _EscapingHook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(each) for each in renderables]


class _PlainConsole(Console):
    """A console that shortens very long names in text."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; see `rich.console.Console.print`."""
        super().print(
            *(shorten_words(each, _MOST_OF_A_NAME) if isinstance(each, str) else each for each in objects), **options
        )


def _make_console() -> Console:
    """Return a console for stderr that shows text as it is: markup and emoji codes of rich have no effect."""
    console = _PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)
    console.push_render_hook(_EscapingHook())
    return console


#: Parts of a name that start at a dot, and pieces of a part that start at a dot or underscore.
_PARTS, _PIECES = re.compile(r"\.?[^.]+|\."), re.compile(r"[._]?[^._]+|[._]")
#: Progress and readable results; silent with --quiet.
stderr = _make_console()
_urgent = _make_console()


def warn(text: str) -> None:
    """Print the warning `text` to stderr as one line, even with --quiet."""
    _urgent.print(f"warning: {text}", style="yellow", soft_wrap=True)


def say(text: str) -> None:
    """Print `text` to stderr, even with --quiet. An example of a text is how to resume an interrupted run."""
    _urgent.print(text, soft_wrap=True)


def show_error(message: str, hint: str = "", *, verbose: bool = False) -> None:
    """Print an error message and its hint to stderr, even with --quiet.

    Args:
        message: Error message.
        hint: How to resolve the error; empty = no hint.
        verbose: Whether to print the traceback of the current exception first.
    """
    if verbose:
        _urgent.print(traceback.format_exc())
    _urgent.print(f"error: {shorten_message(message)}", style="bold red", soft_wrap=True)
    if hint:
        say(f"  hint: {hint}")


@contextmanager
def printing(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Return a context manager for the output of one command. In its context, each warning of lionheart is printed once.

    Args:
        quiet: Whether to print only errors, warnings and data.
        verbose: Whether to print warnings in the format of Python, with file and line number, instead of as one line.
    """
    seen: set[str] = set()
    show_other = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if verbose or not issubclass(category, (LionHeartWarning, DeprecatedNameWarning)):
            show_other(message, category, filename, lineno, file, line)
        elif str(message) not in seen:
            seen.add(str(message))
            warn(shorten_message(str(message)))

    stderr.quiet = quiet
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=DeprecatedNameWarning)
            warnings.showwarning = show
            yield
    finally:
        stderr.quiet = False


class _RichBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, steps: float = 1) -> None:
        self._progress.advance(self._task, steps)

    def describe(self, text: str) -> None:
        self._progress.update(self._task, description=escape_controls(text))


class RichProgress:
    """A `lionheart.progress.Progress` object that prints lines of text to stderr and, on a terminal, shows progress bars."""

    def note(self, text: str) -> None:
        """Print `text` to stderr as a line, unless the command has the flag --quiet."""
        stderr.print(text)

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[_RichBar]:
        """Return a context manager that shows a progress bar, which disappears at the end of the context.

        Args:
            text: Text next to the bar.
            total: Number of steps of the complete operation; None = unknown.
        """
        columns = (
            _DescriptionColumn(),
            BarColumn(bar_width=16, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
        )
        with Progress(
            *columns, console=stderr, transient=True, disable=stderr.quiet or not stderr.is_terminal
        ) as progress:
            task = progress.add_task(escape_controls(text), total=total, rate="")
            yield _Rated(progress, task)


class _Rated(_RichBar):
    """Progress bar that also shows the number of steps per second."""

    def advance(self, steps: float = 1) -> None:
        super().advance(steps)
        speed = self._progress.tasks[0].speed
        if speed:
            self._progress.update(self._task, rate=f"{speed:.1f}/s" if speed < 1e4 else f"{speed / 1e6:.1f} M/s")


def print_json(data: Any) -> None:
    """Write `data` (JSON types) to stdout as indented JSON."""
    text = json.dumps(data, indent=2, allow_nan=False)  # escapes all control characters but DEL
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")


class _ShortTable(Table):
    """A table in which texts of more than 400 characters are shortened."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row; see `rich.table.Table.add_row`."""
        short = [cut_middle(each, _MOST_OF_A_CELL) if isinstance(each, str) else each for each in cells]
        super().add_row(*short, **options)


@final
class NameCell:
    """Table cell that shows a name given by the user, such as that of a layer. It is wrapped at dots and underscores.

    Args:
        text: Name; a line break in it is kept. Control characters are shown as escape sequences, and markup has no effect.
            A name of more than 400 characters is shortened.
    """

    def __init__(self, text: str) -> None:
        self._lines = cut_middle(escape_controls(text), _MOST_OF_A_CELL).split("\n")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            yield Text("\n".join(_wrap_name(line, options.max_width)), overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = [cell_len(line) for line in self._lines]
        parts = [cell_len(part) for line in self._lines for part in _PARTS.findall(line)]
        return Measurement(max(parts, default=0), max(widths)).with_maximum(options.max_width)


def _wrap_name(name: str, width: int) -> list[str]:
    """Return the lines of `name`, wrapped before dots, and before underscores if a part between dots is longer than a line."""
    lines = [""]
    for part in _PARTS.findall(name):
        pieces = [part] if cell_len(part) <= width else _PIECES.findall(part)
        for piece in pieces:
            if lines[-1] and cell_len(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
    return lines


@final
class _DescriptionColumn(ProgressColumn):
    """Column of a progress bar with the description, which is the only column that is shortened on a narrow terminal."""

    def render(self, task: ProgressTask) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")


def make_table(title: str, *columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return a table without rows, in the style of the tables that the commands print.

    Args:
        title: Title, shown as it is: markup of rich in the title has no effect.
        columns: Headings of the columns.
        right: Headings of the columns that are right-aligned and never wrapped; all other columns are left-aligned.
    """
    plain = Text(cut_middle(title, _MOST_OF_A_CELL), style="bold")
    table = _ShortTable(title=plain, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in right, overflow="fold"
        )
    return table
