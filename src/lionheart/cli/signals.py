"""Signals that ask the process to end: SIGTERM and SIGHUP end a command in the same orderly way as Ctrl-C."""

from __future__ import annotations

import os
import signal
from typing import Any

EXIT_INTERRUPTED = 130
_NAMES = ("SIGTERM", "SIGHUP")  # SIGHUP does not exist on Windows


class Terminated(KeyboardInterrupt):
    """The process has received a signal that asks it to end.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> None:
    """Let SIGTERM and SIGHUP raise `Terminated` in the main thread. A second signal ends the process at once.

    A signal that the process ignores, such as SIGHUP under nohup, stays ignored.
    """
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _Handler(os.getpid()))


class _Handler:
    """Handler of a signal in the process `pid`. In a child process, the signal has its usual effect."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __call__(self, number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != self._pid:
            os.kill(os.getpid(), number)
            return
        raise Terminated(number)


def describe_stop(error: KeyboardInterrupt) -> str:
    """Return the sentence that says why a command has stopped."""
    return f"Stopped by {signal.Signals(error.number).name}." if isinstance(error, Terminated) else "Stopped."


def exit_code_of(error: KeyboardInterrupt) -> int:
    """Return the exit code of a stopped command: 128 plus the number of the signal, as usual on Unix."""
    return 128 + error.number if isinstance(error, Terminated) else EXIT_INTERRUPTED
