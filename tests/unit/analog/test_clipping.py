"""Limits of weights in training: fixed once, following loaded weights, never touching frozen ones."""

import copy
import warnings

import pytest
import torch
from exact_tiles import convert_all_
from torch import Tensor, nn

from lionheart.analog import (
    analog_layers,
    calibrate_input_ranges_,
    clip_weights_,
    convert_to_digital_,
)
from lionheart.analog.clipping import spread_limit
from lionheart.devices import HWASpec, TileSpec
from lionheart.errors import CalibrationWarning

EXACT = TileSpec.ideal(32, 32)
X = torch.randn(64, 32, generator=torch.Generator().manual_seed(12))
#: Every setting that limits weights.
CLIPS = {
    "bound": {"weight_clip": 0.5},
    "sigma": {"weight_clip_sigma": 1.5},
    "wide sigma": {"weight_clip_sigma": 1.6},
    "average": {"weight_clip_average": 0.8},
    "column sigma": {"weight_clip_column_sigma": 1.3},
    "all": {"weight_clip": 0.9, "weight_clip_sigma": 1.5, "weight_clip_average": 0.8},
}


pytestmark = pytest.mark.usefixtures("fixed_weights")


def clipping(name: str, tile: TileSpec = EXACT) -> TileSpec:
    return tile.replace(hwa=HWASpec(**{"weight_noise": 0.0, "weight_clip": None, **CLIPS[name]}))


