"""Checks of a task before its run: whatever a user gives works, or is one error that names the argument to change.

Each case used to end in "a bug in lionheart", in wrong figures, or in a run folder in the way of the corrected command.
"""

from __future__ import annotations

import random
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import assert_refused, lionheart_command
from recipes import put_recipe
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import lionheart
from lionheart import loaders
from lionheart.errors import ArtifactError, ConfigError, DataWarning, LionHeartError, NumericsError
from lionheart.experimental.pareto.job import find_pareto_front
from lionheart.jobs import MappingResult, MapSettings, evaluate_run, map_layers, profile_layers, resume_run
from lionheart.jobs.train import train_task
from lionheart.metrics import Metric, accuracy_scores
from lionheart.progress import SilentProgress
from lionheart.tasks import Task, cross_entropy
from lionheart.tasks.recipe import Recipe
from lionheart.training import TrainSpec

pytestmark = pytest.mark.usefixtures("small_noise_pool")
NAN, INF = float("nan"), float("inf")


def make_data(n: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 12, generator=g), torch.randint(3, (8,), generator=g)) for _ in range(n)]


def make_net() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))


def odd(**changes: Any) -> Task:
    """Return a task of noise: 12 numbers, 3 classes, two linear layers, with the given oddity."""
    parts = {"model": make_net(), "train": make_data(4, 0), "validation": make_data(2, 1), "test": make_data(2, 2)}
    return Task(**{**parts, **changes})


def make_settings(**search: Any) -> MapSettings:
    usual = {"max_drop_pp": 60.0, "n_chips": 1, "n_chips_final": 1, "report_times": (1.0,), "strategy": "training-free"}
    return MapSettings.from_json(
        {
            "search": {**usual, **search},
            "train": {"max_epochs": 1, "steps_per_epoch": 2, "patience": None, "learning_rate": 0.01},
            "tile": {"rows": 32, "cols": 32},
            "platforms": ["alpine-high-power"],
        }
    )


def run(task: Task, folder: Path, **search: Any) -> MappingResult:
    return map_layers(task, make_settings(**search), run_dir=folder / "runs" / "x")


def refuse(build: Callable[[], Task], folder: Path, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run(build(), folder, strategy="lionheart")
    assert caught.value.hint
    assert list(folder.iterdir()) == []


class Wrapped(nn.Module):
    """The network with outputs of another form."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.form = make_net(), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self.net(x))


class ModelOutput(OrderedDict):
    """Like the class of that name in transformers."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


class Named(NamedTuple):
    logits: Tensor
    aux: None = None


# --------------------------------------------------------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    "form",
    [
        lambda y: {"logits": y, "hidden": 2 * y},
        lambda y: ModelOutput(logits=y),
        lambda y: {"anything": y},
        lambda y: {"out": y, "aux": 2 * y},
        lambda y: (y,),
        lambda y: [y],
        Named,
    ],
    ids=["logits", "ModelOutput", "one entry", "out", "tuple", "list", "named tuple"],
)
def test_outputs_that_contain_logits_work_with_the_default_loss_and_metric(form: Any, tmp_path: Path):
    result = run(odd(model=Wrapped(form)), tmp_path, strategy="shared")
    plain = run(odd(), tmp_path / "plain", strategy="shared")
    assert result.results.baseline == plain.results.baseline


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda y: (y, 2 * y), "metric: accuracy_scores: got outputs of type tuple, expected a tensor"),
        (lambda y: {"a": y, "b": y}, "metric: accuracy_scores: got outputs of type dict, expected a tensor"),
        (lambda y: None, "metric: accuracy_scores: got outputs of type NoneType, expected a tensor"),
        (lambda y: 3.0, "metric: accuracy_scores: got outputs of type float, expected a tensor"),
        (lambda y: y[:5], r"metric: accuracy_scores: got outputs \(5, 3\) and targets \(8,\), which do not fit"),
        (lambda y: y * NAN, r"Task\.model: the outputs for the first batch of Task\.validation contain NaN"),
        (lambda y: y + INF, r"Task\.model: the outputs for the first batch of Task\.validation contain NaN or infinity"),
        (lambda y: y + torch.rand(()), r"Task\.model: two forward passes in eval\(\) mode gave different outputs"),
        (lambda y: F.dropout(y), r"Task\.model: two forward passes in eval\(\) mode gave different outputs"),
    ],
)  # fmt: skip
def test_other_outputs_are_refused(form: Any, message: str, tmp_path: Path):
    refuse(lambda: odd(model=Wrapped(form)), tmp_path, message)


