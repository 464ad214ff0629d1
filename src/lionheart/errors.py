"""Errors and warnings: what went wrong, where, what was expected, what to do.

Every error that a user can cause derives from `LionHeartError` and from the built-in that fits, so ``except ValueError``
keeps working. The command line turns them into one message and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LionHeartError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: Where it happened, what came, what was expected.
        hint: What the user can do about it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(LionHeartError, ValueError):
    """A setting is missing, unknown or impossible."""


class GraphError(LionHeartError, RuntimeError):
    """The network could not be traced: its forward pass failed or is inconsistent."""


class UnsupportedLayerError(LionHeartError, TypeError):
    """A layer was asked to be analog although it cannot be mapped."""


class TilingError(LionHeartError, ValueError):
    """A weight matrix cannot be partitioned over tiles as asked."""


class NumericsError(LionHeartError, ArithmeticError):
    """A computation left the finite numbers, for example a diverged training."""


class ArtifactError(LionHeartError, OSError):
    """A file is missing, unreadable, corrupt, or cannot be written."""


class LionHeartWarning(UserWarning):
    """Base of all warnings."""


class CalibrationWarning(LionHeartWarning):
    """An input range had to be guessed or saturates."""


class NumericsWarning(LionHeartWarning):
    """A result is finite but doubtful."""


class ExtrapolationWarning(LionHeartWarning):
    """A fitted model is used outside the range it was measured in."""


def suggest(name: str, known: Iterable[str], *, label: str = "known names") -> str:
    """Return a hint that names the nearest of `known`, and lists a few of them."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    listed = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    start = f"did you mean '{near[0]}'? " if near else ""
    return f"{start}{label}: {listed}"
