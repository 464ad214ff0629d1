"""A run's folder: every file is whole or absent, the journal only grows, one process writes at a time."""

from __future__ import annotations

import json
import os
import platform as host
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, final

import torch

from lionheart.errors import ArtifactError
from lionheart.files import read_json, require_free_space, require_mapping, write_json

try:
    import fcntl
except ImportError:  # not on Windows: there two processes in one run are not noticed
    fcntl = None  # type: ignore[assignment]

SCHEMA_VERSION = 1
_PARTS = {"task": str, "seed": int, "settings": dict}  # what every run.json holds
_SPACE_NEEDED = 50_000_000  # bytes that must be free before a run starts


@final
class RunDirectory:
    """Paths and access to a run's files.

    ``run.json`` settings, seeds, versions; ``graph.json`` the network; ``journal.jsonl`` every event; ``checkpoints/``
    weights; ``mapping.json``, ``weights.safetensors``, ``results.json``, ``report.html`` at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, description: Mapping[str, Any]) -> RunDirectory:
        """Make the folder and write ``run.json``.

        Raises:
            ArtifactError: A run is there already, or the folder cannot be written or filled.
        """
        run = cls(path)
        if run.has("run.json"):
            raise ArtifactError(
                f"{path}: a run is there already", hint=f"continue it with --resume {path}, or choose another folder"
            )
        absent = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
        try:
            require_free_space(path, _SPACE_NEEDED, purpose="checkpoints and results")
            write_json(run.file("run.json"), {"schema_version": SCHEMA_VERSION, **description})
        except BaseException:
            for folder in absent:
                with suppress(OSError):
                    folder.rmdir()
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Return an existing run.

        Raises:
            ArtifactError: There is no run, its version is unknown, or ``run.json`` is damaged.
        """
        run = cls(path)
        if not run.has("run.json"):
            raise ArtifactError(f"{path}: no run here (run.json is missing)", hint="give the folder that `map` wrote")
        description = run.description()
        version = description.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"{run.file('run.json')}: schema_version: got {version!r}, expected {SCHEMA_VERSION}",
                hint="this run was written by another version of lionheart",
            )
        for part, kind in _PARTS.items():
            if not isinstance(description.get(part), kind):
                raise ArtifactError(
                    f"{run.file('run.json')}: {part}: got {description.get(part)!r}, expected a {kind.__name__}",
                    hint="the file is damaged; restore it or start a new run",
                )
        return run

    def require_job(self, job: str) -> None:
        """Make sure that the run was started by the verb `job`.

        Raises:
            ArtifactError: It was started by another one.
        """
        found = self.description().get("job", "map")
        if found != job:
            raise ArtifactError(
                f"{self.path}: a run of `lionheart {found}`, expected one of `lionheart {job}`",
                hint=f"go on with it by: lionheart {found} --resume {self.path}",
            )

    def file(self, name: str) -> Path:
        """Return the path of one of the run's files."""
        return self.path / name

    def checkpoint(self, name: str) -> Path:
        """Return the path of a checkpoint."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def drop_checkpoints(self) -> None:
        """Remove all checkpoints, and what a kill left beside them; for a run that has its results."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def description(self) -> dict[str, Any]:
        """Return ``run.json``."""
        return self.read("run.json")

    def read(self, name: str) -> dict[str, Any]:
        """Return one of the run's JSON files."""
        return dict(require_mapping(read_json(self.file(name)), self.file(name)))

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write one of the run's JSON files."""
        write_json(self.file(name), {"schema_version": SCHEMA_VERSION, **data})

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        return os.path.exists(self.file(name))  # unlike Path.exists, False for what cannot be looked at

    def record(self, event: str, **data: Any) -> None:
        """Append an event to the journal and make sure that it is on the disk."""
        line = json.dumps({"time": timestamp(), "event": event, **data}, allow_nan=False)
        path = self.file("journal.jsonl")
        try:
            with path.open("ab+") as stream:
                if stream.tell() > 0:
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":  # a kill cut the last line: start on a new one
                        stream.write(b"\n")
                stream.write(line.encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise ArtifactError(
                f"{path}: cannot be written: {error.strerror}", hint="check space and rights"
            ) from error

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the journal's events, or those of one kind; a line cut by a kill is left out."""
        path = self.file("journal.jsonl")
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict) and event in (None, entry.get("event")):
                found.append(entry)
        return found

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process.

        Raises:
            ArtifactError: Another process holds it.
        """
        with self.file(".lock").open("w") as stream:
            if fcntl is not None:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise ArtifactError(
                        f"{self.path}: another process is working on this run", hint="wait for it or stop it"
                    ) from error
            yield


def timestamp() -> str:
    """Return the time now, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return what may change a run's numbers: versions, processor, threads, and the device that computes."""
    return {
        "lionheart": metadata.version("lionheart-aimc"),
        "python": host.python_version(),
        "torch": torch.__version__,
        "cpu": _processor_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{host.system()} {host.machine()}",
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return host.processor() or host.machine()