def positions(n_classes: int = 3, n_positions: int = 5) -> Task:
    """A class for each of several positions, as for the tokens of a sentence; the last position does not count."""
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, n_classes))

    def batches(n: int, seed: int) -> list[tuple[Tensor, Tensor]]:
        g = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(n):
            targets = torch.randint(n_classes, (8, n_positions), generator=g)
            targets[:, -1] = -100
            found.append((torch.randn(8, n_positions, 12, generator=g), targets))
        return found

    return Task(net, batches(2, 0), batches(1, 1), batches(1, 2))


def test_a_class_for_each_position_works(tmp_path: Path):
    """Cause: cross-entropy took the positions for classes; accuracy counted every token as a sample, also padding."""
    result = run(positions(), tmp_path)
    assert result.results.validation.n_samples == 8


def test_positions_as_many_as_classes_are_refused(tmp_path: Path):
    """Outputs (8, 3, 3) and targets (8, 3) used to be scored along one axis and trained along the other."""
    refuse(lambda: positions(3, 3), tmp_path, "which may have the classes in axis 1 or -1")


def test_accuracy_of_positions_and_pixels():
    logits = torch.eye(4)[torch.tensor([[0, 1, 2], [3, 3, 3]])]  # (2, 3, 4)
    targets = torch.tensor([[0, 1, 0], [3, -100, -100]])
    assert torch.allclose(accuracy_scores(logits, targets), torch.tensor([2 / 3, 1.0]))
    assert torch.allclose(accuracy_scores(logits.transpose(1, 2), targets), torch.tensor([2 / 3, 1.0]))
    assert torch.allclose(cross_entropy(logits, targets), cross_entropy(logits.transpose(1, 2), targets))
    with pytest.raises(ConfigError, match="a sample whose targets are all -100"):
        accuracy_scores(logits, torch.full((2, 3), -100))


# --------------------------------------------------------------------------------------------------------- metric, loss


def mean_score(outputs: Tensor, targets: Tensor) -> Tensor:
    return accuracy_scores(outputs, targets).mean()


def with_first(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    def scores(outputs: Tensor, targets: Tensor) -> Tensor:
        found = accuracy_scores(outputs, targets)
        found[0] = value
        return found

    return scores


def failing(outputs: Any, targets: Any) -> Any:
    raise RuntimeError("as a user's function may")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda o, t: o == t[:, None], r"metric: got \(8, 3\) bool .* expected one score for each sample, shape \(8,\)"),
        (lambda o, t: accuracy_scores(o, t)[1:], r"metric: got \(7,\) float32 .* shape \(8,\)"),
        (mean_score, r"metric: got \(\) float32 .* expected one score for each sample"),
        (lambda o, t: None, "metric: got NoneType"),
        (lambda o, t: 0.5, "metric: got float"),
        (lambda o, t: [1.0] * 8, "metric: got list"),
        (failing, "the metric failed on outputs .*: RuntimeError: as a user's function may"),
        (with_first(NAN), r"Task\.metric: got 1 of 8 scores NaN or infinite for the first batch of Task\.validation"),
        (with_first(-INF), r"Task\.metric: got 1 of 8 scores NaN or infinite"),
        (with_first(7.0), r"Task\.metric: got the score 7 .* expected scores from 0 to 1"),
        (Metric("accuracy", compute=with_first(-0.5)), r"Task\.metric: got the score -0\.5"),
    ],
)  # fmt: skip
def test_metrics_that_give_no_score_for_each_sample_are_refused(metric: Any, message: str, tmp_path: Path):
    refuse(lambda: odd(metric=metric), tmp_path, message)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, t: F.cross_entropy(o, t, reduction="none"), r"Task\.loss: got \(8,\) float32 .*expected a scalar"),
        (lambda o, t: 1.0, r"Task\.loss: got float"),
        (lambda o, t: None, r"Task\.loss: got NoneType"),
        (lambda o, t: cross_entropy(o, t).item(), r"Task\.loss: got float"),
        (lambda o, t: cross_entropy(o, t).detach(), r"Task\.loss: got a loss without a gradient"),
        (lambda o, t: torch.tensor(1.0), r"Task\.loss: got a loss without a gradient"),
        (lambda o, t: torch.tensor(1.0, requires_grad=True), "a loss that no trainable weight of the network influences"),
        (lambda o, t: o.sum() * 0 + 1, r"Task\.loss: got 1 with gradients that are all 0"),
        (lambda o, t: (o.argmax(-1) != t).float().mean(), r"Task\.loss: got a loss without a gradient"),
        (lambda o, t: o.mean() * NAN, r"Task\.loss: got nan for outputs .* expected a finite number"),
        (lambda o, t: (o * 0).sum().sqrt(), r"Task\.loss: got a gradient of '.*' that is NaN or infinite"),
        (failing, r"Task\.loss: failed on outputs .*: RuntimeError: as a user's function may"),
        (F.nll_loss, None),
        (F.cross_entropy, None),
    ],
)  # fmt: skip
def test_losses_without_a_gradient_are_refused(loss: Any, message: str | None, tmp_path: Path):
    if message is None:
        assert run(odd(loss=loss), tmp_path).run.has("results.json")
    else:
        refuse(lambda: odd(loss=loss), tmp_path, message)


