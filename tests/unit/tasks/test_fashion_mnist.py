"""Fashion-MNIST: IDX files, the three sources, what is checked of them, the cache, and the real images."""

import gzip
import hashlib
import io
import subprocess
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lionheart.errors import ArtifactError
from lionheart.evaluation import evaluate_accuracy
from lionheart.files import cache_dir, read_json
from lionheart.rng import RandomStreams
from lionheart.tasks import build_task
from lionheart.tasks.images import fashion_mnist as module
from lionheart.tasks.images.fashion_mnist import load_fashion_mnist
from lionheart.tasks.images.splits import N_VALIDATION, SPLIT_SEED, ImageSplits
from lionheart.tasks.packages import PackagedFiles, fetch_files
from lionheart.tasks.registry import checkpoint_path, find_recipe

N_TINY = {"train": 5_100, "test": 30}
FIRST_HELD_OUT = [2273, 33712, 36020, 49991, 33260]
PREFIX = {"train": "train", "test": "t10k"}


def offline(*args: object, **kwargs: object) -> None:
    raise urllib.error.URLError("no route to host")


def tiny_arrays(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images whose first two bytes are their number."""
    n = N_TINY[split]
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
    return images, (np.arange(n) % 10).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes()
    return gzip.compress(header + array.tobytes(), 1, mtime=0)


def tiny_files() -> dict[str, bytes]:
    files = {}
    for split, prefix in PREFIX.items():
        images, labels = tiny_arrays(split)
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(images)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(labels)
    return files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no network, no Debian, and tiny arrays that pass for Fashion-MNIST."""
    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_DOWNLOAD_BYTES", 1)
    monkeypatch.setattr(module, "_ROOT", tmp_path / "root")
    monkeypatch.setattr(module.shutil, "which", lambda command: None)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    digests = {
        split: tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in tiny_arrays(split)) for split in PREFIX
    }
    monkeypatch.setattr(module, "SHA256", digests)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in tiny_files().items()}  # noqa: S324
    monkeypatch.setattr(module, "OFFICIAL_MD5", md5)
    return tmp_path / "cache" / "fashion_mnist"


def install(root: Path, files: dict[str, bytes]) -> None:
    folder = root / module.DEBIAN_FOLDER
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def serve(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        reply = io.BytesIO(files[url.rpartition("/")[2]])
        reply.headers = {"Content-Length": str(reply.getbuffer().nbytes)}
        return reply

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    return asked


def numbers_of(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 2, 2].int() * 256 + images[:, 0, 2, 3].int()).tolist()


def assert_complete(data: ImageSplits) -> None:
    train, held_out = numbers_of(data.train[0]), numbers_of(data.validation[0])
    assert (len(train), len(held_out), len(data.test[0])) == (100, N_VALIDATION, 30)
    assert sorted(train + held_out) == list(range(5_100))
    assert data.train[1].tolist() == [number % 10 for number in train]  # labels travel with their images
    assert data.validation[1].tolist() == [number % 10 for number in held_out]
    assert numbers_of(data.test[0]) == list(range(30))


# ------------------------------------------------------------------------------------------------------------ sources


def test_official_files_become_three_splits(cache: Path, monkeypatch: pytest.MonkeyPatch):
    asked = serve(tiny_files(), monkeypatch)
    data = load_fashion_mnist()
    assert_complete(data)
    assert asked == [module.OFFICIAL_URL + name for name in tiny_files()]
    assert data.test[0].shape == (30, 1, 32, 32)
    assert (data.test[0].dtype, data.test[1].dtype) == (torch.uint8, torch.int64)
    assert data.train[0][:, :, [0, 1, 30, 31]].sum() == 0  # two lines of zeros on each side
    assert data.train[0][:, :, :, [0, 1, 30, 31]].sum() == 0
    assert sorted(entry.name for entry in cache.iterdir()) == ["test.npz", "train.npz"]


