"""The run directory, which holds all files of a run.

Files are written atomically, except for the journal, to which lines are appended. A lock ensures that only one process writes
to the directory at a time.
"""

from __future__ import annotations

import os
import platform as host
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar, final

import torch

from lionheart.errors import ArtifactError, LionHeartWarning, check_type
from lionheart.files import (
    read_json,
    remove_temporary_files,
    require_free_space,
    require_mapping,
    write_json,
)
from lionheart.record import read_record, write_record
from lionheart.runs.access import lock_file, require_plain_files, require_portable
from lionheart.runs.environment import find_environment_cautions
from lionheart.runs.journal import Journal
from lionheart.runs.records import Environment, Results, RunDescription
from lionheart.runs.untried import find_untried
from lionheart.runs.upgrade import UPGRADES, list_mappable, upgrade, upgrade_run

T = TypeVar("T")
SCHEMA_VERSION = 2
_READABLE = (1, SCHEMA_VERSION)
_STARTED = ("run.json", "graph.json", "journal.jsonl", "results.json")  # files that show that a folder holds a run
_SPACE_NEEDED = 50_000_000  # free disk space required to start a run [bytes]


@final
class RunDirectory:
    """A directory with the files of one run, and methods that read and write these files.

    ``run.json`` holds the settings, the seed and the software versions. ``graph.json`` holds the layers of the network, and
    ``journal.jsonl`` the values computed so far. ``checkpoints/`` holds weights while the run is not finished. The results are
    in ``mapping.json``, ``weights.safetensors``, ``results.json`` and ``report.html``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = Journal(path / "journal.jsonl")
        self._created: tuple[Path, ...] = ()  # folders that `create` made

    @classmethod
    def create(cls, path: Path, description: RunDescription) -> RunDirectory:
        """Create the directory `path` for a new run, write `description` to its ``run.json``, and return the `RunDirectory`.

        Raises:
            ConfigError: The path is empty or cannot be written as UTF-8.
            ArtifactError: The directory already holds a run, is a link, cannot be written, or has too little free space.
        """
        require_portable(path)
        require_plain_files(path)
        run = cls(path)
        if any(run.has(name) for name in _STARTED):
            raise ArtifactError(
                f"{path}: the directory already holds a run",
                hint=f"continue the run with --resume {path}, or choose another directory",
            )
        run._created = tuple(folder for folder in (path, *path.parents) if not os.path.exists(folder))
        try:
            require_free_space(path, _SPACE_NEEDED, purpose="checkpoints and results")
            run.write("run.json", description)
        except BaseException:
            if not run.has("run.json"):  # an interrupt right after the write leaves a run that can be resumed
                run.discard()
            raise
        return run

    def discard(self) -> None:
        """Delete the files of a run that has just been created, and the folders that were created for it. Keep other files."""
        self.drop_checkpoints()
        for name in (*_STARTED, "pareto.json", "study.db", ".lock"):
            with suppress(OSError):
                self.file(name).unlink()
        for folder in self._created:
            with suppress(OSError):
                folder.rmdir()

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """Return the `RunDirectory` for the existing run in the directory `path`.

        Raises:
            ArtifactError: The directory holds no ``run.json``, this file is damaged or has an unknown format, or the directory
                is or contains a link, a device or a pipe.
        """
        check_type(path, (str, Path), "run", hint="give the path of a run directory, for example runs/first")
        run = cls(Path(path))
        require_plain_files(run.path)
        if not run.has("run.json"):
            raise ArtifactError(
                f"{path}: no run in this directory (run.json is missing)",
                hint="give a directory that a LionHeart command, such as `lionheart map`, has written",
            )
        run.description()
        return run

    def require_job(self, job: str) -> None:
        """Check that the run was started by the command ``lionheart <job>``.

        Raises:
            ArtifactError: The run was started by another command.
        """
        found = self.description().job
        if found != job:
            raise ArtifactError(
                f"{self.path}: the directory holds a run of `lionheart {found}`, expected a run of `lionheart {job}`",
                hint=f"give a `lionheart {job}` run, or continue this run: lionheart {found} --resume {self.path}",
            )

    def require_resumable(self) -> None:
        """Check that this version of lionheart can continue the run.

        Raises:
            ArtifactError: An older version of lionheart, with another format of the journal, started the run.
        """
        version = self.description().schema_version
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"{self.path}: an older version started the run (schema_version {version}, expected {SCHEMA_VERSION})",
                hint="continue the run with the version of lionheart that started it, or start a new run; the results of a "
                "finished run can be read with this version",
            )

    def file(self, name: str) -> Path:
        """Return the path of the file called `name` in the run directory; the file need not exist."""
        return self.path / name

    def checkpoint(self, name: str) -> Path:
        """Return the path ``checkpoints/<name>.safetensors`` in the run directory; the file need not exist."""
        return self.path / "checkpoints" / f"{name}.safetensors"

    def drop_checkpoints(self) -> None:
        """Delete the folder ``checkpoints/`` with the weights of the unfinished run. Ignore errors, such as no permission."""
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)  # never follows a link
        remove_temporary_files(self.path)

    def description(self) -> RunDescription:
        """Return the settings, versions and environment of the run, as stored in ``run.json``.

        Raises:
            ArtifactError: The file is missing or damaged, or this version of lionheart cannot read its format.
        """
        where = self.file("run.json")
        data = upgrade_run(require_mapping(read_json(where), where))
        if data.get("schema_version") not in _READABLE:
            raise ArtifactError(
                f"{where}: schema_version: got {data.get('schema_version')!r}, expected 1 or {SCHEMA_VERSION}",
                hint="another version of lionheart wrote this file; use the version that its key 'lionheart_version' names",
            )
        return RunDescription.from_json(data, str(where))

    def results(self) -> Results:
        """Return the contents of ``results.json``. A file of an older version of lionheart is converted to the current format.

        Values that older versions did not store are computed from the other files of the run.

        Raises:
            ArtifactError: The file is missing or damaged, or this version of lionheart cannot read its format.
        """
        where = self.file("results.json")
        data = upgrade(read_json(where), where)
        results = Results.from_json(data, str(where))
        missing: dict[str, Any] = {}
        if "cautions" not in data and self.has("run.json"):
            missing["cautions"] = find_environment_cautions(self.description(), self.journal.events())
        if "untried" not in data and self.has("graph.json"):
            missing["untried"] = find_untried(results, list_mappable(read_json(self.file("graph.json"))))
        return results.replace(**missing) if missing else results

    def read(self, name: str, kind: type[T]) -> T:
        """Return the contents of a JSON file of the run as an object of the type `kind`.

        Args:
            name: Name of the file, such as ``"graph.json"``.
            kind: Type of the returned object, such as a subclass of `Record`.

        Raises:
            ArtifactError: The file is missing or damaged.
        """
        data = read_json(self.file(name))
        return read_record(kind, UPGRADES[name](data) if name in UPGRADES else data, str(self.file(name)))

    def write(self, name: str, record: Any) -> None:
        """Write `record` (a record, a dataclass, or a collection of records) to the JSON file `name` in the run directory."""
        data = write_record(record)
        write_json(self.file(name), {"schema_version": SCHEMA_VERSION, **data} if isinstance(data, Mapping) else data)

    def write_or_warn(self, name: str, record: Any) -> None:
        """Write `record` to the file `name` as `write` does. If the file cannot be written, issue a warning.

        A disk that is full or allows no writing must not prevent that computed results are shown.
        """
        try:
            self.write(name, record)
        except ArtifactError as error:
            warnings.warn(f"{error.message}; the results are shown, but not stored", LionHeartWarning, stacklevel=2)

    def has(self, name: str) -> bool:
        """Return whether the run directory contains a file called `name`."""
        return os.path.exists(self.file(name))  # unlike Path.exists, returns False without permission

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Reserve the run for this process within the context. Another process that calls `lock` for this run gets an error.

        Raises:
            ArtifactError: Another process has reserved the run.
        """
        with lock_file(self.file(".lock")) as is_locked:
            if not is_locked:
                raise ArtifactError(
                    f"{self.path}: another process is working on this run",
                    hint="wait until the other process has finished, or stop it, and run the command again",
                )
            for folder in (self.path, self.path / "checkpoints"):
                remove_temporary_files(folder)
            yield


def describe_environment(device: torch.device) -> Environment:
    """Return the software versions, the hardware and the number of threads of this process, which can affect results.

    Args:
        device: Torch device on which the model of the run is computed.
    """
    return Environment(
        lionheart=metadata.version("lionheart-aimc"),
        python=host.python_version(),
        torch=torch.__version__,
        cpu=_processor_name(),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        device=device.type,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{host.system()} {host.machine()}",
    )


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return host.processor() or host.machine()