def test_a_metric_of_a_set_whose_finish_fails_is_refused(tmp_path: Path):
    def finish(statistics: Tensor) -> Tensor:
        return statistics[:, 3].mean()

    metric = Metric("score", scope="set", compute=accuracy_scores, finish=finish)
    refuse(lambda: odd(metric=metric), tmp_path, r"Task\.metric: finish failed on the statistics \(8, 1\) float64")


# ----------------------------------------------------------------------------------------------------------------- data


def with_targets(change: Callable[[Tensor], Any]) -> dict[str, Any]:
    return {
        split: [(x, change(y)) for x, y in make_data(2, seed)]
        for seed, split in enumerate(("train", "validation", "test"))
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.float(), r"got targets \(8,\) of type torch\.float32, expected class indices .*targets\.long\(\)"),
        (lambda y: y.double(), r"got targets \(8,\) of type torch\.float64"),
        (lambda y: F.one_hot(y, 3).float(), r"got targets \(8, 3\) of type torch\.float32.*argmax"),
        (lambda y: F.one_hot(y, 3), "which do not fit"),
        (lambda y: y[:, None], r"which do not fit.*targets\.squeeze\(-1\)"),
        (lambda y: y + 1, r"Task\.loss: cross_entropy: got the target 3 for outputs of 3 classes, expected 0 to 2"),
        (lambda y: y - 1, "got the target -1 for outputs of 3 classes"),
        (lambda y: y.tolist(), "got targets of type list, expected a tensor"),
    ],
)
def test_labels_that_are_no_classes_are_refused(change: Any, message: str, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        run(odd(**with_targets(change)), tmp_path, strategy="lionheart")
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
def test_small_integers_are_classes(kind: torch.dtype, tmp_path: Path):
    assert run(odd(**with_targets(lambda y: y.to(kind))), tmp_path).run.has("results.json")


class Pictures(Dataset):
    """A data set whose transform was forgotten."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        if self.item is KeyError:
            raise KeyError("no such file")
        return self.item, 1


class Noisy(Dataset):
    """A data set that draws its inputs anew at each access."""

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        self.draw = draw

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        return self.draw(), index % 3


class OneShot:
    """An iterable that is exhausted after one pass."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches

    def __len__(self) -> int:
        return 2


def spoil(value: float, batch: int = 0) -> list[tuple[Tensor, Tensor]]:
    data = make_data(4, 5)
    data[batch][0][3, 2] = value
    return data


SOURCES: dict[str, tuple[Callable[[], Any], str]] = {
    "empty list": (list, "got no batches, expected at least one"),
    "drop_last": (
        lambda: DataLoader(TensorDataset(*make_data(1, 5)[0]), batch_size=9, drop_last=True),
        "got no batches",
    ),
    "empty batch": (lambda: [(torch.zeros(0, 12), torch.zeros(0, dtype=torch.long))], "got an empty batch"),
    "no inputs": (lambda: [(None, torch.zeros(8))], "got inputs of type NoneType, expected tensors"),
    "texts": (lambda: [(["a", "b"], torch.zeros(2))], "got inputs of type list of str, expected tensors"),
    "objects": (lambda: [([object()], torch.zeros(1))], "got inputs of type list of object, expected tensors"),
    "numbers": (lambda: [(3, 1)], "got inputs of type int, expected tensors"),
    "one shot": (lambda: OneShot(make_data(1, 5)), "got no batch when it was read the second time"),
    "NaN": (lambda: spoil(NAN), r"inputs of the first batch: got 1 of 96 values NaN in \(8, 12\) float32"),
    "inf": (lambda: spoil(INF), "inputs of the first batch: got 1 of 96 values infinite"),
    "minus inf": (lambda: spoil(-INF), "inputs of the first batch: got 1 of 96 values infinite"),
    "NaN targets": (lambda: [(torch.ones(2, 12), torch.tensor([1.0, NAN]))], "targets of the first batch: got 1 of 2"),
    "triples": (lambda: [(1, 2, 3)], "got a batch of type tuple with 3 elements"),
    "dict without labels": (lambda: [{"x": torch.ones(2, 12)}], "got a dict with the keys x, expected a key 'labels'"),
    "a pair": (lambda: make_data(1, 5)[0], "got a batch of type Tensor, expected a pair"),
    "pictures": (lambda: DataLoader(Pictures(object())), "reading batch 1 failed: TypeError: default_collate"),
    "a file that is missing": (lambda: DataLoader(Pictures(KeyError)), "reading batch 1 failed: KeyError"),
    "a worker that fails": (lambda: DataLoader(Pictures(KeyError), num_workers=1), "reading batch 1 failed: KeyError"),
    "another shape": (lambda: [(torch.ones(8, 5), torch.zeros(8, dtype=torch.long))], r"failed .*inputs \(8, 5\) float32"),
    "another type": (lambda: [(torch.ones(8, 12).double(), torch.zeros(8, dtype=torch.long))], "float64: RuntimeError"),
}  # fmt: skip


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("name", SOURCES)
def test_data_that_cannot_be_used_are_refused(name: str, split: str, tmp_path: Path):
    make, message = SOURCES[name]
    refuse(lambda: odd(**{split: make()}), tmp_path, rf"(?s)^Task\.{split}: .*{message}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((batch for batch in make_data(2, 0)), r"Task\.train: got generator, which can be read only once"),
        (iter(make_data(2, 0)), r"Task\.train: got list_iterator, which can be read only once"),
        (map(tuple, make_data(2, 0)), r"Task\.train: got map, which can be read only once"),
        (TensorDataset(torch.zeros(2)), r"Task\.train: got the data set TensorDataset, expected batches"),
        ({"x": torch.ones(2)}, r"Task\.train: got dict, expected a torch DataLoader"),
        (torch.ones(2, 3), r"Task\.train: got Tensor, expected a torch DataLoader"),
        ("train.csv", r"Task\.train: got str, expected a torch DataLoader"),
    ],
)
def test_sources_that_cannot_be_read_again_are_refused(source: Any, message: str):
    with pytest.raises(ConfigError, match=message):
        odd(train=source)


