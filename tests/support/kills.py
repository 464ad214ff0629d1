"""The end of a process in the middle of a training, as an exception."""

from __future__ import annotations

from collections.abc import Callable


class KilledError(Exception):
    """Stands for the end of the process."""


def kill_at(epoch: int) -> Callable[[int], None]:
    """Return a function to call before each epoch, which raises `KilledError` before this one."""

    def before_epoch(current: int) -> None:
        if current == epoch:
            raise KilledError

    return before_epoch
