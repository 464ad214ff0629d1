"""CIFAR-100: the archive's records, what is checked of them, the cache, and 20 real images."""

import hashlib
import io
import json
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lionheart.errors import ArtifactError
from lionheart.files import cache_dir
from lionheart.rng import RandomStreams
from lionheart.tasks.images import cifar100 as cifar100_module
from lionheart.tasks.images.cifar100 import ARCHIVE, OFFICIAL_URL, decode_archive, load_cifar100
from lionheart.tasks.images.splits import N_VALIDATION, SPLIT_SEED
from lionheart.tasks.packages import PackagedFiles, fetch_files

FIRST_HELD_OUT = [4497, 12205, 41069, 2943, 9816]
N_TINY = {"train": 5_300, "test": 200}
RECORD = 3_074

Splits = dict[str, np.ndarray]  # records uint8 (n, 3074): coarse label, fine label, pixels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path))
    monkeypatch.setattr(cifar100_module, "_DOWNLOAD_BYTES", 1)
    monkeypatch.setattr(cifar100_module, "N_IMAGES", N_TINY)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    folder = tmp_path / "cifar100"
    folder.mkdir()
    return folder


def offline(*args: object, **kwargs: object) -> None:
    raise urllib.error.URLError("no route to host")


def tiny_records() -> Splits:
    """Images whose first two bytes are their number, of every fine class; five fine classes have the same coarse one."""
    splits = {}
    for split, n in N_TINY.items():
        table = np.zeros((n, RECORD), np.uint8)
        table[:, 1] = np.arange(n) % 100
        table[:, 0] = table[:, 1] // 5
        table[:, 2], table[:, 3] = np.arange(n) // 256, np.arange(n) % 256
        splits[split] = table
    return splits


def pack(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"cifar-100-binary/{name}.bin")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def pack_splits(splits: Splits) -> bytes:
    return pack({split: table.tobytes() for split, table in splits.items()})


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch):
    """Make an archive's bytes pass for the official ones."""

    def bless(content: bytes) -> bytes:
        monkeypatch.setattr(cifar100_module, "ARCHIVE_MD5", hashlib.md5(content).hexdigest())  # noqa: S324
        return content

    return bless


def numbers_of(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() * 256 + images[:, 0, 0, 1].int()).tolist()


# -------------------------------------------------------------------------------------------------------- round trip


def test_archive_put_by_hand_becomes_three_splits(cache: Path, official):
    (cache / ARCHIVE).write_bytes(official(pack_splits(tiny_records())))
    data = load_cifar100()
    train, held_out = numbers_of(data.train[0]), numbers_of(data.validation[0])
    assert (len(train), len(held_out), len(data.test[0])) == (300, N_VALIDATION, 200)
    assert sorted(train + held_out) == list(range(5_300))
    assert held_out != sorted(held_out)
    assert data.train[1].tolist() == [number % 100 for number in train]  # fine labels travel with their images
    assert data.validation[1].tolist() == [number % 100 for number in held_out]
    assert numbers_of(data.test[0]) == list(range(200))
    assert data.test[0].dtype == torch.uint8
    assert data.test[1].dtype == torch.int64


def test_second_load_reads_the_cache(cache: Path, official):
    (cache / ARCHIVE).write_bytes(official(pack_splits(tiny_records())))
    first = load_cifar100()
    (cache / ARCHIVE).unlink()
    second = load_cifar100()
    assert sorted(entry.name for entry in cache.iterdir()) == ["sha256.json", "test.npz", "train.npz"]
    for split in ("train", "validation", "test"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(first, split), getattr(second, split), strict=True))


def test_archive_is_downloaded_and_not_kept(cache: Path, official, monkeypatch: pytest.MonkeyPatch):
    content = official(pack_splits(tiny_records()))
    asked = []

    class Reply(io.BytesIO):
        headers = {"Content-Length": str(len(content))}  # noqa: RUF012

    def answer(url: str, timeout: float) -> Reply:
        asked.append(url)
        return Reply(content)

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    assert len(load_cifar100().validation[0]) == N_VALIDATION
    assert asked == [OFFICIAL_URL]
    assert sorted(entry.name for entry in cache.iterdir()) == ["sha256.json", "test.npz", "train.npz"]