@pytest.mark.parametrize(
    "draw", [lambda: torch.from_numpy(np.random.rand(12)).float(), lambda: torch.full((12,), random.random())]  # noqa: S311
)  # fmt: skip
@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_data_that_differ_at_each_pass_are_refused(draw: Any, split: str, tmp_path: Path):
    message = rf"Task\.{split}: got another first batch when it was read the second time"
    refuse(lambda: odd(**{split: DataLoader(Noisy(draw), batch_size=4)}), tmp_path, message)


def test_training_data_may_differ_at_each_pass(tmp_path: Path):
    noisy = DataLoader(Noisy(lambda: torch.from_numpy(np.random.rand(12)).float()), batch_size=4)
    assert run(odd(train=noisy), tmp_path).run.has("results.json")


def test_what_a_loader_draws_from_the_generator_of_pytorch_is_the_same_at_each_pass():
    """Cause: only the first batch was drawn with the seed of the epoch, so a transform at random differed at each pass."""
    source = odd(validation=DataLoader(Noisy(lambda: torch.rand(12)), batch_size=4)).validation
    once, again = ([x for x, _ in source.epoch(torch.Generator().manual_seed(0))] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], once[1])


def test_masks_may_contain_minus_infinity(tmp_path: Path):
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.net(x * mask.exp())

    mask = torch.zeros(8, 12)
    mask[:, 6:] = -INF
    batches = {
        split: [((x, mask), y) for x, y in make_data(2, seed)]
        for seed, split in enumerate(("train", "validation", "test"))
    }
    assert run(odd(model=Masked(), **batches), tmp_path).run.has("results.json")


