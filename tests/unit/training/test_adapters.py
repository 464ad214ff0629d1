"""Low-rank adapters: nothing changes at the start, only adapters learn, and they stay digital in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.devices import HWASpec, TileSpec
from lionheart.errors import ConfigError, UnsupportedLayerError
from lionheart.jobs import MapSettings, load_run, map_layers
from lionheart.search import SearchSpec
from lionheart.tasks import Task
from lionheart.training import TrainSpec, add_adapters_

pytestmark = [pytest.mark.usefixtures("fixed_weights"), pytest.mark.usefixtures("small_noise_pool")]
X = torch.randn(16, 12, generator=torch.Generator().manual_seed(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(12, 24), nn.LayerNorm(24), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.norm(self.up(x))))


def test_outputs_stay_and_only_adapters_learn():
    model = Block()
    before = model(X)
    assert add_adapters_(model, rank=4) == ("up", "down")
    assert torch.equal(model(X), before)
    learning = {name for name, each in model.named_parameters() if each.requires_grad}
    assert learning == {f"{layer}.adapter_{part}.weight" for layer in ("up", "down") for part in ("down", "up")}


def test_outputs_by_hand():
    model = Block()
    add_adapters_(model, ["down"], rank=2, alpha=6.0)
    with torch.no_grad():
        model.down.adapter_up.weight.normal_(generator=torch.Generator().manual_seed(0))
    whole = model.down.base.weight + 3.0 * model.down.adapter_up.weight @ model.down.adapter_down.weight
    hidden = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model.down(hidden), F.linear(hidden, whole, model.down.base.bias), atol=1e-5)


def test_seeds_give_adapters():
    weights = []
    for seed in (0, 0, 1):
        model = Block()
        add_adapters_(model, rank=4, seed=seed)
        weights.append(model.up.adapter_down.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("layers", "rank", "error", "text"),
    [
        (["upp"], 8, ConfigError, "got 'upp', expected the name of a linear layer"),
        (["norm"], 8, ConfigError, "got 'norm', expected the name of a linear layer"),
        (None, 0, ConfigError, "rank: got 0, expected at least 1"),
    ],
)
def test_wrong_layers_are_refused(layers, rank, error, text):
    with pytest.raises(error, match=text):
        add_adapters_(Block(), layers, rank=rank)


def test_layers_that_are_not_called_get_no_adapter():
    model = nn.Sequential(nn.TransformerEncoderLayer(12, 2, 24), nn.Linear(12, 3))
    with pytest.raises(UnsupportedLayerError, match="0.linear1: TransformerEncoderLayer reads the weight"):
        add_adapters_(model, ["0.linear1"])
    assert add_adapters_(model) == ("1",)


def build_task() -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = Block().eval()
    add_adapters_(model, rank=4)
    draw = torch.Generator().manual_seed(0)
    batches = [(torch.randn(8, 12, generator=draw), torch.randint(3, (8,), generator=draw)) for _ in range(6)]
    return Task(model, batches[:4], batches[4:5], batches[5:])


def test_a_run_trains_adapters_and_leaves_the_weights_on_tiles(tmp_path: Path):
    tile = TileSpec.pcm(rows=16, cols=16, hwa=HWASpec(weight_noise_kind="device", weight_clip_sigma=1.0))
    settings = MapSettings(
        search=SearchSpec(
            max_drop_pp=90.0,
            n_chips=1,
            n_chips_final=1,
            report_times=(1.0,),
            strategy="all-analog",
            exclude=["*.adapter_*"],
        ),
        train=TrainSpec(max_epochs=2, patience=None, learning_rate=0.05),
        tile=tile,
        platforms=(),
    )
    task = build_task()
    result = map_layers(task, settings, run_dir=tmp_path / "run")
    assert set(result.mapping.analog) == {"up.base", "down.base"}
    before, after = task.model.state_dict(), result.model.state_dict()
    changed = {name for name, each in before.items() if not torch.equal(each, after[name])}
    assert changed == {f"{layer}.adapter_{part}.weight" for layer in ("up", "down") for part in ("down", "up")}
    again = load_run(tmp_path / "run", build_task().model)
    assert all(torch.equal(each, after[name]) for name, each in again.model.state_dict().items())
