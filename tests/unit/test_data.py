"""Batches in a seeded order from tensors, loaders and other batches; parts of them; a model's mode."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from conftest import TinyData
from lionheart.data import (
    BatchSlice,
    BatchSource,
    DivisibleSource,
    IndexedBatches,
    LoaderBatches,
    MappedBatches,
    TensorBatches,
    as_batches,
    count_samples,
    cut_samples,
    eval_mode,
    first_sample,
    move_batch,
    take_samples,
)
from lionheart.errors import ConfigError
from lionheart.tasks.images.splits import crop_and_flip

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(n: int, **settings) -> TensorBatches:
    """`n` images whose label is their number."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, 2, 2)
    return TensorBatches(images, torch.arange(n), mean=MEAN, std=STD, **settings)


def labels_of(batches: BatchSource, seed: int = 0) -> list[int]:
    return [int(label) for _, labels in batches.epoch(generator(seed)) for label in labels]


def tiny_batches(data: TinyData, **settings) -> TensorBatches:
    return TensorBatches(
        data.images, data.labels, mean=MEAN, std=STD, **{"batch_size": 16, "shuffle": True, **settings}
    )


# ----------------------------------------------------------------------------------------------------------- batches


def test_shuffled_epoch_has_every_sample_once():
    batches = numbered(24, batch_size=8, shuffle=True)
    seen = labels_of(batches)
    assert len(batches) == 3
    assert sorted(seen) == list(range(24))
    assert seen != list(range(24))


def test_shuffled_epoch_drops_the_incomplete_batch():
    batches = numbered(26, batch_size=8, shuffle=True)
    assert [len(labels) for _, labels in batches.epoch(generator())] == [8, 8, 8]
    assert len(set(labels_of(batches))) == 24


def test_unshuffled_epoch_is_in_order_and_complete():
    batches = numbered(26, batch_size=8)
    assert [len(labels) for _, labels in batches.epoch(generator())] == [8, 8, 8, 2]
    assert len(batches) == 4
    assert labels_of(batches) == list(range(26))


def test_generator_decides_the_order():
    batches = numbered(24, batch_size=8, shuffle=True)
    assert labels_of(batches, seed=1) == labels_of(batches, seed=1)
    assert labels_of(batches, seed=1) != labels_of(batches, seed=2)