class Stream(IterableDataset):
    def __init__(self, n: int | None = 32, seed: int = 0) -> None:
        self.n, self.seed = n, seed

    def __iter__(self) -> Iterator[Any]:
        g = torch.Generator().manual_seed(self.seed)
        n = 0
        while self.n is None or n < self.n:
            yield torch.randn(12, generator=g), torch.randint(3, (), generator=g)
            n += 1


def test_loaders_without_a_length_work(tmp_path: Path):
    """Cause: len() of such a loader raises a TypeError."""
    streams = {
        split: DataLoader(Stream(seed=seed), batch_size=8) for seed, split in enumerate(("train", "validation", "test"))
    }
    assert run(odd(**streams), tmp_path, strategy="lionheart").results.validation.n_samples == 32


def test_training_data_without_an_end_work_with_a_number_of_steps(tmp_path: Path):
    assert run(odd(train=DataLoader(Stream(None), batch_size=8)), tmp_path, strategy="shared").run.has("results.json")


def test_evaluation_data_without_an_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loaders, "_MOST_COUNTED", 50)
    message = r"Task\.test: got more than 50 batches from a loader without a length"
    refuse(lambda: odd(test=DataLoader(Stream(None), batch_size=8)), tmp_path, message)


class Encoded(dict):
    """Like the class BatchEncoding of transformers."""


class WithMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def forward(self, *, input_values: Tensor, attention_mask: Tensor) -> ModelOutput:
        return ModelOutput(logits=self.net(input_values * attention_mask))


@pytest.mark.parametrize("key", ["labels", "label", "label_ids"])
def test_batches_of_hugging_face_work(key: str, tmp_path: Path):
    batches = {
        split: [
            Encoded({"input_values": x, "attention_mask": torch.ones_like(x), key: y}) for x, y in make_data(2, seed)
        ]
        for seed, split in enumerate(("train", "validation", "test"))
    }
    result = run(odd(model=WithMask(), **batches), tmp_path, strategy="lionheart")
    assert result.run.has("results.json")


def test_inputs_that_a_model_needs_by_keyword_are_named(tmp_path: Path):
    message = r"Task\.validation: WithMask failed on the first batch, inputs \(8, 12\) float32: TypeError.*1 positional"
    refuse(lambda: odd(model=WithMask()), tmp_path, message)


@pytest.mark.parametrize("source", ["list", "loader"])
def test_a_last_batch_of_one_sample_is_refused_if_the_network_cannot_train_on_it(source: str, tmp_path: Path):
    """Cause: batch norm failed in the last step of the first epoch, after minutes, with a traceback."""
    net = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    x, y = torch.cat([x for x, _ in make_data(3, 0)])[:17], torch.cat([y for _, y in make_data(3, 0)])[:17]
    pairs = list(zip(x.split(8), y.split(8), strict=True))
    train = pairs if source == "list" else DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    message = r"Task\.train: the last batch has 1 sample, on which Sequential fails in train\(\) mode"
    every = make_settings(strategy="lionheart").replace(train=make_settings().train.replace(steps_per_epoch=None))
    with pytest.raises(ConfigError, match=message) as caught:
        map_layers(odd(model=net, train=train), every, run_dir=tmp_path / "x")
    assert "drop_last=True" in caught.value.hint
    refuse(
        lambda: odd(model=net, train=[(x[:1], y[:1])]), tmp_path, r"Task\.train: Sequential failed in train\(\) mode"
    )
    dropped = DataLoader(TensorDataset(x, y), batch_size=8, drop_last=True)
    assert run(odd(model=net, train=dropped), tmp_path).run.has("results.json")


# -------------------------------------------------------------------------------------------------------------- network


