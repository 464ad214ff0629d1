"""The journal of a run: a file to which the result of each completed step of the run is appended.

When a run is resumed, the results of completed steps are read from the journal instead of being computed again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, final

from lionheart.errors import ArtifactError
from lionheart.files import parse_json
from lionheart.record import read_record, write_record
from lionheart.runs.access import append_line as _append_line

T = TypeVar("T")


@final
class Journal:
    """A file to which the events of a run are appended, each as one line with a JSON object.

    An event is a value recorded by `once`, or data recorded by `note`. Each line is flushed to the disk at once.

    Args:
        path: Path of the file, which is created when the first event is appended; None = values are kept in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] | None = None

    def once(self, key: str, kind: type[T], compute: Callable[[], T]) -> T:
        """Return the value recorded under `key`. If there is no such value, call `compute`, record its result and return it.

        Args:
            key: Name of the step that computes the value. For repeated steps the key includes a number, as in ``"decision 3"``.
            kind: Type of the value: a `Record`, a dataclass, or a collection of records, dataclasses or plain data.
            compute: Function that computes the value. Its elapsed time is recorded together with the value.

        Raises:
            ArtifactError: The line with the value is damaged, or a new line cannot be written.
        """
        if self.has(key):
            return self.read(key, kind)
        begin = time.perf_counter()
        value = compute()
        self._append({"event": key, "value": write_record(value), "elapsed_s": time.perf_counter() - begin})
        return value

    def read(self, key: str, kind: type[T]) -> T:
        """Return the value recorded under `key`.

        Raises:
            ArtifactError: No value is recorded under `key`, or the line with the value is damaged.
        """
        if not self.has(key):
            raise ArtifactError(
                f"{self.path}: got no value for {key!r}, expected one",
                hint="the journal is incomplete or damaged; restore the file from a copy, or start a new run",
            )
        return read_record(kind, self._entries()[key].get("value"), f"{self.path}: {key}")

    def has(self, key: str) -> bool:
        """Return whether a value is recorded under `key`."""
        return key in self._entries()

    def count(self, step: str) -> int:
        """Return the number of consecutive keys ``"<step> 0"``, ``"<step> 1"``, ... that have a recorded value."""
        number = 0
        while self.has(f"{step} {number}"):
            number += 1
        return number

    def elapsed_s(self, *steps: str) -> float:
        """Return the sum of the times that the recorded steps named in `steps` took to compute [s].

        A name such as ``"decision"`` includes all numbered steps ``"decision 0"``, ``"decision 1"``, ...

        Raises:
            ArtifactError: A recorded time is not a number of seconds.
        """
        rows = [entry for key, entry in self._entries().items() if key in steps or key.partition(" ")[0] in steps]
        times = [entry.get("elapsed_s", 0.0) for entry in rows]
        if not all(isinstance(each, (int, float)) and 0 <= each < math.inf for each in times):
            raise ArtifactError(
                f"{self.path}: elapsed_s: got a value that is no time, expected a number of seconds >= 0",
                hint="the journal is damaged; restore the file from a copy, or start a new run",
            )
        return sum(float(each) for each in times)

    def note(self, event: str, **data: Any) -> None:
        """Append an event called `event` with the keys and values in `data`. Unlike `once`, every call appends a line."""
        self._append({"event": event, **data})

    def events(self) -> list[dict[str, Any]]:
        """Return all events in the file in the order of writing. Lines that do not describe an event are skipped.

        Raises:
            ArtifactError: The file exists but cannot be read.
        """
        if self.path is None:
            return []
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArtifactError(
                f"{self.path}: not readable: {error.strerror or error}", hint="check the permissions of the file"
            ) from error
        found = []
        for line in text.split("\n"):
            with suppress(ArtifactError):  # an incomplete line, after a kill
                entry = parse_json(line, str(self.path))
                if isinstance(entry, dict) and isinstance(entry.get("event"), str):
                    found.append(entry)
        return found

    def remove(self) -> None:
        """Delete the journal file, and forget all recorded values."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self._known = {}

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return the events recorded by `once`: a dict from the key to the event, a dict with ``value`` and ``elapsed_s``."""
        if self._known is None:
            self._known = {entry["event"]: entry for entry in self.events() if "value" in entry}
        return self._known

    def _append(self, entry: dict[str, Any]) -> None:
        known = self._entries()  # entries before this line
        if self.path is not None:
            self._known = None  # forces a new read if an interrupt comes between the write and the update of `known`
            _append_line(self.path, json.dumps({"time": timestamp(), **entry}, allow_nan=False))
        if "value" in entry:
            known.setdefault(entry["event"], entry)
        self._known = known


def timestamp() -> str:
    """Return the current time in UTC in ISO 8601 format, such as ``2025-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
