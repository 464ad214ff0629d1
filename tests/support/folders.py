"""What is in a folder, to be compared before and after a command."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def read_tree(folder: Path, *, with_status: bool = False) -> dict[str, str]:
    """Return a digest of every file below `folder`, and the target of every link, by relative path.

    Args:
        folder: Folder whose content is described.
        with_status: Whether size, mode and time of change are described too.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
        if with_status:
            status = path.lstat()
            found[name] += f" {status.st_size} {status.st_mode} {status.st_mtime_ns}"
    return found