def test_digests_recorded_are_those_of_pixels_and_labels(cache: Path, official):
    splits = tiny_records()
    (cache / ARCHIVE).write_bytes(official(pack_splits(splits)))
    load_cifar100()
    recorded = json.loads((cache / "sha256.json").read_text())
    for split, table in splits.items():
        assert recorded[split]["images"] == hashlib.sha256(table[:, 2:].tobytes()).hexdigest()
        assert recorded[split]["labels"] == hashlib.sha256(table[:, 1].tobytes()).hexdigest()


def test_split_is_fixed_for_ever():
    order = torch.randperm(50_000, generator=RandomStreams(SPLIT_SEED).generator("cifar100", "split"))
    assert order[:5].tolist() == FIRST_HELD_OUT


# ------------------------------------------------------------------------------------------------------------- faults


def test_unreachable_archive_says_where_to_put_it(cache: Path):
    with pytest.raises(ArtifactError) as caught:
        load_cifar100()
    assert caught.value.message == f"CIFAR-100: {OFFICIAL_URL} could not be fetched: <urlopen error no route to host>"
    assert str(cache / ARCHIVE) in caught.value.hint
    assert list(cache.iterdir()) == []  # neither half a file nor a temporary folder


@pytest.mark.parametrize("fault", ["flipped byte", "cut off", "empty"])
def test_other_archives_are_refused(fault: str, cache: Path, official):
    content = bytearray(official(pack_splits(tiny_records())))
    if fault == "flipped byte":
        content[len(content) // 2] ^= 1
    else:
        content = content[: len(content) // 2 if fault == "cut off" else 0]
    (cache / ARCHIVE).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{ARCHIVE}: has MD5 \w+, expected {cifar100_module.ARCHIVE_MD5}") as e:
        load_cifar100()
    assert "delete it" in e.value.hint
    assert [entry.name for entry in cache.iterdir()] == [ARCHIVE]


def test_unreadable_archive_is_an_artifact_error(tmp_path: Path):
    # A folder stands for whatever cannot be opened; rights are none for root.
    with pytest.raises(ArtifactError, match=r"^there: not readable: Is a directory") as caught:
        decode_archive(tmp_path, "there")
    assert "permissions" in caught.value.hint


def changed(split: str, row: int, column: int, value: int) -> bytes:
    splits = tiny_records()
    splits[split][row, column] = value
    return pack_splits(splits)


def contents() -> dict[str, bytes]:
    return {split: table.tobytes() for split, table in tiny_records().items()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: changed("train", 17, 1, 100), "got the fine label 100, expected 0 to 99"),
        (lambda: changed("test", 3, 0, 20), "got the coarse label 20, expected 0 to 19"),
        (lambda: changed("train", 17, 0, 9), "got a fine label with two different coarse labels"),
        (
            lambda: pack(contents() | {"test": contents()["test"][:-1]}),
            "got a file of 614799 bytes in the archive, expected 200 images with 3074 bytes each",
        ),
        (lambda: pack({"train": contents()["train"]}), "not readable: .*test.bin"),
        (lambda: pack_splits(tiny_records())[:2000], "not readable"),
        (lambda: b"<html>moved</html>", "not readable"),
    ],
    ids=["fine label", "coarse label", "pair", "truncated file", "missing file", "truncated archive", "page"],
)
def test_records_are_checked_even_if_the_md5_were_right(build, message: str, tmp_path: Path, official, cache: Path):
    archive = tmp_path / "some.tar.gz"
    archive.write_bytes(official(build()))
    with pytest.raises(ArtifactError, match=f"^there: {message}"):
        decode_archive(archive, "there")


@pytest.mark.parametrize("part", ["images", "labels", "record", "unreadable"])
def test_damaged_cache_is_an_artifact_error(part: str, cache: Path, official):
    (cache / ARCHIVE).write_bytes(official(pack_splits(tiny_records())))
    load_cifar100()
    path = cache / "test.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    if part in arrays:
        arrays[part].reshape(-1)[-1] ^= 1  # one bit
        np.savez(path, **arrays)
    elif part == "record":
        (cache / "sha256.json").write_text("{}")
    else:
        path.write_bytes(b"PK\x03\x04 cut off")
    expected = r"test\.npz: not readable" if part == "unreadable" else r"do not have the SHA-256 in .*sha256\.json"
    with pytest.raises(ArtifactError, match=expected) as caught:
        load_cifar100()
    assert "delete" in caught.value.hint


def test_a_stop_before_the_record_is_written_starts_anew(cache: Path, official):
    (cache / ARCHIVE).write_bytes(official(pack_splits(tiny_records())))
    load_cifar100()
    (cache / "sha256.json").unlink()
    (cache / "test.npz").write_bytes(b"half")
    assert len(load_cifar100().test[0]) == 200


