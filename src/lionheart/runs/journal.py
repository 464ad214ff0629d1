"""The journal of a long job: every computed value is recorded, and read instead of computed again after a resume."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, final

from lionheart.errors import ArtifactError
from lionheart.record import read_record, write_record

T = TypeVar("T")


@final
class Journal:
    """An append-only file of events, one JSON object per line. Each line is on the disk before the job continues.

    Args:
        path: File of the journal, which need not exist; None = the journal is kept in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, dict[str, Any]] | None = None

    def once(self, key: str, kind: type[T], compute: Callable[[], T]) -> T:
        """Return the value recorded under `key`; if there is none, compute the value and record it.

        Args:
            key: Name of the step; a step that is repeated has a number in its name, e.g. ``"decision 3"``.
            kind: Type of the value: a `Record`, a dataclass, or a collection of them or of plain data.
            compute: Function that computes the value; its wall time is recorded with the value.

        Raises:
            ArtifactError: The line of the journal is damaged or cannot be written.
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
            ArtifactError: No value is recorded under `key`, or the line is damaged.
        """
        if not self.has(key):
            raise ArtifactError(
                f"{self.path}: {key}: missing in the journal", hint="the file is damaged; restore it from a copy"
            )
        return read_record(kind, self._entries()[key].get("value"), f"{self.path}: {key}")

    def has(self, key: str) -> bool:
        """Return whether a value is recorded under `key`."""
        return key in self._entries()

    def count(self, step: str) -> int:
        """Return how many of the steps ``"<step> 0"``, ``"<step> 1"``, ... are recorded without a gap."""
        number = 0
        while self.has(f"{step} {number}"):
            number += 1
        return number

    def elapsed_s(self, *steps: str) -> float:
        """Return the total wall time of the steps with these names, numbered steps included [s]."""
        rows = [entry for key, entry in self._entries().items() if key in steps or key.partition(" ")[0] in steps]
        return sum(float(entry.get("elapsed_s", 0.0)) for entry in rows)

    def note(self, event: str, **data: Any) -> None:
        """Record an event; unlike `once`, each call adds a line."""
        self._append({"event": event, **data})

    def events(self) -> list[dict[str, Any]]:
        """Return all lines in order, except a last line that is incomplete after a kill."""
        if self.path is None or not self.path.exists():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict):
                found.append(entry)
        return found

    def remove(self) -> None:
        """Delete the file of a job whose results are stored elsewhere."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self._known = {}

    def _entries(self) -> dict[str, dict[str, Any]]:
        """Return the lines that hold values, by key."""
        if self._known is None:
            self._known = {str(entry.get("event")): entry for entry in self.events() if "value" in entry}
        return self._known

    def _append(self, entry: dict[str, Any]) -> None:
        known = self._entries()  # entries before this line
        if self.path is not None:
            self._known = None  # forces a new read if an interrupt comes between the write and the update of `known`
            _append_line(self.path, json.dumps({"time": timestamp(), **entry}, allow_nan=False))
        if "value" in entry:
            known.setdefault(str(entry["event"]), entry)
        self._known = known


def _append_line(path: Path, line: str) -> None:
    """Append a line to a file and flush it to the disk."""
    try:
        with path.open("ab+") as stream:
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # the last line is incomplete after a kill: start a new line
                    stream.write(b"\n")
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written: {error.strerror}", hint="check free disk space and permissions"
        ) from error


def timestamp() -> str:
    """Return the current time in UTC, in ISO 8601 format."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
