"""File operations: reading, atomic writing, hashing, checking the free disk space, and locating the cache folder."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lionheart.errors import ArtifactError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]
    import msvcrt

CACHE_VARIABLE = "LIONHEART_CACHE"
_LEAST_INT, _MOST_INT, _MOST_DIGITS = -(2**63), 2**64 - 1, 20
_TEMPORARY = re.compile(r"\.[^/]+\.(?:json|safetensors|html|csv|npz|partial)\.[a-z0-9_]{8}")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
#: Names of devices on Windows, which no file can have.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
_MOST_OF_A_NAME = 100


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
    except (OSError, ValueError) as error:  # a ValueError if the path contains a null character
        raise ArtifactError(
            f"{path}: not readable: {getattr(error, 'strerror', None) or error}",
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
    handle: int | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(path.parent, path.name)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        if fcntl is None:  # Windows neither writes nor renames a file that is locked
            os.close(handle)
            handle = None
        else:
            try_lock(handle)  # marks the file as being written, for `remove_temporary_files` of other processes
        write(temporary)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except (OSError, ValueError) as error:  # a ValueError if the path cannot be encoded or contains a null character
        if isinstance(error, ArtifactError) or not isinstance(error, (OSError, UnicodeError)):
            raise
        raise describe_failed_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def describe_failed_write(path: Path, error: OSError | UnicodeError) -> ArtifactError:
    """Return the error for a file that cannot be written because of `error`."""
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    reason = "no space left on the disk" if full else (getattr(error, "strerror", None) or str(error))
    return ArtifactError(
        f"{path}: cannot be written: {reason}", hint="check the free space and the permissions of the folder"
    )


def remove_temporary_files(folder: Path, name: str | None = None) -> None:
    """Delete temporary files of `write_atomic` that a killed process has left in `folder`.

    Files that another process is writing at this moment are kept. Errors, such as missing permissions, are ignored.

    Args:
        folder: Folder in which files were written.
        name: Name of the file whose temporary files are deleted; None = those of all files.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and (name is None or entry.name[:-9] == f".{name}"):
                with suppress(OSError), open_kept(Path(entry.path), os.O_RDWR) as handle:
                    if try_lock(handle):
                        os.unlink(entry.path)


def try_lock(handle: int) -> bool:
    """Lock an open file for this process, and return whether this succeeded; False if another process has locked the file.

    The operating system removes the lock when the file is closed or the process ends.

    Args:
        handle: Descriptor of a file that is open for writing.
    """
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


@contextmanager
def open_kept(path: Path, flags: int) -> Iterator[int]:
    """Open a file whose content is kept within the context, and return its descriptor. Links are not followed.

    Args:
        path: Path of the file.
        flags: Flags of `os.open`, such as ``os.O_RDWR | os.O_CREAT``.

    Raises:
        OSError: The file cannot be opened.
        ArtifactError: The path is a symbolic link, is not a regular file, or is a hard link to a file with another name.
    """
    try:
        handle = os.open(path, flags | _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
            raise refuse_link(path, "not a regular file, or a symbolic link") from error
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise refuse_link(path, "not a regular file")
        if found.st_nlink > 1:
            raise refuse_link(path, "a hard link, so that the file has another name too")
        yield handle
    finally:
        os.close(handle)


def refuse_link(path: Path, found: str) -> ArtifactError:
    """Return the error for a file that is a link, a device or a pipe; `found` describes the file."""
    return ArtifactError(
        f"{path}: {found}; expected a regular file",
        hint="the files of a run must be in its folder; copy the folder without links (cp -rL), or delete this file",
    )


def make_file_name(name: str) -> str:
    """Return `name` as a name for a file or folder that is safe on command lines, in addresses of scp and on Windows.

    Letters, digits, ``.``, ``_``, ``+``, ``@`` and ``-`` are kept, and other characters become ``-``. The result begins with a
    letter, a digit or ``_``, does not end with a dot, is no reserved name of Windows, and has 1 to 100 characters.
    """
    kept = re.sub(r"[^A-Za-z0-9._+@-]+", "-", name)
    kept = re.sub(r"\.{2,}", ".", kept).lstrip(".-+@")[:_MOST_OF_A_NAME].rstrip(".-") or "run"
    return f"_{kept}" if _RESERVED.fullmatch(kept) else kept


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
        ArtifactError: The file is missing, cannot be read, or is not valid JSON; see `parse_json`.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """Return the value that JSON text describes.

    Args:
        text: JSON text.
        where: Name of the text in error messages, for example a path.

    Raises:
        ArtifactError: The text is not valid JSON, is nested too deeply, or contains NaN, infinity or a whole number that needs
            more than 64 bits.
    """
    try:
        return json.loads(text, parse_constant=_refuse_number, parse_int=_read_int, parse_float=_read_float)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{where}: not readable as JSON: {_describe_syntax(error)}",
            hint="if the file is damaged, restore it or create it again",
        ) from error


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Return the tables and values that TOML text describes.

    Args:
        text: TOML text.
        where: Name of the text in error messages, for example a path.

    Raises:
        ArtifactError: The text is not valid TOML, is nested too deeply, or contains a whole number that needs more than 64
            bits.
    """
    try:
        found = tomllib.loads(text)
        _check_integers(found)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{where}: not valid TOML: {_describe_syntax(error)}",
            hint="correct the TOML syntax at the line and column that the message names",
        ) from error
    return found


def _describe_syntax(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _refuse_number(text: str) -> Any:
    raise ValueError(f"got the number {text}, expected a finite number")


def _read_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse_number(text)
    return value


def _read_int(text: str) -> int:
    if len(text) > _MOST_DIGITS or not _LEAST_INT <= (value := int(text)) <= _MOST_INT:
        raise ValueError(f"got the number {text}, expected a number of at most 64 bits")
    return value


def _check_integers(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            _check_integers(each)
    elif isinstance(value, list):
        for each in value:
            _check_integers(each)
    elif isinstance(value, int) and not _LEAST_INT <= value <= _MOST_INT:
        raise ValueError("got a whole number of more than 64 bits")


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