def test_installed_package_comes_before_apt(cache: Path, tmp_path: Path):
    install(tmp_path / "root", tiny_files())
    assert_complete(load_fashion_mnist())


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for apt-get, which brings a package, and dpkg-deb, which unpacks it."""
    commands = []

    def run(command: tuple[str, ...], cwd: Path, **kwargs: object) -> SimpleNamespace:
        commands.append(list(command))
        if command[0] == "apt-get":
            (cwd / f"{module.DEBIAN_PACKAGE}_1_all.deb").write_bytes(b"")
        else:
            install(cwd / command[3], tiny_files())
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(module.shutil, "which", lambda command: f"/usr/bin/{command}")
    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_package_is_fetched_and_only_unpacked(cache: Path, debian: list[list[str]]):
    assert_complete(load_fashion_mnist())
    assert debian == [
        ["apt-get", "download", "dataset-fashion-mnist"],
        ["dpkg-deb", "-x", "dataset-fashion-mnist_1_all.deb", "unpacked"],
    ]
    assert sorted(entry.name for entry in cache.iterdir()) == ["test.npz", "train.npz"]


def test_file_with_another_md5_is_left_for_the_next_source(cache: Path, debian, monkeypatch: pytest.MonkeyPatch):
    files = tiny_files()
    serve({**files, "train-labels-idx1-ubyte.gz": files["t10k-labels-idx1-ubyte.gz"]}, monkeypatch)
    notes = []
    progress = SimpleNamespace(note=notes.append, bar=module.SILENT.bar)
    assert_complete(load_fashion_mnist(progress))
    assert "official address: the downloaded file train-labels-idx1-ubyte.gz has MD5" in notes[0]
    assert len(debian) == 2


def test_all_sources_failing_is_one_clear_error(cache: Path):
    with pytest.raises(ArtifactError) as caught:
        load_fashion_mnist()
    words = caught.value.message
    assert words.startswith("Fashion-MNIST: no source could be used: official address: ")
    for reason in ("no route to host", "installed Debian package: ", "the command apt-get is not installed"):
        assert reason in words
    assert str(cache) in caught.value.hint
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("failure", ["download", "nothing", "unpack"])
def test_failing_tools_say_what_they_said(failure: str, cache: Path, debian, monkeypatch: pytest.MonkeyPatch):
    def run(command: tuple[str, ...], cwd: Path, **kwargs: object) -> SimpleNamespace:
        if command[0] == "apt-get" and failure == "unpack":
            (cwd / f"{module.DEBIAN_PACKAGE}_1_all.deb").write_bytes(b"")
        is_bad = (command[0] == "apt-get") == (failure == "download") and failure != "nothing"
        return SimpleNamespace(returncode=100 * is_bad, stdout="", stderr="W: hm\nE: it broke\n")

    monkeypatch.setattr(subprocess, "run", run)
    expected = {
        "download": "apt-get failed: E: it broke",
        "nothing": "apt-get download dataset-fashion-mnist: got 0 files",
        "unpack": "dpkg-deb failed: E: it broke",
    }
    with pytest.raises(ArtifactError, match=f"Debian package: {expected[failure]}"):
        load_fashion_mnist()


IMAGES = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "train-images-idx3-ubyte.gz: not an IDX file"),
        (b"not gzip", "Not a gzipped file"),
        (idx(np.zeros((3, 28, 28), np.uint8))[:30], "ended before"),
        (idx(np.zeros((3, 27, 28), np.uint8)), "not an IDX file with uint8 elements"),
        (idx(np.zeros(3, np.uint8)), "not an IDX file"),
        (gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))), "not an IDX file"),
        (idx(np.zeros((3, 28, 28), np.uint8)), "train pixels have SHA-256"),
    ],
    ids=["empty", "other", "cut", "27 rows", "labels", "twice", "other images"],
)
def test_wrong_files_are_refused(content: bytes, reason: str, cache: Path, tmp_path: Path):
    install(tmp_path / "root", {**tiny_files(), IMAGES: content})
    with pytest.raises(ArtifactError, match=f"installed Debian package: .*{reason}"):
        load_fashion_mnist()
    assert list(cache.iterdir()) == []


def test_wrong_labels_are_refused(cache: Path, tmp_path: Path):
    other = idx(tiny_arrays("test")[1][::-1].copy())
    install(tmp_path / "root", {**tiny_files(), "t10k-labels-idx1-ubyte.gz": other})
    with pytest.raises(ArtifactError, match="test labels have SHA-256"):
        load_fashion_mnist()


# -------------------------------------------------------------------------------------------------------------- cache


def test_second_load_reads_the_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(tmp_path / "root", tiny_files())
    first = load_fashion_mnist()
    monkeypatch.setattr(module, "_fetch", offline)
    second = load_fashion_mnist()
    for split in ("train", "validation", "test"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(first, split), getattr(second, split), strict=True))


@pytest.mark.parametrize("part", ["images", "labels", "file"])
def test_damaged_cache_is_an_artifact_error(part: str, cache: Path, tmp_path: Path):
    install(tmp_path / "root", tiny_files())
    load_fashion_mnist()
    images, labels = tiny_arrays("test")
    if part == "file":
        (cache / "test.npz").write_bytes(b"PK\x03\x04 cut off")
    else:
        (images if part == "images" else labels).reshape(-1)[-1] ^= 1  # one bit
        np.savez(cache / "test.npz", images=images, labels=labels)
    expected = {"images": "test pixels have SHA-256", "labels": "test labels have SHA-256", "file": "not readable"}
    with pytest.raises(ArtifactError, match=rf"test\.npz: .*{expected[part]}"):
        load_fashion_mnist()


def test_full_disk_stops_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_DOWNLOAD_BYTES", 10**18)
    with pytest.raises(ArtifactError, match="needed for Fashion-MNIST"):
        load_fashion_mnist()


def test_batches_are_normalised_and_augmented(cache: Path, tmp_path: Path):
    install(tmp_path / "root", tiny_files())
    train, validation, _ = find_recipe("fashion-mnist/lenet5").build_data(batch_size=50, progress=module.SILENT)
    inputs, _ = next(iter(validation.epoch(torch.Generator().manual_seed(0))))
    assert inputs.shape == (100, 1, 32, 32)
    assert float(inputs[0, 0, 0, 0]) == pytest.approx(-0.28604 / 0.35302, rel=1e-4)
    moved, _ = next(iter(train.epoch(torch.Generator().manual_seed(0))))
    assert len({tuple(spot.tolist()) for spot in (moved[:, 0] > -0.8).nonzero()[:, 1:]}) > 30  # shifted and mirrored


# --------------------------------------------------------------------------------------------------- the real images


@pytest.fixture(scope="module")
def real() -> ImageSplits:
    try:
        return load_fashion_mnist()
    except ArtifactError as error:
        if "no source could be used" not in error.message:
            raise
        pytest.skip(error.message)


@pytest.mark.data
def test_real_images_are_complete_and_split_for_ever(real: ImageSplits):
    order = torch.randperm(60_000, generator=RandomStreams(SPLIT_SEED).generator("fashion-mnist", "split"))
    assert order[:5].tolist() == FIRST_HELD_OUT
    assert [len(part[0]) for part in (real.train, real.validation, real.test)] == [55_000, 5_000, 10_000]
    assert torch.bincount(torch.cat([real.train[1], real.validation[1]])).tolist() == [6_000] * 10
    assert torch.bincount(real.test[1]).tolist() == [1_000] * 10


@pytest.mark.data
def test_real_images_have_the_mean_that_normalises_them(real: ImageSplits):
    counts = sum(
        torch.bincount(part[0][:, :, 2:-2, 2:-2].reshape(-1).int(), minlength=256).double()
        for part in (real.train, real.validation)
    )
    level = torch.arange(256, dtype=torch.float64) / 255
    mean = float((counts * level).sum() / counts.sum())
    assert mean == pytest.approx(module.MEAN[0], abs=1e-5)
    assert float(((counts * (level - mean) ** 2).sum() / counts.sum()).sqrt()) == pytest.approx(module.STD[0], abs=1e-5)


def unpack_samples(wheel: Path) -> dict[str, bytes]:
    """Return the first 20 test images, each after its label; their names end with number and label."""
    records = []
    with zipfile.ZipFile(wheel) as files:
        for name in sorted(name for name in files.namelist() if name.startswith("foolbox/data/fashionMNIST_")):
            with Image.open(io.BytesIO(files.read(name))) as image:
                pixels = np.asarray(image.convert("L"))
            records.append(bytes([int(name.removesuffix(".png").rpartition("_")[2])]) + pixels.tobytes())
    return {"fashion_mnist.bin": b"".join(records)}


SAMPLES = PackagedFiles(
    title="20 images of Fashion-MNIST",
    requirement="foolbox==3.3.4",
    kind="wheel",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    files={"fashion_mnist.bin": "10e5460838a46de6240e2c214028f0975f996e7398bf006fe5aa4a1f4c3e0e4e"},
    unpack=unpack_samples,
    size_bytes=2_000_000,
)


@pytest.mark.data
def test_first_test_images_are_those_of_another_source(real: ImageSplits):
    try:
        folder = fetch_files(SAMPLES, cache_dir() / "foolbox")
    except ArtifactError as error:
        pytest.skip(f"the images cannot be had: {error.message}")
    records = np.fromfile(folder / "fashion_mnist.bin", np.uint8).reshape(20, 785)
    assert real.test[1][:20].tolist() == records[:, 0].tolist()
    assert real.test[0][:20, 0, 2:-2, 2:-2].numpy().tobytes() == records[:, 1:].tobytes()


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.data
def test_shipped_weights_are_as_good_as_their_card_says(real: ImageSplits):
    task = build_task("fashion-mnist/lenet5")
    found = evaluate_accuracy(task.model, task.validation, task.metric)
    card = read_json(checkpoint_path("fashion-mnist/lenet5").with_suffix(".json"))
    assert found == pytest.approx(card["validation_accuracy"], abs=0.002)
    assert found >= 0.89
