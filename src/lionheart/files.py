"""File operations: reading, atomic writing, hashing, checking the free disk space, and locating the cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lionheart.errors import ArtifactError

CACHE_VARIABLE = "LIONHEART_CACHE"


def cache_dir() -> Path:
    """Return the path of the cache folder, in which downloaded and compiled files are stored.

    The path is ``$LIONHEART_CACHE`` or, if this variable is not set, ``$XDG_CACHE_HOME/lionheart``. If neither variable is
    set, the path is ``~/.cache/lionheart``.
    """
    explicit = os.environ.get(CACHE_VARIABLE)
    if explicit:
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lionheart"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 hash of the bytes of a file as a hexadecimal string."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. A byte order mark at the start of the file is removed.

    Raises:
        ArtifactError: The file does not exist, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file", hint="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{path}: not readable: {error}",
            hint="check that the path names a text file in UTF-8, and that you have permission to read the file",
        ) from error


def require_free_space(folder: Path, size_bytes: int, *, purpose: str) -> None:
    """Check that the disk of `folder` has `size_bytes` of free space. The folder is created if it does not exist.

    Args:
        folder: Folder to which files will be written.
        size_bytes: Required free space [bytes].
        purpose: Data for which the space is needed, such as ``"checkpoints and results"``, for error messages.

    Raises:
        ArtifactError: The folder cannot be created, or the disk has too little free space.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ArtifactError(
            f"{folder}: cannot be used for {purpose}: {error.strerror or error}",
            hint="check the path and the permissions of the folder, or choose another folder",
        ) from error
    if free < size_bytes:
        raise ArtifactError(
            f"{folder}: {free / 1e6:.0f} MB free, {size_bytes / 1e6:.0f} MB needed for {purpose}",
            hint="free some space on the disk, or choose another folder",
        )


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Write the file `path` atomically: a temporary file in the same folder is written, and then renamed to `path`.

    Args:
        path: File to write.
        write: Function that writes the content. It is called with the path of the temporary file.

    Raises:
        ArtifactError: The folder or file cannot be written, or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, ArtifactError):
            raise
        full = error.errno == errno.ENOSPC
        reason = "no space left on the disk" if full else (error.strerror or str(error))
        raise ArtifactError(
            f"{path}: cannot be written: {reason}", hint="check the free space and the permissions of the folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to the file `path` in UTF-8. The write is atomic: the file is replaced as a whole or not changed.

    Raises:
        ArtifactError: The folder or file cannot be written, or the disk is full.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomic(path, write)


def write_json(path: Path, data: Any) -> None:
    """Write `data` (JSON types) to the file `path` as indented JSON. The file is replaced as a whole or not changed.

    Raises:
        ArtifactError: The folder or file cannot be written, or the disk is full.
        ValueError: `data` contains NaN or infinity.
    """
    write_text(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the parsed contents of the JSON file `path`.

    Raises:
        ArtifactError: The file is missing, cannot be read, or is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file", hint="check the path") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(
            f"{path}: not readable as JSON: {error}",
            hint="check the permissions; if the file is damaged, restore it or create it again",
        ) from error


def require_mapping(data: Any, path: Path) -> Mapping[str, Any]:
    """Check that `data`, the contents of the JSON file `path`, is a JSON object (dict), and return `data`.

    Raises:
        ArtifactError: `data` is not a dict.
    """
    if not isinstance(data, dict):
        raise ArtifactError(
            f"{path}: got a JSON value of type {type(data).__name__}, expected a JSON object",
            hint="check that the path is correct and that the file is complete",
        )
    return data