class Counting(nn.Module):
    """A network whose forward changes its own state."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.net, self.what = make_net(), what
        self.register_buffer("mean", torch.zeros(12))
        self.register_buffer("cache", torch.zeros(12), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            if self.what == "weights":
                self.net[0].weight.mul_(0.9)
            else:
                getattr(self, self.what).add_(x.mean(0))
        return self.net(x)


@pytest.mark.parametrize(("what", "name"), [("weights", "net.0.weight"), ("mean", "mean")])
def test_networks_that_change_in_eval_mode_are_refused(what: str, name: str, tmp_path: Path):
    message = rf"Task\.model: a forward pass in eval\(\) mode changed '{name}'"
    refuse(lambda: odd(model=Counting(what)), tmp_path, message)


def test_a_cache_may_change(tmp_path: Path):
    assert run(odd(model=Counting("cache")), tmp_path).run.has("results.json")


def change(net: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = value
    return net


def on_two_devices() -> nn.Module:
    net = make_net()
    net[2].to("meta")
    return net


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_net().to("meta"), r"Task\.model: '0\.weight' is on the device meta and has no values"),
        (on_two_devices, r"Task\.model: '2\.weight' is on the device meta"),
        (lambda: make_net().requires_grad_(False), r"Task\.model: .* no parameter requires a gradient"),
        (lambda: change(make_net(), NAN), r"Task\.model: got 1 of 192 values NaN or infinite in '0\.weight'"),
        (lambda: change(make_net(), INF), r"Task\.model: got 1 of 192 values NaN or infinite in '0\.weight'"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), r"Task\.model: '0\.weight' is not initialised"),
        (lambda: nn.Sequential(nn.ReLU()), r"Task\.model: got Sequential without parameters"),
    ],
)
def test_networks_without_usable_weights_are_refused(build: Callable[[], nn.Module], message: str, tmp_path: Path):
    refuse(lambda: odd(model=build()), tmp_path, message)


def test_a_frozen_network_can_be_mapped_without_retraining(tmp_path: Path):
    assert run(odd(model=make_net().requires_grad_(False)), tmp_path).run.has("results.json")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_in_float64_is_retrained_in_float64(precision: str, tmp_path: Path):
    """Cause: bfloat16, which presets choose on fast processors, left the weights in float64 and converted the inputs."""
    batches = {
        split: [(x.double(), y) for x, y in make_data(2, seed)]
        for seed, split in enumerate(("train", "validation", "test"))
    }
    settings = make_settings(strategy="lionheart")
    settings = settings.replace(train=settings.train.replace(precision=precision, distillation=0.5))
    task = odd(model=make_net().double(), **batches)
    assert map_layers(task, settings, run_dir=tmp_path / "x").run.has("results.json")


# -------------------------------------------------------------------------------------------------------------- overlap


def overlapping() -> dict[str, tuple[dict[str, Any], str]]:
    x, y = torch.randn(48, 12, generator=torch.Generator().manual_seed(9)), torch.arange(48) % 3
    data, one, two = TensorDataset(x, y), make_data(2, 7), make_data(2, 8)
    loader = DataLoader(data, batch_size=8)
    return {
        "one list": ({"train": one, "test": one}, r"Task\.train and Task\.test overlap: they are the same object"),
        "one loader": ({"validation": loader, "test": loader}, r"Task\.validation and Task\.test overlap"),
        "one data set": ({"train": DataLoader(data, batch_size=8, shuffle=True), "test": loader}, "the same object"),
        "subsets": (
            {
                "train": DataLoader(Subset(data, range(30)), batch_size=8),
                "validation": DataLoader(Subset(data, range(20, 40)), batch_size=8),
            },
            r"Task\.train and Task\.validation overlap: their data sets have 10 samples in common",
        ),
        "equal samples": (
            {"validation": two, "test": [(two[0][0].clone(), two[0][1].clone()), one[1]]},
            r"Task\.validation and Task\.test overlap: their first batches have 8 samples in common",
        ),
    }


@pytest.mark.parametrize("name", overlapping())
def test_splits_with_samples_in_common_are_named(name: str, tmp_path: Path):
    changes, message = overlapping()[name]
    with pytest.warns(DataWarning, match=message):
        run(odd(**changes), tmp_path)


def test_disjoint_subsets_are_not_named(tmp_path: Path):
    x, y = torch.randn(48, 12, generator=torch.Generator().manual_seed(0)), torch.arange(48) % 3
    data = TensorDataset(x, y)
    splits = {
        split: DataLoader(Subset(data, range(16 * i, 16 * i + 16)), batch_size=8)
        for i, split in enumerate(("train", "validation", "test"))
    }
    assert run(odd(**splits), tmp_path).run.has("results.json")


# ------------------------------------------------------------------------------------------------------- during the run


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_values_in_a_later_batch_are_named(split: str, value: float, tmp_path: Path):
    """Cause: a network gives some class for NaN too, so these samples counted as wrong answers."""
    with pytest.raises(NumericsError, match=rf"Task\.{split}: batch 3: inputs: got 1 of 96 values") as caught:
        run(odd(**{split: spoil(value, batch=2)}), tmp_path)
    assert "remove or repair" in caught.value.hint


class Turning:
    """Batches of which one has a NaN as soon as it is said."""

    def __init__(self) -> None:
        self.is_spoilt = False

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        yield from spoil(NAN if self.is_spoilt else 0.0, batch=3)


class Spoiling(SilentProgress):
    """Spoils a source after the first decision."""

    def __init__(self, source: Turning) -> None:
        self.source = source

    def note(self, text: str) -> None:
        self.source.is_spoilt = self.source.is_spoilt or text.startswith("  1  ")


def test_values_in_a_later_training_batch_are_named_and_the_run_can_be_resumed(tmp_path: Path):
    """Cause: the error blamed the learning rate."""
    every = make_settings(strategy="lionheart").replace(train=make_settings().train.replace(steps_per_epoch=None))
    source = Turning()
    with pytest.raises(NumericsError, match=r"Task\.train: batch 4: inputs: got 1 of 96 values NaN"):
        map_layers(odd(train=source), every, run_dir=tmp_path / "x", progress=Spoiling(source))
    repaired = resume_run(odd(train=Turning()), tmp_path / "x")
    fresh = map_layers(odd(train=Turning()), every, run_dir=tmp_path / "y")
    assert repaired.mapping == fresh.mapping
    assert all(torch.equal(a, b) for a, b in zip(repaired.model.parameters(), fresh.model.parameters(), strict=True))


def test_values_in_a_later_training_batch_before_the_first_decision_leave_nothing(tmp_path: Path):
    every = make_settings(strategy="lionheart").replace(train=make_settings().train.replace(steps_per_epoch=None))
    with pytest.raises(NumericsError, match=r"Task\.train: batch 4: inputs: got 1 of 96 values NaN"):
        map_layers(odd(train=spoil(NAN, batch=3)), every, run_dir=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.ones(8, 5), torch.zeros(8, dtype=torch.long)), r"Task\.train: batch 3: Sequential failed in train\(\)"),
        ((torch.ones(8, 12), torch.full((8,), 9)), "cross_entropy: got the target 9 for outputs of 3 classes"),
        ((torch.ones(8, 12), torch.zeros(7, dtype=torch.long)), "which do not fit"),
    ],
)
def test_a_later_training_batch_that_fails_is_named(batch: Any, message: str, tmp_path: Path):
    every = make_settings(strategy="lionheart").replace(train=make_settings().train.replace(steps_per_epoch=None))
    with pytest.raises(ConfigError, match=message):
        map_layers(odd(train=[*make_data(2, 0), batch]), every, run_dir=tmp_path / "x")


def test_weights_that_are_nan_in_a_finished_run_are_refused(tmp_path: Path):
    """Cause: the evaluation of such weights gave 18.30 %."""
    task = odd()
    path = run(task, tmp_path).run.file("weights.safetensors")
    weights = load_file(path)
    change_first = next(name for name in weights if name.endswith("weight"))
    weights[change_first].view(-1)[0] = NAN
    with safe_open(path, "pt") as stream:
        metadata = stream.metadata()
    save_file(weights, path, metadata)
    for open_run in (
        lambda: evaluate_run(task, path.parent, n_chips=1),
        lambda: lionheart.load_run(path.parent, task.model),
    ):
        with pytest.raises(ArtifactError, match=r"weights\.safetensors: 0\.weight: got NaN or infinity"):
            open_run()
    assert not (path.parent / "evaluation.json").exists()


def test_data_of_an_evaluation_are_checked(tmp_path: Path):
    result = run(odd(), tmp_path)
    for changes, message in [
        ({"test": []}, r"Task\.test: got no batches"),
        ({"test": spoil(NAN)}, r"Task\.test: inputs of the first batch: got 1 of 96 values NaN"),
        ({"metric": mean_score}, "expected one score for each sample"),
    ]:
        with pytest.raises(ConfigError, match=message):
            evaluate_run(
                replace(odd(), **changes) if "test" not in changes else odd(**changes), result.run.path, n_chips=1
            )


class Failing(Pictures):
    """A data set with one damaged sample."""

    def __getitem__(self, index: int) -> Any:
        if index == 13:
            raise OSError("damaged file")
        return torch.full((12,), float(index)), index % 3


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_later_sample_that_cannot_be_read_is_named(split: str, n_workers: int, tmp_path: Path):
    loader = DataLoader(Failing(None), batch_size=4, num_workers=n_workers)
    every = make_settings(strategy="lionheart").replace(train=make_settings().train.replace(steps_per_epoch=None))
    with pytest.raises(ConfigError, match=rf"Task\.{split}: reading batch 4 failed: OSError: damaged file"):
        map_layers(odd(**{split: loader}), every, run_dir=tmp_path / "x")


# ------------------------------------------------------------------------------------------------------------ other jobs


@pytest.mark.parametrize("job", ["profile", "pareto"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": []}, r"Task\.validation: got no batches"),
        ({"train": spoil(NAN)}, r"Task\.train: inputs of the first batch"),
        ({"metric": mean_score}, "expected one score for each sample"),
        ({"model": Wrapped(lambda y: None)}, "got outputs of type NoneType"),
    ],
)
def test_other_jobs_check_the_first_batch_too(job: str, changes: Any, message: str, tmp_path: Path):
    task, settings = odd(**changes), make_settings()
    jobs: dict[str, Callable[[], Any]] = {
        "profile": lambda: profile_layers(task, settings, times=[1.0], n_chips=1, out=tmp_path / "profile.json"),
        "pareto": lambda: find_pareto_front(task, settings, run_dir=tmp_path / "front"),
    }
    with pytest.raises(ConfigError, match=message):
        jobs[job]()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("level", [0.9, 0.6])
def test_a_confidence_level_on_few_samples_leaves_no_folder(level: float, tmp_path: Path):
    one = [(x[:1], y[:1]) for x, y in make_data(1, 1)]
    for changes in ({"n_chips": 1}, {"validation": one}, {"n_chips_final": 1}):
        search = {"n_chips": 2, "n_chips_final": 2, "confidence_level": level}
        search |= {name: value for name, value in changes.items() if name != "validation"}
        task = odd(validation=one) if "validation" in changes else odd()
        with pytest.raises(LionHeartError, match="search"):
            run(task, tmp_path, **search)
        assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- what must hold


def test_the_checks_change_no_random_number_and_nothing_of_the_network(tmp_path: Path):
    net = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3))
    task = odd(model=net, train=DataLoader(Noisy(lambda: torch.rand(12)), batch_size=4, shuffle=True))
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    lionheart.evaluation.check_first_batches(
        lionheart.evaluation.Subject(task.model, task.metric, task.loss),
        {"train": task.train, "validation": task.validation, "test": task.test},
    )
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2][1], np.random.get_state()[1])
    assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training


class Watched:
    """A list of batches that counts which ones are read."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches, self.n_read = batches, 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            self.n_read += 1
            yield batch