class Everything(nn.Module):
    """A layer of each way in which weights are held."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(32, 32), nn.Conv1d(32, 32, 1)
        self.transposed, self.attention = nn.ConvTranspose1d(32, 32, 1), nn.MultiheadAttention(32, 2, batch_first=True)
        self.gru = nn.GRU(32, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transposed(self.conv(self.linear(x).unsqueeze(-1))).transpose(1, 2)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.gru(x)[0]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {fqn: layer.matrix().detach().clone() for fqn, layer in analog_layers(model).items()}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in found if not torch.equal(found[name], expected[name])]
    assert not different


# -- bug case 41, faults A15: the limit was taken anew from clipped weights, and shrank --------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_a_thousand_steps_of_no_learning_leave_what_the_first_clip_left(name: str):
    model = convert_all_(Everything(), clipping(name))
    before = weights_of(model)
    clip_weights_(model)
    once = weights_of(model)
    assert all(float((once[fqn] - before[fqn]).abs().max()) > 0 for fqn in once)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    model(X).sum().backward()
    for _ in range(1000):
        optimizer.step()
        clip_weights_(model)
    assert_equal(weights_of(model), once)


@pytest.mark.parametrize("name", CLIPS)
def test_conversions_back_and_forth_leave_what_the_first_clip_left(name: str):
    model = convert_all_(Everything(), clipping(name))
    clip_weights_(model)
    once = weights_of(model)
    for _ in range(5):
        model = copy.deepcopy(convert_to_digital_(model))
        clip_weights_(convert_all_(model, clipping(name)))
    assert_equal(weights_of(model), once)


@pytest.mark.parametrize("name", CLIPS)
def test_limits_are_saved_with_the_weights(name: str):
    """A training that goes on from a file clips as the one that was killed."""
    model = convert_all_(Everything(), clipping(name))
    clip_weights_(model)
    stored = copy.deepcopy(model.state_dict())
    twin = convert_all_(Everything(), clipping(name))
    twin.load_state_dict(stored)
    for each in (model, twin):
        with torch.no_grad():
            for parameter in each.parameters():
                parameter.mul_(10)
        clip_weights_(each)
    assert_equal(weights_of(twin), weights_of(model))


def test_weights_of_zero_may_learn():
    """The B matrix of LoRA starts at zero: its spread then is no limit."""
    model = nn.Sequential(nn.Linear(8, 8))
    nn.init.zeros_(model[0].weight)
    convert_all_(model, clipping("all"))
    with torch.no_grad():
        model[0].weight.add_(0.1)
    clip_weights_(model)
    assert torch.equal(model[0].weight, torch.full((8, 8), 0.1))
    assert float(spread_limit(torch.ones(1, 1), HWASpec(weight_clip_sigma=1.0))) == float(
        "inf"
    )  # one weight: no spread


# -- bug case 20: bounds of the weights at conversion cut those that are loaded later ----------------------------------


@pytest.mark.parametrize("factor", [10.0, 0.1])
@pytest.mark.parametrize("name", CLIPS)
def test_limits_follow_weights_that_are_loaded(name: str, factor: float):
    digital = Everything()
    expected = convert_all_(copy.deepcopy(digital), clipping(name))
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter.mul_(factor)
    fresh = convert_all_(convert_to_digital_(copy.deepcopy(expected)), clipping(name))
    model = convert_all_(digital, clipping(name))
    model.load_state_dict(convert_to_digital_(expected).state_dict())
    for each in (model, fresh):
        clip_weights_(each)
    assert_equal(weights_of(model), weights_of(fresh))


def test_limits_stay_where_only_other_things_are_loaded():
    model = convert_all_(Everything(), clipping("all"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    limits = {name: each.clone() for name, each in model.named_buffers() if "analog" in name}
    model.load_state_dict({"linear.bias": model.linear.bias}, strict=False)
    assert_equal({name: each for name, each in model.named_buffers() if "analog" in name}, limits)


def test_states_of_other_settings_can_be_loaded():
    """A run without clipping by the spread has no limit in its files, and one with it has."""
    plain, clipped = convert_all_(Everything(), EXACT), convert_all_(Everything(), clipping("sigma"))
    plain.load_state_dict(clipped.state_dict())
    clipped.load_state_dict(plain.state_dict())
    assert all(torch.isfinite(layer.analog_weight_limit) for layer in analog_layers(clipped).values())


# -- bug case 14: frozen weights were clipped --------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIPS)
def test_frozen_weights_stay_bit_for_bit(name: str):
    model = Everything()
    frozen = ("linear.weight", "conv.weight", "attention.in_proj_weight", "gru.weight_hh_l0", "transposed.weight")
    for each in frozen:
        model.get_parameter(each).requires_grad_(False)
    before, flags = copy.deepcopy(model.state_dict()), {n: p.requires_grad for n, p in model.named_parameters()}
    convert_all_(model, clipping(name))
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    clip_weights_(model)
    changed = {n for n, each in before.items() if not torch.equal(model.state_dict()[n], each)}
    assert changed == {"attention.out_proj.weight", "gru.weight_ih_l0"}
    model.load_state_dict(model.state_dict())
    convert_to_digital_(model)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert all(torch.equal(model.state_dict()[each], before[each]) for each in frozen)


def test_a_weight_that_is_frozen_later_is_clipped_no_more():
    model = convert_all_(nn.Sequential(nn.Linear(32, 32)), clipping("sigma"))
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    clip_weights_(model)
    assert torch.equal(model[0].weight, before)
    model[0].weight.requires_grad_(True)
    clip_weights_(model)
    assert not torch.equal(model[0].weight, before)


# -- bug case 38: clipping away most of a layer's output was not said --------------------------------------------------


class Massive(nn.Module):
    """One large weight meets one large activation, as transformers have them."""

    def __init__(self, kind: str = "linear") -> None:
        super().__init__()
        self.up = nn.Linear(32, 64)
        self.down: nn.Module = nn.Linear(64, 32) if kind == "linear" else nn.Conv1d(64, 32, 1)
        with torch.no_grad():
            self.down.weight[3, 7] = 60 * self.down.weight.std()
            self.up.bias[7] = 8.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        return self.down(x) if isinstance(self.down, nn.Linear) else self.down(x.unsqueeze(-1))


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("name", ["sigma", "wide sigma"])
def test_clipping_away_most_of_a_layer_is_said_once(name: str, kind: str):
    model = convert_all_(Massive(kind), clipping(name))
    with pytest.warns(
        CalibrationWarning, match=r"^down: clipping the weights .* changes the outputs by [4-9]\d%"
    ) as said:
        calibrate_input_ranges_(model, lambda net: net(X))
    assert not [each for each in said if "up:" in str(each.message)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate_input_ranges_(model, lambda net: net(X), ["down"])
        calibrate_input_ranges_(convert_all_(convert_to_digital_(model), clipping(name)), lambda net: net(X))


def test_clipping_the_tails_of_gaussian_weights_or_frozen_ones_needs_no_word():
    gaussian, frozen = nn.Sequential(nn.Linear(32, 32)), Massive()
    nn.init.normal_(gaussian[0].weight)
    frozen.down.weight.requires_grad_(False)
    for model in (gaussian, frozen):
        convert_all_(model, clipping("sigma"))
        calibrate_input_ranges_(model, lambda net: net(X))  # a warning is an error here
