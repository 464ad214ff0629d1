"""Progress reports: the library calls a `Progress` object, and the command line displays it.

Library code does not print. Functions that take more than a second accept a `progress` argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """The progress bar of one task."""

    def advance(self, steps: float = 1) -> None:
        """Advance the bar by `steps`."""

    def describe(self, text: str) -> None:
        """Set the text next to the bar."""


class Progress(Protocol):
    """Displays progress bars and messages."""

    def note(self, text: str) -> None:
        """Show a permanent line of text."""

    def bar(self, text: str, total: float | None) -> AbstractContextManager[Bar]:
        """Return a context manager that shows a progress bar.

        Args:
            text: Text next to the bar.
            total: Number of steps; None = unknown.
        """


class _SilentBar:
    def advance(self, steps: float = 1) -> None:
        """Ignore."""

    def describe(self, text: str) -> None:
        """Ignore."""


class SilentProgress:
    """Displays nothing; the default of all functions."""

    def note(self, text: str) -> None:
        """Ignore."""

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[Bar]:
        """Return a context manager with a bar that is not displayed."""
        yield _SilentBar()


SILENT = SilentProgress()