def test_the_checks_read_the_first_batch_twice():
    splits = {name: Watched(make_data(4, seed)) for seed, name in enumerate(("train", "validation", "test"))}
    task = odd(**splits)
    lionheart.evaluation.check_first_batches(
        lionheart.evaluation.Subject(task.model, task.metric, task.loss),
        {"train": task.train, "validation": task.validation, "test": task.test},
    )
    assert {name: source.n_read for name, source in splits.items()} == dict.fromkeys(splits, 2)


# ------------------------------------------------------------------------------------------------------- command line

USER_FILE = """
import torch
from torch import nn
import lionheart

def batches(seed):
    g = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 12, generator=g), torch.randint(3, (8,), generator=g)) for _ in range(2)]

def build(metric=None):
    spoilt = batches(0)
    spoilt[0][0][0, 0] = float("nan")
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
    return lionheart.Task(net, spoilt, batches(1), batches(2))
"""


@pytest.mark.parametrize("verb", ["map", "pareto", "profile"])
def test_commands_refuse_a_task_and_leave_nothing(verb: str, tmp_path: Path):
    (tmp_path / "mine.py").write_text(USER_FILE)
    out = tmp_path / "runs" / "x"
    result = lionheart_command(verb, f"{tmp_path / 'mine.py'}:build", "--out", out)
    assert_refused(
        result, "Task.train: inputs of the first batch: got 1 of 96 values NaN", "remove or repair the samples"
    )
    assert not out.parent.exists()


def test_the_training_of_a_recipe_checks_the_first_batch_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    sources = odd()
    recipe = Recipe(
        build_model=make_net,
        build_data=lambda **kwargs: (sources.train, sources.validation, sources.test),
        train_spec=TrainSpec(max_epochs=1, patience=None),
        batch_size=8,
        loss=lambda o, t: cross_entropy(o, t).detach(),
    )
    put_recipe(monkeypatch, "tiny/odd", recipe)
    with pytest.raises(ConfigError, match=r"tiny/odd\.loss: got a loss without a gradient"):
        train_task("tiny/odd", tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []
