"""Warm-up of the noise and of the bounds of weights in training, and layers that are not clipped."""

from __future__ import annotations

import copy
import itertools
import shutil
import warnings

import pytest
import torch
from exact_tiles import convert_all_
from torch import Tensor, nn

from lionheart.analog import (
    analog_layers,
    calibrate_input_ranges_,
    clip_weights_,
    compile_model_,
    convert_to_digital_,
    find_spared,
    seed_noise_,
    set_noise_strength_,
)
from lionheart.analog.clipping import spread_limit
from lionheart.devices import HWASpec, TileSpec

EXACT = TileSpec.ideal(32, 32)
X = torch.randn(64, 32, generator=torch.Generator().manual_seed(12))
#: Kinds of training noise, each with nothing else that changes the outputs.
NOISES = {
    "output": EXACT.replace(output_noise=0.1),
    "additive": EXACT.replace(hwa=HWASpec(weight_noise=0.1, weight_noise_kind="additive", weight_clip=None)),
    "multiplicative": EXACT.replace(hwa=HWASpec(weight_noise=0.1, weight_noise_kind="multiplicative", weight_clip=None)),
    "device": TileSpec.pcm(
        rows=32, cols=32, dac_bits=None, adc_bits=None, output_bound=None, output_noise=0.0,
        hwa=HWASpec(weight_noise_kind="device", weight_clip=None),
    ),
    "vectors": EXACT.replace(output_noise=0.1, input_range="dynamic"),
}  # fmt: skip

pytestmark = [pytest.mark.usefixtures("fixed_weights"), pytest.mark.usefixtures("small_noise_pool")]


def on_tiles(tile: TileSpec) -> nn.Module:
    model = convert_all_(nn.Sequential(nn.Linear(32, 32)), tile).train()
    if tile.input_range != "dynamic":
        model[0].analog_input_range.data.fill_(4.0)
    return model


def outputs(model: nn.Module, strength: float | None) -> Tensor:
    """Return the outputs of one training step of a fixed seed."""
    seed_noise_(model, torch.Generator().manual_seed(3))
    if strength is not None:
        set_noise_strength_(model, strength)
    with torch.no_grad():
        return model(X)


# --------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_proportional_to_its_strength(name: str):
    model = on_tiles(NOISES[name])
    exact, full = nn.functional.linear(X, model[0].weight, model[0].bias).detach(), outputs(model, None)
    assert float((full - exact).abs().max()) > 1e-3
    assert torch.equal(outputs(model, 1.0), full)
    for strength in (0.0, 0.25, 0.5):
        assert torch.allclose(outputs(model, strength), exact + strength * (full - exact), atol=1e-5)


def test_dropped_weights_fade():
    model = on_tiles(EXACT.replace(hwa=HWASpec(weight_noise=0.0, drop_connect=0.4, weight_clip=None)))
    exact, full = nn.functional.linear(X, model[0].weight, model[0].bias).detach(), outputs(model, None)
    assert float((full - exact).abs().max()) > 0.1
    assert torch.allclose(outputs(model, 0.5), (exact + full) / 2, atol=1e-5)
    assert torch.equal(outputs(model, 1.0), full)


def test_evaluation_and_newly_seeded_noise_have_full_strength():
    model = on_tiles(NOISES["output"])
    full = outputs(model, None)
    set_noise_strength_(model, 0.0)
    assert torch.equal(outputs(model, None), full)


def test_a_copy_has_the_same_strength():
    model = on_tiles(NOISES["output"])
    seed_noise_(model, torch.Generator().manual_seed(3))
    set_noise_strength_(model, 0.5)
    twin = copy.deepcopy(model)
    set_noise_strength_(model, 0.0)
    with torch.no_grad():
        assert torch.equal(twin(X), outputs(model, 0.5))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_a_rising_strength_compiles_once(monkeypatch: pytest.MonkeyPatch):
    torch.compiler.reset()
    compiled, number = [], itertools.count()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        compiled.append(next(number))
        return graph

    tile = EXACT.replace(output_noise=0.1, hwa=HWASpec(weight_noise=0.1, weight_noise_kind="additive"))
    model, eager = on_tiles(tile), on_tiles(tile)
    eager.load_state_dict(model.state_dict())
    compile_model_(model, backend=backend)
    for step in range(6):
        seed_noise_(model, torch.Generator().manual_seed(step))  # as in a new epoch
        set_noise_strength_(model, step / 5)
        model(X).sum().backward()
        if step == 0:
            n_graphs = len(compiled)
            assert n_graphs > 0
            out = nn.functional.linear(X, eager[0].weight, eager[0].bias)
            assert torch.allclose(model(X), out, atol=1e-5)
    assert len(compiled) == n_graphs
    torch.compiler.reset()