def test_batches_are_normalised_by_channel(tiny_data: TinyData):
    inputs, labels = next(iter(tiny_batches(tiny_data, shuffle=False).epoch(generator())))
    for channel in range(3):
        expected = (tiny_data.images[:16, channel].double() / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(inputs[:, channel].double(), expected, rtol=1e-5, atol=1e-6)
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(labels, tiny_data.labels[:16])


def test_batches_leave_the_images_alone(tiny_data: TinyData):
    before = tiny_data.images.clone()
    list(tiny_batches(tiny_data, augment=crop_and_flip).epoch(generator()))
    assert torch.equal(tiny_data.images, before)


def test_take_is_a_source_of_its_own():
    whole = numbered(24, batch_size=8, shuffle=True)
    part = whole.take(5)
    assert (part.n_samples, part.batch_size, len(part)) == (5, 5, 1)
    assert sorted(labels_of(part)) == list(range(5))
    assert (whole.n_samples, whole.batch_size, len(whole)) == (24, 8, 3)


def test_batch_is_never_larger_than_the_data():
    assert len(numbered(5, batch_size=100, shuffle=True)) == 1


@pytest.mark.parametrize(("n_images", "n_labels", "batch_size"), [(3, 2, 1), (0, 0, 1), (3, 3, 0), (3, 3, -1)])
def test_impossible_batches_are_refused(n_images: int, n_labels: int, batch_size: int):
    images, labels = torch.zeros(n_images, 3, 2, 2, dtype=torch.uint8), torch.zeros(n_labels, dtype=torch.int64)
    with pytest.raises(ConfigError, match="TensorBatches"):
        TensorBatches(images, labels, batch_size=batch_size, mean=MEAN, std=STD)


def shuffled_loader(**settings) -> DataLoader:
    numbers = torch.arange(20)
    return DataLoader(TensorDataset(numbers.float(), numbers), batch_size=4, shuffle=True, **settings)


@pytest.mark.parametrize("own_generator", [False, True])
def test_loader_order_follows_the_seed(own_generator: bool):
    def order(seed: int, noise: int) -> list[int]:
        torch.manual_seed(noise)  # whatever the user's process did before
        loader = shuffled_loader(generator=generator(noise) if own_generator else None)
        return labels_of(LoaderBatches(loader), seed)

    assert sorted(order(1, 0)) == list(range(20))
    assert order(1, 0) == order(1, 99)
    assert order(1, 0) != order(2, 0)


def test_loader_leaves_the_global_random_state_alone(monkeypatch: pytest.MonkeyPatch):
    gpu_seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", gpu_seeds.append)
    before = torch.get_rng_state()
    list(LoaderBatches(shuffled_loader()).epoch(generator()))
    assert torch.equal(torch.get_rng_state(), before)
    assert gpu_seeds == []  # cause: torch.manual_seed reached the GPUs, which fork_rng(devices=[]) does not restore


def test_loader_batches_pass_through_unchanged():
    pairs = [((torch.ones(2), torch.zeros(2)), torch.tensor([1, 0])), ({"x": torch.ones(1)}, torch.tensor([1]))]
    batches = LoaderBatches(pairs)
    assert len(batches) == 2
    found = list(batches.epoch(generator()))
    assert all(inputs is a and targets is b for (inputs, targets), (a, b) in zip(found, pairs, strict=True))
    assert len(list(batches.epoch(generator()))) == 2  # again and again


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.ones(2), "got a batch of type Tensor, expected a pair"),
        ((torch.ones(1),), "got a batch of type tuple with 1 elements, expected a pair"),
        ((1, 2, 3), "got a batch of type tuple with 3 elements, expected a pair"),
        ({"x": 1, "y": 2}, "got a dict with the keys x, y, expected a key 'labels'"),
        ("text", "got a batch of type str, expected a pair"),
    ],
)
def test_batch_that_is_no_pair_is_refused(batch: object, message: str):
    with pytest.raises(ConfigError, match=message):
        list(LoaderBatches([batch]).epoch(generator()))


def test_as_batches():
    batches = numbered(4, batch_size=2)
    assert as_batches(batches) is batches
    assert isinstance(as_batches([(1, 2)]), LoaderBatches)
    for wrong in (3, (x for x in ())):
        with pytest.raises(ConfigError, match=f"data: got {type(wrong).__name__}"):
            as_batches(wrong)


def test_move_batch_keeps_the_nesting():
    nested = {"a": [torch.ones(1)], "b": (torch.zeros(2), "text"), "c": 3}
    moved = move_batch(nested, torch.device("meta"))
    assert moved["a"][0].device.type == moved["b"][0].device.type == "meta"
    assert (moved["b"][1], moved["c"], type(moved["b"])) == ("text", 3, tuple)


def test_first_sample_keeps_the_nesting():
    found = first_sample(
        {"ids": torch.arange(6).view(3, 2), "more": (torch.ones(3), [torch.zeros(3, 1)]), "flag": True}
    )
    assert found["ids"].tolist() == [[0, 1]]
    assert (found["more"][0].shape, found["more"][1][0].shape, found["flag"]) == ((1,), (1, 1), True)


# ---------------------------------------------------------------------------------------------- samples by their number


