"""What the sets of small images have in common: downloads, arrays in the cache, the fixed split, augmentation."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from lionheart.errors import ArtifactError
from lionheart.files import write_atomic
from lionheart.progress import Progress
from lionheart.rng import RandomStreams

N_VALIDATION = 5_000
SPLIT_SEED = 2401_09420  # fixed for ever: changing it would leak validation images into published checkpoints
_TIMEOUT_S = 20
#: What can go wrong with a source of data.
SOURCE_FAULTS = (
    OSError, EOFError, KeyError, ValueError, subprocess.SubprocessError, tarfile.TarError, zlib.error, HTTPException,
)  # fmt: skip

#: Images uint8 ``(n, channels, height, width)`` and labels int64 ``(n,)``.
Arrays = tuple[Tensor, Tensor]


@final
@dataclass(frozen=True)
class ImageSplits:
    """Images uint8 ``(n, channels, height, width)`` and labels int64 of the three splits."""

    train: Arrays
    validation: Arrays
    test: Arrays


def split_images(name: str, train: Arrays, test: Arrays) -> ImageSplits:
    """Hold 5,000 of the training images of the set called `name` out for validation, the same ones for ever."""
    images, labels = train
    order = torch.randperm(len(images), generator=RandomStreams(SPLIT_SEED).generator(name, "split"))
    held_out, kept = order[:N_VALIDATION], order[N_VALIDATION:]
    return ImageSplits((images[kept], labels[kept]), (images[held_out], labels[held_out]), test)


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to 4 pixels, zeros outside, and mirror half of them.

    Args:
        images: ``(n, channels, height, width)`` uint8.
        generator: Source of the shifts.
    """
    n, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    shift = torch.randint(0, 9, (2, n, 1), generator=generator)
    rows, cols = shift[0] + torch.arange(height), shift[1] + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    cols = torch.where(mirrored, cols.flip(1), cols)
    return padded[torch.arange(n).view(n, 1, 1), rows.unsqueeze(2), cols.unsqueeze(1)].permute(0, 3, 1, 2)


def digest_array(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes in row-major order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def download_file(url: str, target: Path, title: str, progress: Progress) -> None:
    """Write what `url` answers to `target`, with a bar that starts with `title`."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:  # noqa: S310  the callers' own addresses
        total = int(reply.headers.get("Content-Length", 0)) or None
        with progress.bar(f"{title}: downloading [bytes]", total) as bar, target.open("wb") as stream:
            while chunk := reply.read(1 << 20):
                stream.write(chunk)
                bar.advance(len(chunk))


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Return arrays that `write_arrays` wrote.

    Raises:
        ArtifactError: The file is damaged, or lacks one.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path}: not readable: {error}", hint="delete it; it will be downloaded again") from error


def write_arrays(path: Path, **arrays: Any) -> None:
    """Write named arrays into an ``.npz`` file, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    write_atomic(path, write)
