"""Data set CIFAR-100: 60,000 colour images of 32x32 pixels in 100 classes, from the official archive.

The MD5 of the archive is compared with the published MD5, because no SHA-256 is published. The SHA-256 of the decoded images is
computed once and stored with the images in the user's cache directory. Every later load checks this SHA-256.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch

from lionheart.errors import ArtifactError
from lionheart.files import cache_dir, read_json, require_free_space, require_mapping, write_json
from lionheart.progress import SILENT, Progress
from lionheart.tasks.downloads import SOURCE_FAULTS, digest_array, download_file, read_arrays, write_arrays
from lionheart.tasks.images.splits import Arrays, ImageSplits, split_images
from lionheart.tasks.packages import tar_member

ARCHIVE = "cifar-100-binary.tar.gz"
OFFICIAL_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
#: Mean and standard deviation of each channel of the 50,000 training images, in units of ``image / 255``, as widely published.
MEAN, STD = (0.50708, 0.48655, 0.44092), (0.26733, 0.25644, 0.27615)

N_IMAGES = {"train": 50_000, "test": 10_000}
_N_COARSE, _N_FINE = 20, 100
_RECORD_BYTES = 2 + 3 * 32 * 32  # coarse label, fine label, pixels
_DOWNLOAD_BYTES = 370_000_000
_DIGESTS = "sha256.json"

Stored = dict[str, tuple[np.ndarray, np.ndarray]]


def load_cifar100(progress: Progress = SILENT) -> ImageSplits:
    """Return the 45,000 training, 5,000 validation and 10,000 test images of CIFAR-100, with labels of 100 classes.

    Images that are not yet decoded in the cache are read from the archive in the folder ``cifar100`` of the cache directory. If
    there is no archive, it is downloaded from the official address.

    Raises:
        ArtifactError: The archive is not available, or the archive or a file in the cache is damaged.
    """
    folder = cache_dir() / "cifar100"
    stored = _load_cached(folder)
    if stored is None:
        require_free_space(folder, _DOWNLOAD_BYTES, purpose="CIFAR-100")
        stored = _fetch(folder, progress)
        for split, (images, labels) in stored.items():
            write_arrays(folder / f"{split}.npz", images=images, labels=labels)
        write_json(
            folder / _DIGESTS, {split: _digests(*arrays) for split, arrays in stored.items()}
        )  # written last: marks the cache as complete
    train, test = (_as_tensors(*stored[split]) for split in ("train", "test"))
    return split_images("cifar100", train, test)


def _as_tensors(images: np.ndarray, labels: np.ndarray) -> Arrays:
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def _digests(images: np.ndarray, labels: np.ndarray) -> dict[str, str]:
    return {"images": digest_array(images), "labels": digest_array(labels)}


def _load_cached(folder: Path) -> Stored | None:
    paths = {split: folder / f"{split}.npz" for split in N_IMAGES}
    record = folder / _DIGESTS
    if not all(path.exists() for path in (*paths.values(), record)):
        return None
    recorded = require_mapping(read_json(record), record)
    stored: Stored = {}
    for split, path in paths.items():
        images, labels = read_arrays(path, "images", "labels")
        if _digests(images, labels) != recorded.get(split):
            raise ArtifactError(
                f"{path}: images and labels do not have the SHA-256 in {record}",
                hint=f"{path.name} or {record.name} is damaged; delete {record} and run the command again to download the data",
            )
        stored[split] = (images, labels)
    return stored


def _fetch(folder: Path, progress: Progress) -> Stored:
    """Return the decoded images and labels from the archive of CIFAR-100 in `folder`.

    If `folder` contains no archive, the archive is downloaded, decoded and deleted.
    """
    by_hand = folder / ARCHIVE
    if by_hand.is_file():
        return decode_archive(by_hand, str(by_hand))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        archive = Path(temporary) / ARCHIVE
        try:
            download_file(OFFICIAL_URL, archive, "CIFAR-100", progress)
        except SOURCE_FAULTS as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArtifactError(
                f"CIFAR-100: {OFFICIAL_URL} could not be fetched: {reason}",
                hint=f"connect to the internet and run the command again, or copy the archive to {by_hand}",
            ) from error
        return decode_archive(archive, OFFICIAL_URL)


def decode_archive(archive: Path, where: str) -> Stored:
    """Return the images and the fine labels in the archive of CIFAR-100 for the splits ``train`` and ``test``.

    A fine label is one of 100 classes, which are grouped into 20 coarse classes. Images are uint8
    ``(n, 3, 32, 32)``. Fine labels are uint8 ``(n,)``, 0 to 99.

    Args:
        archive: Path of the archive.
        where: Name of the archive in error messages.

    Raises:
        ArtifactError: The file cannot be read, is not the official archive, or has a wrong format.
    """
    hint = f"the file is damaged or is not the official {ARCHIVE}; delete it and run the command again"
    try:
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"{where}: not readable: {error.strerror or error}", hint="check the permissions of the file"
        ) from error
    if found != ARCHIVE_MD5:
        raise ArtifactError(f"{where}: has MD5 {found}, expected {ARCHIVE_MD5}", hint=hint)
    try:
        with tarfile.open(archive) as tar:
            raw = {split: tar_member(tar, f"cifar-100-binary/{split}.bin") for split in N_IMAGES}
    except SOURCE_FAULTS as error:
        raise ArtifactError(f"{where}: not readable: {error}", hint=hint) from error
    try:
        return {split: _decode(content, N_IMAGES[split]) for split, content in raw.items()}
    except ValueError as error:
        raise ArtifactError(f"{where}: {error}", hint=hint) from error


def _decode(content: bytes, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    if len(content) != n_images * _RECORD_BYTES:
        raise ValueError(
            f"got a file of {len(content)} bytes in the archive, expected {n_images} images with {_RECORD_BYTES} bytes each"
        )
    table = np.frombuffer(content, np.uint8).reshape(n_images, _RECORD_BYTES)
    coarse, fine = table[:, 0], table[:, 1]
    for name, labels, n_classes in (("coarse", coarse, _N_COARSE), ("fine", fine, _N_FINE)):
        if labels.max() >= n_classes:
            raise ValueError(f"got the {name} label {labels.max()}, expected 0 to {n_classes - 1}")
    pairs = np.unique(table[:, :2], axis=0)
    if len(pairs) != len(np.unique(fine)):
        raise ValueError(
            "got a fine label with two different coarse labels, expected one coarse label for each fine label"
        )
    return table[:, 2:].reshape(-1, 3, 32, 32).copy(), fine.copy()
