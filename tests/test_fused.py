"""Fused converters give what the plain ones give."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import nn

from lionheart.analog import (
    analog_layers,
    convert_to_analog_,
    drift_chip_,
    fuse_converters_,
    program_chip_,
    seed_noise_,
)
from lionheart.mapping import LayerMapping, Placement
from lionheart.specs import TileSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("default"),  # the compiler's own
]

NETS = {
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 16, 3, bias=False)),
        torch.Size((8, 4, 16, 16)),
    ),
    "linear": (
        lambda: nn.Sequential(nn.Linear(96, 128), nn.ReLU(), nn.Linear(128, 64, bias=False)),
        torch.Size((256, 96)),
    ),
}


def on_tiles(name: str, tile: TileSpec) -> tuple[nn.Module, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model, shape = NETS[name][0](), NETS[name][1]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    if x.ndim == 4:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    convert_to_analog_(model, LayerMapping(dict.fromkeys(("0", "2"), Placement.ANALOG)), tile)
    for layer in analog_layers(model).values():
        layer.analog_input_range.fill_(2.0)
    return model, x


@pytest.mark.parametrize("rows", [256, 70])
@pytest.mark.parametrize("name", NETS)
def test_inference_and_training_agree(name: str, rows: int):
    plain, x = on_tiles(name, TileSpec.pcm(rows=rows))
    program_chip_(plain, torch.Generator().manual_seed(1))
    drift_chip_(plain, 3600.0, torch.Generator().manual_seed(2))
    fused = copy.deepcopy(plain)
    fuse_converters_(fused)
    for training in (False, True):
        results = []
        for model in (plain, fused):
            seed_noise_(model.train(training), torch.Generator().manual_seed(3))
            model.zero_grad()
            out = model(x)
            out.square().mean().backward()
            results.append((out.detach(), model[0].weight.grad))
        (out, grad), (fused_out, fused_grad) = results
        steps = (out - fused_out).abs()
        assert (steps > 1e-5 * out.abs().max()).double().mean() < 1e-3  # a rounding that fell on the other side
        assert (grad - fused_grad).norm() < 1e-2 * grad.norm()
        assert not torch.equal(out, torch.zeros_like(out))


def test_it_can_be_switched_off():
    model, x = on_tiles("linear", TileSpec.pcm())
    fuse_converters_(model)
    assert all(layer.fused for layer in analog_layers(model).values())
    fuse_converters_(model, fused=False)
    assert not any(layer.fused for layer in analog_layers(model).values())
    assert torch.isfinite(model(x)).all()
