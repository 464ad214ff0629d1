"""Access to the files of a run that are changed in place: the journal and the lock. Links are never followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import describe_failed_write, open_kept, refuse_link, try_lock
from lionheart.text import escape_controls

#: Files of a run that are changed in place. A file with a second name would be changed under this name too.
_CHANGED_IN_PLACE = (".lock", "journal.jsonl", "study.db", "study.db-journal", "study.db-wal", "study.db-shm")


def append_line(path: Path, line: str) -> None:
    """Append a line to a file and flush the file to the disk. If the file does not end with a newline, write one first.

    Raises:
        ArtifactError: The file cannot be written, or is a link; see `open_kept`.
    """
    try:
        with open_kept(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) as handle:
            end = os.lseek(handle, 0, os.SEEK_END)
            text = line.encode() + b"\n"
            if end > 0:
                os.lseek(handle, end - 1, os.SEEK_SET)
                if os.read(handle, 1) != b"\n":  # the last line is incomplete after a kill: start a new line
                    text = b"\n" + text
            while text:
                text = text[os.write(handle, text) :]
            os.fsync(handle)
    except OSError as error:
        if isinstance(error, ArtifactError):
            raise
        raise describe_failed_write(path, error) from error


def require_plain_files(folder: Path) -> None:
    """Check that `folder` is a folder that contains only regular files and folders: no symbolic links, devices or pipes.

    Only the folder itself and its folder ``checkpoints`` are checked.

    Raises:
        ArtifactError: The folder is a symbolic link, contains a symbolic link or a special file, or a file that is changed in
            place is a hard link.
    """
    for each in (folder, folder / "checkpoints"):
        if os.path.islink(each):  # unlike Path.is_symlink, returns False for an impossible path
            raise ArtifactError(
                f"{each}: a symbolic link to {os.readlink(each)}, expected a folder",
                hint="give the path of the folder itself; the files of a run may not be links",
            )
        for entry in _list_entries(each):
            if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                raise refuse_link(Path(entry.path), "a symbolic link or a special file")
            if entry.name in _CHANGED_IN_PLACE and os.lstat(entry.path).st_nlink > 1:
                raise refuse_link(Path(entry.path), "a hard link, so that the file has another name too")


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError):  # the folder does not exist or cannot be read
        return []


def require_portable(path: Path) -> None:
    """Check that the path of a new run can be written in UTF-8, as all files of the run require.

    Raises:
        ConfigError: The path contains bytes that are not UTF-8, or a null character.
    """
    try:
        is_text = "\0" not in str(path) and bool(str(path).encode())
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise ConfigError(
            f"{escape_controls(str(path))}: got a path that is not text in UTF-8, expected letters in UTF-8",
            hint="choose another folder, or set a UTF-8 locale, for example LC_ALL=C.UTF-8",
        )


@contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Lock the file `path` within the context, and return whether this succeeded; False if another process has locked it.

    The file is created if it does not exist. Its content is never changed.

    Raises:
        ArtifactError: The file cannot be opened for writing, or is a link; see `lionheart.files.open_kept`.
    """
    with ExitStack() as stack:
        try:
            handle = stack.enter_context(open_kept(path, os.O_RDWR | os.O_CREAT))
        except OSError as error:
            if isinstance(error, ArtifactError):
                raise
            raise describe_failed_write(path, error) from error
        yield try_lock(handle)
