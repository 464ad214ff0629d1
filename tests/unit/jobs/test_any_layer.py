"""Whole runs on models as people write them: views after convolutions, keywords, hooks, frozen and clipped weights, experts."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lionheart.jobs.retraining
from lionheart import evaluate, load_run, program_
from lionheart.analog import analog_layers
from lionheart.devices import HWASpec, TileSpec
from lionheart.errors import CalibrationWarning, ConfigError, LionHeartWarning
from lionheart.jobs import MappingResult, MapSettings, evaluate_run, map_layers, resume_run
from lionheart.search import SearchSpec
from lionheart.tasks import Task
from lionheart.training import TrainSpec

PCM = TileSpec.pcm(rows=32, cols=32)
#: As the presets clip.
CLIPPED = PCM.replace(hwa=HWASpec(weight_noise_kind="device", weight_clip_sigma=1.2))

pytestmark = pytest.mark.usefixtures("small_noise_pool")


@pytest.fixture(autouse=True)
def _fixed_weights() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        yield


def make_settings(tile: TileSpec = PCM, **search: Any) -> MapSettings:
    spec = SearchSpec(**{"max_drop_pp": 60.0, "n_chips": 1, "n_chips_final": 1, "report_times": (1.0,), **search})
    training = TrainSpec(max_epochs=1, steps_per_epoch=2, patience=None, learning_rate=0.01)
    return MapSettings(search=spec, train=training, tile=tile, platforms=())


def make_task(model: nn.Module, *shape: int) -> Task:
    """A task of noise: 4 training batches of 8, 1 to decide, 1 to report."""
    draw = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, *shape, generator=draw), torch.randint(3, (8,), generator=draw)) for _ in range(6)]
    return Task(model, batches[:4], batches[4:5], batches[5:])


class LeNet(nn.Module):
    """Bug case 40: the view wants the memory order of a digital convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 8, 3)
        self.fc1, self.fc2 = nn.Linear(8 * 16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return self.fc2(torch.relu(self.fc1(x.view(-1, 8 * 16))))


class Keywords(nn.Module):
    """Bug case 40: layers are called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(input=torch.relu(self.a(input=x)))


class Asks(nn.Module):
    """A forward that asks its layers what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Conv1d(8, 8, 1), nn.Linear(8, 3)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if isinstance(layer, nn.Conv1d):
                x = layer(x.unsqueeze(-1)).flatten(1)
            elif isinstance(layer, nn.Linear):
                x = torch.relu(layer(x[:, : layer.in_features]))
        return x


class Experts(nn.Module):
    """Bug case 11: an expert to which no token goes."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList(nn.Linear(8, 8) for _ in range(3)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        choice, out = (x[:, 0] > 0).long(), torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            out[choice == index] = expert(x[choice == index])
        return self.head(torch.relu(out))


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    model[0].register_forward_hook(lambda module, args, out: 2 * out)
    model[2].register_forward_pre_hook(lambda module, args: (args[0] - 1,))
    return model


def linear_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize(
    ("build", "shape"),
    [(LeNet, (1, 8, 8)), (Keywords, (8,)), (Asks, (8,)), (hooked, (8,))],
    ids=["view", "keywords", "isinstance", "hooks"],
)
@pytest.mark.parametrize("strategy", ["lionheart", "training-free"])
def test_a_whole_run(build: Callable[[], nn.Module], shape: tuple[int, ...], strategy: str, tmp_path: Path):
    result = map_layers(make_task(build(), *shape), make_settings(strategy=strategy), run_dir=tmp_path / "run")
    assert result.mapping.analog
    assert result.model.training is False  # faults A9: it came back in training mode
    assert not any(module.training for module in result.model.modules())
    loaded = resume_run(make_task(build(), *shape), tmp_path / "run").model
    assert not any(module.training for module in loaded.modules())


def test_a_whole_run_with_an_expert_that_no_token_reaches(tmp_path: Path):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = map_layers(make_task(Experts(), 8), make_settings(), run_dir=tmp_path / "run")
    named = [each for each in said if issubclass(each.category, CalibrationWarning)]
    assert named
    assert all("experts.2" in str(each.message) for each in named)
    assert len(result.mapping.placements) == 4


def test_a_saved_result_is_small(tmp_path: Path):
    """Faults D6: it held the noise pool, 17.6 MB for a network of 155 kB."""
    result = map_layers(make_task(linear_net(), 8), make_settings(), run_dir=tmp_path / "run")
    file = io.BytesIO()
    torch.save(result.model, file)
    assert file.tell() < 100_000


# -- bug case 14 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [PCM, CLIPPED], ids=["plain", "clipped"])
def test_frozen_weights_are_the_same_after_a_run(tile: TileSpec, tmp_path: Path):
    model = linear_net()
    model[:4].requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    result = map_layers(make_task(model, 8), make_settings(tile, strategy="all-analog"), run_dir=tmp_path / "run")
    assert len(result.mapping.analog) == 3
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert [name for name, each in result.model.named_parameters() if not each.requires_grad] == frozen
    assert all(torch.equal(result.model.state_dict()[name], before[name]) for name in frozen)
    assert not torch.equal(result.model[4].weight, before["4.weight"])


def test_a_model_that_is_all_frozen_is_mapped_without_training_or_told_so(tmp_path: Path):
    model = linear_net().requires_grad_(False)
    settings = make_settings(strategy="training-free")
    assert map_layers(make_task(model, 8), settings, run_dir=tmp_path / "free").mapping.analog
    with pytest.raises(ConfigError, match="no parameter requires a gradient"):
        map_layers(make_task(model, 8), make_settings(), run_dir=tmp_path / "run")


# -- bug case 41 -----------------------------------------------------------------------------------------------------------


class KilledError(BaseException):
    """Stands for a kill."""


def run_clipped(folder: Path, **search: Any) -> MappingResult:
    return map_layers(make_task(linear_net_of(5), 8), make_settings(CLIPPED, **search), run_dir=folder)


def linear_net_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return linear_net()


@pytest.mark.parametrize("strategy", ["lionheart", "shared"])
def test_a_run_clips_by_the_weights_that_it_began_with(strategy: str, tmp_path: Path):
    result = run_clipped(tmp_path / "run", strategy=strategy)
    began = linear_net_of(5)
    for fqn, layer in analog_layers(result.model).items():
        limit = 1.2 * began.get_submodule(fqn).weight.std()
        torch.testing.assert_close(layer.analog_weight_limit, limit.detach())
        if strategy == "lionheart":  # it retrains, and its weights are kept
            assert float(layer.weight.detach().abs().max()) <= float(layer.analog_weight_limit)


@pytest.mark.parametrize("n_clips", [1, 3, 5])
@pytest.mark.parametrize("strategy", ["lionheart", "shared"])
def test_a_run_that_clips_is_the_same_killed_and_resumed(
    strategy: str, n_clips: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = run_clipped(tmp_path / "whole", strategy=strategy)
    left, clip = [n_clips], lionheart.jobs.retraining.clip_weights_

    def clip_or_die(model: nn.Module, **strength: float) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError
        clip(model, **strength)

    monkeypatch.setattr(lionheart.jobs.retraining, "clip_weights_", clip_or_die)
    try:
        run_clipped(tmp_path / "run", strategy=strategy)
    except KilledError:
        monkeypatch.undo()
        result = resume_run(make_task(linear_net_of(5), 8), tmp_path / "run")
        assert result.mapping == whole.mapping
        assert result.model.state_dict().keys() == whole.model.state_dict().keys()
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(result.model.state_dict()[name], tensor), name
    else:
        assert strategy == "shared"  # it has few steps


def test_the_model_of_a_run_without_a_chip_says_so_once(tmp_path: Path):
    """The model came back in training mode, and computed with exact weights without a word."""
    task = make_task(linear_net(), 8)
    result = map_layers(task, make_settings(strategy="training-free"), run_dir=tmp_path / "run")
    inputs = next(iter(task.test.epoch(torch.Generator())))[0]
    for model in (result.model, copy.deepcopy(result.model), load_run(tmp_path / "run", task.model).model):
        assert not model.training
        with pytest.warns(LionHeartWarning, match="without a programmed chip"):
            first = model(inputs)
        assert model(inputs).shape == first.shape  # a second warning would be an error
    model = load_run(tmp_path / "run", task.model).model
    program_(model, seed=1)
    model(inputs)


def test_an_evaluation_of_a_run_does_not_warn_of_its_own_passes(tmp_path: Path):
    """The evaluation runs the model before it programs a chip. Cause: each evaluation of a run warned, also on the terminal."""
    task = make_task(linear_net(), 8)
    result = map_layers(task, make_settings(strategy="training-free"), run_dir=tmp_path / "run")
    evaluate_run(task, tmp_path / "run", times=["1s"], n_chips=1)  # a warning would be an error
    evaluate(result.model, task.test, times=["1s"], n_chips=1)
    with pytest.warns(LionHeartWarning, match="without a programmed chip"):  # the pass of a user still does
        result.model(next(iter(task.test.epoch(torch.Generator())))[0])
