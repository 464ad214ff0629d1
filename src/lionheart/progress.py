"""How long work reports itself: the library calls `Progress`, the command line draws it.

Library code never prints. Anything that takes more than a second accepts a `progress` argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One running piece of work."""

    def advance(self, steps: float = 1) -> None:
        """Move on by `steps`."""

    def describe(self, text: str) -> None:
        """Change the text beside the bar."""


class Progress(Protocol):
    """Something that can show bars and lines to a person."""

    def note(self, text: str) -> None:
        """Show one line that stays."""

    def bar(self, text: str, total: float | None) -> AbstractContextManager[Bar]:
        """Open a bar; use as a context manager."""


class _SilentBar:
    def advance(self, steps: float = 1) -> None:
        """Ignore."""

    def describe(self, text: str) -> None:
        """Ignore."""


class SilentProgress:
    """Shows nothing; the default everywhere."""

    def note(self, text: str) -> None:
        """Ignore."""

    @contextmanager
    def bar(self, text: str, total: float | None) -> Iterator[Bar]:
        """Open a bar that nobody sees."""
        yield _SilentBar()


SILENT = SilentProgress()
