"""Interfaces through which library functions report their progress.

Library code does not print. Functions that may run for more than a second have a parameter `progress`, whose methods they call.
The command line passes an object that displays progress bars. The default object displays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """A progress bar for one operation, such as a training."""

    def advance(self, steps: float = 1) -> None:
        """Advance the bar by `steps`, a number of completed steps."""

    def describe(self, text: str) -> None:
        """Replace the text next to the bar by `text`."""


class Progress(Protocol):
    """An object that displays progress bars and lines of text for the user."""

    def note(self, text: str) -> None:
        """Show a line of text that stays visible after the progress bars have ended."""

    def bar(self, text: str, total: float | None) -> AbstractContextManager[Bar]:
        """Return a context manager that shows a progress bar within its context.

        Args:
            text: Text next to the bar.
            total: Number of steps of the complete operation; None = unknown.
        """


class _SilentBar:
    def advance(self, steps: float = 1) -> None:
        """Do nothing."""

    def describe(self, text: str) -> None:
        """Do nothing."""


class SilentProgress:
    """A `Progress` object that displays nothing. Library functions use this object if no other is passed as `progress`."""

    def note(self, text: str) -> None:
        """Do nothing."""

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[Bar]:
        """Return a context manager with a bar that is not displayed."""
        yield _SilentBar()


SILENT = SilentProgress()