def test_full_disk_stops_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar100_module, "_DOWNLOAD_BYTES", 10**18)
    with pytest.raises(ArtifactError, match="needed for CIFAR-100"):
        load_cifar100()


# -------------------------------------------------------------------------------------------------------- real images


def unpack_samples(wheel: Path) -> dict[str, bytes]:
    """Return the first 20 test images as records of a fine label and pixels; their names end with number and label."""
    records = []
    with zipfile.ZipFile(wheel) as files:
        for name in sorted(name for name in files.namelist() if name.startswith("foolbox/data/cifar100_")):
            with Image.open(io.BytesIO(files.read(name))) as image:
                pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
            records.append(bytes([int(name.removesuffix(".png").rpartition("_")[2])]) + pixels.tobytes())
    return {"cifar100.bin": b"".join(records)}


SAMPLES = PackagedFiles(
    title="20 images of CIFAR-100",
    requirement="foolbox==3.3.4",
    kind="wheel",
    sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    files={"cifar100.bin": "e8f1f6d6d725fe3b0936511677a1f4a4fe2377166fa0d7b7cb4bd08135a2e74f"},
    unpack=unpack_samples,
    size_bytes=2_000_000,
)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """The first 20 test images, as records of a fine label and pixels, from another source than the archive."""
    try:
        folder = fetch_files(SAMPLES, cache_dir() / "foolbox")
    except ArtifactError as error:
        pytest.skip(f"the images cannot be had: {error.message}")
    return np.fromfile(folder / "cifar100.bin", np.uint8).reshape(20, 3_073)


@pytest.mark.data
def test_real_images_pass_through_the_archives_form(samples: np.ndarray, cache: Path, official):
    """No decoded byte changes place: photographs, not patterns, with the labels that their file names say."""
    splits = tiny_records()
    splits["test"][:20, 1:] = samples
    splits["test"][:, 0] = splits["test"][:, 1] // 5
    (cache / ARCHIVE).write_bytes(official(pack_splits(splits)))
    images, labels = load_cifar100().test
    assert labels[:20].tolist() == [49, 33, 72, 51, 71, 92, 15, 14, 23, 0, 71, 75, 81, 69, 40, 43, 92, 97, 70, 53]
    assert images[:20].numpy().tobytes() == samples[:, 1:].tobytes()
    # Neighbouring pixels of a photograph are alike along rows and columns, which no other order of the bytes gives.
    real = images[:20].float()
    shuffled = real.reshape(20, 3_072)[:, torch.randperm(3_072, generator=torch.Generator().manual_seed(0))].view_as(
        real
    )
    for dim in (2, 3):
        assert real.diff(dim=dim).abs().mean() < shuffled.diff(dim=dim).abs().mean() / 3


@pytest.mark.data
def test_real_images_have_about_the_published_mean(samples: np.ndarray):
    values = samples[:, 1:].reshape(20, 3, 1_024) / 255
    assert values.mean(axis=(0, 2)) == pytest.approx(cifar100_module.MEAN, abs=0.15)
    assert values.std(axis=(0, 2)) == pytest.approx(cifar100_module.STD, abs=0.1)


@pytest.mark.data
def test_first_test_images_are_those_of_another_source(samples: np.ndarray):
    try:
        data = load_cifar100()
    except ArtifactError as error:
        pytest.skip(f"CIFAR-100 cannot be had: {error.message}")
    assert data.test[1][:20].tolist() == samples[:, 0].tolist()
    assert data.test[0][:20].numpy().tobytes() == samples[:, 1:].tobytes()
    labels = torch.cat([data.train[1], data.validation[1]])
    assert torch.bincount(labels).tolist() == [500] * 100
    assert torch.bincount(data.test[1]).tolist() == [100] * 100
    pixels = torch.cat([data.train[0], data.validation[0]]).permute(1, 0, 2, 3).reshape(3, -1)
    for channel, mean, std in zip(pixels, cifar100_module.MEAN, cifar100_module.STD, strict=True):
        values = torch.bincount(channel.int(), minlength=256).double()
        level = torch.arange(256, dtype=torch.float64) / 255
        found = float((values * level).sum() / values.sum())
        assert found == pytest.approx(mean, abs=1e-4)
        assert float(((values * (level - found) ** 2).sum() / values.sum()).sqrt()) == pytest.approx(std, abs=1e-4)