def indexed(lengths: list[int], **settings) -> IndexedBatches:
    """Samples whose target is their number."""

    def collate(numbers: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.rand(len(numbers), generator=generator), numbers

    return IndexedBatches(len(lengths), collate, lengths=torch.tensor(lengths), **{"batch_size": 2, **settings})


def numbers_of(batches: BatchSource, seed: int = 0) -> list[list[int]]:
    return [targets.tolist() for _, targets in batches.epoch(generator(seed))]


def test_longest_samples_come_first_and_ties_keep_their_order():
    assert numbers_of(indexed([3, 9, 3, 7, 9])) == [[1, 4], [3, 0], [2]]


def test_pooled_samples_of_similar_length_share_a_batch():
    lengths = [1, 9, 2, 8, 3, 7, 4, 6]
    batches = indexed(lengths, shuffle=True, pool=4)  # one pool of all
    for seed in range(5):
        found = numbers_of(batches, seed)
        assert sorted(sorted(lengths[number] for number in batch) for batch in found) == [
            [1, 2],
            [3, 4],
            [6, 7],
            [8, 9],
        ]
    assert len({str(numbers_of(batches, seed)) for seed in range(5)}) > 1
    assert len(numbers_of(indexed(lengths, shuffle=True, pool=1), 0)) == 4


def test_order_is_drawn_before_what_a_batch_draws():
    # What a task's batches draw follows the order's one draw: changing that would change every training.
    inputs, targets = next(iter(indexed([1] * 6, shuffle=True).epoch(generator(3))))
    same = generator(3)
    assert targets.tolist() == torch.randperm(6, generator=same)[:2].tolist()
    assert torch.equal(inputs, torch.rand(2, generator=same))


def test_parts_are_taken_from_parts():
    part = numbered(20, batch_size=4).take(9, after=3).take(None, after=2)
    assert labels_of(part) == list(range(5, 12))
    assert (part.n_samples, len(part)) == (7, 2)
    nothing = part.take(0)
    assert (nothing.n_samples, len(nothing), labels_of(nothing)) == (0, 0, [])


@pytest.mark.parametrize(("n_samples", "batch_size"), [(0, 1), (1, 0)])
def test_no_samples_or_no_batch_is_refused(n_samples: int, batch_size: int):
    with pytest.raises(ConfigError, match=r"IndexedBatches.*got 0"):
        IndexedBatches(n_samples, lambda numbers, generator: (numbers, numbers), batch_size=batch_size)


# ------------------------------------------------------------------------------------------------- parts of any source


def test_samples_are_cut_where_they_can_be_told_apart_else_batches_are():
    first, rest = cut_samples(numbered(26, batch_size=8), 5)
    assert (labels_of(first), labels_of(rest)) == (list(range(5)), list(range(5, 26)))
    loader = LoaderBatches([(torch.zeros(4), torch.arange(4)), (torch.zeros(4), torch.arange(4, 8))] * 2)
    first, rest = cut_samples(loader, 5)
    assert isinstance(first, BatchSlice)
    assert (numbers_of(first), len(first)) == ([[0, 1, 2, 3], [4, 5, 6, 7]], 2)
    assert (numbers_of(rest), len(rest)) == (numbers_of(first), 2)
    assert (count_samples(loader), count_samples(first)) == (16, 8)
    assert take_samples(loader, None) is loader
    assert len(cut_samples(loader, 99)[1]) == 0
    with pytest.raises(ConfigError, match="samples: got 0"):
        take_samples(loader, 0)


def test_mapped_batches_are_changed_one_by_one():
    source = numbered(5, batch_size=2)
    batches = MappedBatches(source, lambda inputs, targets: (inputs.sum(), 10 * targets))
    assert (len(batches), numbers_of(batches)) == (3, [[0, 10], [20, 30], [40]])
    assert isinstance(batches, BatchSource)
    assert not isinstance(batches, DivisibleSource)


# ---------------------------------------------------------------------------------------------------------------- mode


def test_every_module_has_its_own_mode_again():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    model[1].eval()
    before = [module.training for module in model.modules()]
    assert before == [True, True, False, False]
    with eval_mode(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError), eval_mode(model):
        raise KeyError
    assert [module.training for module in model.modules()] == before