# --------------------------------------------------------------------------------------------------------------- bounds


def test_bounds_fall_from_the_largest_weights():
    model = on_tiles(EXACT.replace(hwa=HWASpec(weight_noise=0.0, weight_clip=None, weight_clip_sigma=1.0)))
    weight = model[0].weight.detach().clone()
    largest, limit = weight.abs().amax(dim=1, keepdim=True), weight.std()
    for strength in (0.0, 0.3, 1.0):
        with torch.no_grad():
            model[0].weight.copy_(weight)
        clip_weights_(model, strength=strength)
        bound = torch.maximum(largest, limit) * (1 - strength) + limit * strength
        assert torch.allclose(model[0].weight, torch.clamp(weight, -bound, bound), atol=1e-6)
    with torch.no_grad():
        model[0].weight.mul_(100)
    clip_weights_(model, strength=0.0)  # weights that grow are held at the largest weight
    assert torch.allclose(model[0].weight.abs().amax(dim=1, keepdim=True), largest, atol=1e-6)


def test_bounds_of_columns_are_those_of_aihwkit():
    """AIHWKIT's LAYER_GAUSSIAN on one tile whose columns are scaled: sigma of the weights on the tile, in tile units."""
    matrix = torch.randn(8, 16, generator=torch.Generator().manual_seed(1)) * torch.logspace(-2, 2, 8).unsqueeze(1)
    limits = spread_limit(matrix, HWASpec(weight_clip=None, weight_clip_column_sigma=1.5))
    largest = matrix.abs().amax(dim=1)
    on_tile = matrix / largest.unsqueeze(1)
    assert torch.allclose(limits, 1.5 * on_tile.std() * largest)
    layer = spread_limit(matrix, HWASpec(weight_clip=None, weight_clip_sigma=1.5))
    both = spread_limit(matrix, HWASpec(weight_clip=None, weight_clip_sigma=1.5, weight_clip_column_sigma=1.5))
    assert torch.allclose(both, torch.minimum(limits, layer))
    assert torch.isinf(spread_limit(torch.zeros(2, 3), HWASpec(weight_clip_column_sigma=1.0))).all()


# -------------------------------------------------------------------------------------------------------------- sparing


class Massive(nn.Module):
    """One large weight meets one large activation, as in the FFN outputs of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        with torch.no_grad():
            self.down.weight[3, 7] = 60 * self.down.weight.std()
            self.up.bias[7] = 8.0

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x))


@pytest.mark.parametrize("hwa", [{"weight_clip_sigma": 1.5}, {"weight_clip_column_sigma": 0.9}], ids=str)
def test_a_layer_whose_outputs_a_clip_would_change_is_not_clipped(hwa: dict[str, float]):
    model = convert_all_(Massive(), EXACT.replace(hwa=HWASpec(weight_clip_spares=True, **hwa)))
    before = {fqn: layer.matrix().detach().clone() for fqn, layer in analog_layers(model).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate_input_ranges_(model, lambda net: net(X))
    assert find_spared(model) == ("down",)
    clip_weights_(model)
    for fqn, layer in analog_layers(model).items():
        assert torch.equal(layer.matrix(), before[fqn]) == (fqn == "down")
    again = convert_all_(convert_to_digital_(model), EXACT.replace(hwa=HWASpec(weight_clip_spares=True, **hwa)))
    clip_weights_(again)
    assert find_spared(again) == ("down",)
    assert torch.equal(again.down.matrix(), before["down"])
    with torch.no_grad():
        again.down.weight.mul_(10)
    clip_weights_(again)  # a spared layer is still held at the largest weight of each column
    assert torch.allclose(again.down.matrix().abs().amax(1), before["down"].abs().amax(1), rtol=1e-5)


def test_a_large_noise_hides_the_change_by_a_clip():
    tile = EXACT.replace(output_noise=10.0, hwa=HWASpec(weight_clip_sigma=1.5, weight_clip_spares=True))
    model = convert_all_(Massive(), tile)
    calibrate_input_ranges_(model, lambda net: net(X))
    assert find_spared(model) == ()


def test_layers_are_clipped_without_the_setting():
    model = convert_all_(Massive(), EXACT.replace(hwa=HWASpec(weight_clip_sigma=1.5)))
    with pytest.warns(UserWarning, match="set weight_clip_spares=True"):
        calibrate_input_ranges_(model, lambda net: net(X))
    assert find_spared(model) == ()
