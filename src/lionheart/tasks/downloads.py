"""Helper functions that download files, and that read and write arrays in the cache."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import urllib.request
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from lionheart.errors import ArtifactError
from lionheart.files import write_atomic
from lionheart.progress import Progress

_TIMEOUT_S = 20
#: Errors that a source of data may raise.
SOURCE_FAULTS = (
    OSError, EOFError, KeyError, ValueError, subprocess.SubprocessError, tarfile.TarError, zlib.error, HTTPException,
)  # fmt: skip


def digest_array(array: np.ndarray) -> str:
    """Return the SHA-256 of the bytes of an array in row-major order, as a hexadecimal string."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def download_file(url: str, target: Path, title: str, progress: Progress) -> None:
    """Download `url` to the file `target`. The label of the progress bar starts with `title`."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:  # noqa: S310  the URLs are constants of the callers
        total = int(reply.headers.get("Content-Length", 0)) or None
        with progress.bar(f"{title}: downloading [bytes]", total) as bar, target.open("wb") as stream:
            while chunk := reply.read(1 << 20):
                stream.write(chunk)
                bar.advance(len(chunk))


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Return the arrays with the given `names` from an ``.npz`` file written by `write_arrays`, in the order of `names`.

    Raises:
        ArtifactError: The file cannot be read, or does not contain one of the arrays.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(
            f"{path}: not readable: {error}", hint="delete the file and run the command again to download the data"
        ) from error


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays to an ``.npz`` file under the names of the keyword arguments.

    The file is written atomically: an interrupted call leaves no incomplete file at `path`.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    write_atomic(path, write)
