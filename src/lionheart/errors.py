"""Exceptions that LionHeart raises, and warnings that LionHeart issues.

A message states where the error occurred, the given value and the expected value. A hint states how to resolve the error. Every
exception that a user can cause derives from `LionHeartError` and from a built-in exception, so that ``except ValueError`` also
catches a `ConfigError`. The command line prints the message and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from lionheart.text import shorten_message


class LionHeartError(Exception):
    """Base class of all exceptions that LionHeart raises for errors of the user.

    Long inputs of the user that the message or the hint repeats are shortened, see `lionheart.text.shorten_message`.

    Args:
        message: Where the error occurred, the given value and the expected value.
        hint: How to resolve the error; empty = no hint.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message, self.hint = shorten_message(message), shorten_message(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(LionHeartError, ValueError):
    """A setting or argument is missing, unknown, or has a value that is not allowed."""


class GraphError(LionHeartError, RuntimeError):
    """The network cannot be traced, because its forward pass fails or computes no projection (product with a weight matrix)."""


class UnsupportedLayerError(LionHeartError, TypeError):
    """A layer of a network cannot be converted to an analog layer."""


class TilingError(LionHeartError, ValueError):
    """A weight matrix cannot be split into blocks for analog tiles, or given blocks do not fit the matrix or the tiles."""


class NumericsError(LionHeartError, ArithmeticError):
    """The result of a computation is NaN or infinite, for example because training diverges."""


class ArtifactError(LionHeartError, OSError):
    """A file is missing, unreadable or damaged, or cannot be written."""


class LionHeartWarning(UserWarning):
    """Base class of all warnings that LionHeart issues."""


class CalibrationWarning(LionHeartWarning):
    """The input range of an analog layer is not calibrated, or inputs of the layer exceed its input range and are clipped."""


class DataWarning(LionHeartWarning):
    """The data of a task can be used, but results may mislead, for example because two splits have samples in common."""


class NumericsWarning(LionHeartWarning):
    """The result of a computation is finite but may be inaccurate."""


class ExtrapolationWarning(LionHeartWarning):
    """A fitted model is evaluated outside the range of the measurements that it was fitted to."""


def check_type(value: object, expected: type | tuple[type, ...], where: str, hint: str = "") -> None:
    """Raise a `ConfigError` if an argument does not have one of the expected types.

    Args:
        value: Value of the argument.
        expected: Expected type, or a tuple of allowed types.
        where: Name of the argument, with which the message begins.
        hint: Hint of the error: how to resolve the error; empty = no hint.

    Raises:
        ConfigError: `value` is not an instance of `expected`.
    """
    if not isinstance(value, expected):
        types = expected if isinstance(expected, tuple) else (expected,)
        names = " or ".join(each.__name__ for each in types)
        raise ConfigError(f"{where}: got {type(value).__name__}, expected {names}", hint=hint)


def suggest(name: str, known: Iterable[str], *, label: str = "known names") -> str:
    """Return a hint for an unknown name, with the most similar known name and a list of up to 12 known names.

    The list is in alphabetical order. If no known name is similar to the unknown name, the hint contains only the list.

    Args:
        name: Unknown name.
        known: Known names.
        label: Plural noun that precedes the list of known names, such as ``"devices"``.
    """
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    listed = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    start = f"did you mean '{near[0]}'? " if near else ""
    return f"{start}{label}: {listed}"
