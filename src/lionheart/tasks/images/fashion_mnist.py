"""Data set Fashion-MNIST: 70,000 grey images of 28x28 pixels in 10 classes.

The images are downloaded from the official address, or read from a Debian package. The SHA-256 of the decoded pixels and labels
is checked in both cases. Decoded images are stored in the user's cache directory. Loaded images are padded with zeros to 32x32
pixels, as LeCun et al. pad MNIST, so that networks for CIFAR can be used.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from lionheart.errors import ArtifactError
from lionheart.files import cache_dir, require_free_space
from lionheart.progress import SILENT, Progress
from lionheart.tasks.downloads import SOURCE_FAULTS, digest_array, download_file, read_arrays, write_arrays
from lionheart.tasks.images.networks.lenet import LeNet5
from lionheart.tasks.images.networks.resnet import ResNet8
from lionheart.tasks.images.splits import Arrays, ImageSplits, build_image_batches, split_images
from lionheart.tasks.images.training import one_cycle
from lionheart.tasks.recipe import TASKS, Recipe

OFFICIAL_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
#: MD5 of the official files, as published on github.com/zalandoresearch/fashion-mnist. Debian compresses its files differently.
OFFICIAL_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
#: SHA-256 of the uint8 pixels in original order, ``(n, 28, 28)`` row-major, and of the labels, one uint8 each.
SHA256 = {
    "train": (
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    ),
    "test": (
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}
#: Mean and standard deviation of the 60,000 training images before padding, in units of ``image / 255``.
MEAN, STD = (0.28604,), (0.35302,)

DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = "usr/share/datasets/fashion-mnist"
_ROOT = Path("/")
_PREFIX = {"train": "train", "test": "t10k"}
_SIZE = 28
_PADDING = 2  # on each side: 32x32
_DOWNLOAD_BYTES = 160_000_000
_TIMEOUT_S = 600

Stored = dict[str, tuple[np.ndarray, np.ndarray]]


def load_fashion_mnist(progress: Progress = SILENT) -> ImageSplits:
    """Return the 55,000 training, 5,000 validation and 10,000 test images of Fashion-MNIST, padded to ``(n, 1, 32, 32)``.

    The following sources are tried in order: the cache, the official address, the installed Debian package
    dataset-fashion-mnist, and the same package downloaded with ``apt-get download``. The command ``apt-get download`` needs no
    root permissions and installs nothing.

    Raises:
        ArtifactError: No source is available, or the data in the cache is damaged.
    """
    folder = cache_dir() / "fashion_mnist"
    stored = _load_cached(folder)
    if stored is None:
        require_free_space(folder, _DOWNLOAD_BYTES, purpose="Fashion-MNIST")
        stored = _fetch(folder, progress)
        for split, (images, labels) in stored.items():
            write_arrays(folder / f"{split}.npz", images=images, labels=labels)
    train, test = (_as_tensors(*stored[split]) for split in ("train", "test"))
    return split_images("fashion-mnist", train, test)


def _as_tensors(images: np.ndarray, labels: np.ndarray) -> Arrays:
    return F.pad(torch.from_numpy(images).unsqueeze(1), (_PADDING,) * 4), torch.from_numpy(labels).long()


def _check(split: str, images: np.ndarray, labels: np.ndarray, where: str) -> None:
    for what, array, expected in zip(("pixels", "labels"), (images, labels), SHA256[split], strict=True):
        if (found := digest_array(array)) != expected:
            raise ArtifactError(
                f"{where}: Fashion-MNIST {split} {what} have SHA-256 {found[:16]}..., expected {expected[:16]}...",
                hint="the data is damaged or is not the original Fashion-MNIST; delete it and run the command again",
            )


def _load_cached(folder: Path) -> Stored | None:
    paths = {split: folder / f"{split}.npz" for split in _PREFIX}
    if not all(path.exists() for path in paths.values()):
        return None
    stored: Stored = {}
    for split, path in paths.items():
        images, labels = read_arrays(path, "images", "labels")
        _check(split, images, labels, str(path))
        stored[split] = (images, labels)
    return stored


def _fetch(folder: Path, progress: Progress) -> Stored:
    sources: Mapping[str, Callable[[Path, Progress], Stored]] = {
        "official address": _from_official,
        "installed Debian package": _from_installed,
        "Debian package": _from_debian,
    }
    failures = []
    for name, source in sources.items():
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
            try:
                stored = source(Path(temporary), progress)
                for split, arrays in stored.items():
                    _check(split, *arrays, name)
                return stored
            except SOURCE_FAULTS as error:
                failures.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
                progress.note(f"Fashion-MNIST: {failures[-1]}; trying the next source")
    raise ArtifactError(
        "Fashion-MNIST: no source could be used: " + "; ".join(failures),
        hint=f"connect to the internet and run the command again, or install the Debian package {DEBIAN_PACKAGE}, "
        f"or put train.npz and test.npz from another machine into {folder}",
    )


def _from_official(folder: Path, progress: Progress) -> Stored:
    for name, expected in OFFICIAL_MD5.items():
        download_file(OFFICIAL_URL + name, folder / name, f"Fashion-MNIST: {name}", progress)
        found = hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        if found != expected:
            raise OSError(
                f"the downloaded file {name} has MD5 {found}, expected {expected}; the download may be incomplete"
            )
    return _decode(folder)


def _from_installed(folder: Path, progress: Progress) -> Stored:
    return _decode(_ROOT / DEBIAN_FOLDER)


def _from_debian(folder: Path, progress: Progress) -> Stored:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise FileNotFoundError(
                f"the command {tool} is not installed; it is needed for the package {DEBIAN_PACKAGE}"
            )
    with progress.bar(f"Fashion-MNIST: downloading Debian's {DEBIAN_PACKAGE} (31 MB)", None):
        _run(folder, "apt-get", "download", DEBIAN_PACKAGE)
    archives = list(folder.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    if len(archives) != 1:
        raise OSError(
            f"apt-get download {DEBIAN_PACKAGE}: got {len(archives)} files {DEBIAN_PACKAGE}_*.deb, expected 1"
        )
    _run(folder, "dpkg-deb", "-x", archives[0].name, "unpacked")
    return _decode(folder / "unpacked" / DEBIAN_FOLDER)


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)  # noqa: S603  constant
    if done.returncode != 0:
        raise OSError(f"{command[0]} failed: {(done.stderr.strip() or 'no output').splitlines()[-1]}")


def _decode(folder: Path) -> Stored:
    return {
        split: (
            _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", (_SIZE, _SIZE)),
            _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", ()),
        )
        for split, prefix in _PREFIX.items()
    }


def _read_idx(path: Path, item: tuple[int, ...]) -> np.ndarray:
    """Return the uint8 array ``(n, *item)`` that is stored in a gzipped IDX file.

    The file contains two zero bytes, the type 8, the number of dimensions, the size of each dimension, and the elements.
    """
    with gzip.open(path) as stream:
        content = stream.read()
    n_dims = 1 + len(item)
    start = 4 + 4 * n_dims
    sizes = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if content[:4] != bytes((0, 0, 8, n_dims)) or sizes[1:] != item or len(content) != start + math.prod(sizes):
        raise ValueError(f"{path.name}: not an IDX file with uint8 elements, expected the shape {('n', *item)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy()


_build_data = partial(build_image_batches, load_fashion_mnist, MEAN, STD)
TASKS.add(
    "fashion-mnist/lenet5",
    Recipe(LeNet5, _build_data, one_cycle(12, learning_rate=0.05), batch_size=128, input_shape=(1, 32, 32)),
)
TASKS.add(
    "fashion-mnist/resnet8",
    Recipe(partial(ResNet8, in_channels=1), _build_data, one_cycle(12), batch_size=128, input_shape=(1, 32, 32)),
)
