"""Digital weights and the range of a sample: exact products, gradients, saving, and all types of layers."""

import copy
from collections.abc import Callable

import pytest
import torch
from exact_tiles import one_layer, seeded
from torch import Tensor, nn

import lionheart
from lionheart.analog import (
    ColumnCalibration,
    analog_layers,
    calibrate_input_ranges_,
    clip_weights_,
    convert_to_analog_,
    convert_to_digital_,
    drift_chip_,
    program_chip_,
    set_tiles_,
)
from lionheart.analog.calibration import find_uncalibrated, measure_saturation
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.graph.layer_types import find_projections
from lionheart.mapping import LayerMapping, Placement

DAY = 86400.0
#: Converters only.
QUIET = TileSpec(
    device=DeviceSpec.ideal(),
    output_noise=0.0,
    drift_compensation="none",
    hwa=HWASpec(weight_noise=0.0, weight_clip=None),
)
FINE = QUIET.replace(dac_bits=24, adc_bits=24, output_bound=40.0)

pytestmark = pytest.mark.usefixtures("fixed_weights")

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(13, 7), (4, 13)),
    "linear, tokens": (lambda: nn.Linear(13, 7, bias=False), (2, 5, 13)),
    "linear, one vector": (lambda: nn.Linear(13, 7), (13,)),
    "conv2d": (lambda: nn.Conv2d(3, 5, 3, stride=2, padding=1), (2, 3, 7, 6)),
    "conv2d, no batch": (lambda: nn.Conv2d(3, 5, 3, bias=False), (3, 7, 6)),
    "conv2d, grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding="same"), (2, 4, 7, 6)),
    "conv2d, depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), (2, 4, 7, 6)),
    "conv2d, reflected": (lambda: nn.Conv2d(3, 5, (3, 1), padding=(1, 0), padding_mode="reflect"), (2, 3, 7, 6)),
    "conv1d": (lambda: nn.Conv1d(3, 5, 4, stride=3), (2, 3, 19)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, padding=1), (2, 2, 4, 3, 5)),
}
each_layer = pytest.mark.parametrize(("build", "shape"), LAYERS.values(), ids=LAYERS)


def without_largest(digital: nn.Module, n: int) -> tuple[nn.Module, nn.Module]:
    """Return a copy of `digital` without its `n` largest weights, and one with nothing but them."""
    rest, largest = copy.deepcopy(digital), copy.deepcopy(digital)
    flat = digital.weight.detach().abs().flatten()
    chosen = (flat >= flat.sort(descending=True).values[n - 1]).view_as(digital.weight)
    rest.weight.data.masked_fill_(chosen, 0.0)
    largest.weight.data.masked_fill_(~chosen, 0.0)
    largest.bias = None
    return rest, largest


# -- digital weights ---------------------------------------------------------------------------------------------------


@each_layer
@pytest.mark.parametrize("vectors", [False, True], ids=["static", "vectors"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_digital_weights_are_exact(
    build: Callable[[], nn.Module], shape: tuple[int, ...], vectors: bool, training: bool
):
    """Outputs are those of tiles without the largest weights, plus the exact products of these weights."""
    digital, x = build(), torch.randn(shape, generator=seeded()) * 2
    rest, largest = without_largest(digital, 3)
    tile = QUIET.replace(rows=8, cols=4, bound_management="iterative" if vectors else "none")
    layer = one_layer(digital, tile.replace(digital_weights=3), input_range=3.0).train(training)
    expected = one_layer(rest, tile, input_range=3.0).train(training)(x) + largest(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert (
        float((layer(x) - one_layer(digital, tile, input_range=3.0)(x)).detach().abs().max()) > 1e-3
    )  # steps and scales are others


@each_layer
@pytest.mark.parametrize("input_range", ["static", "sample"])
def test_digital_weights_train_too(build: Callable[[], nn.Module], shape: tuple[int, ...], input_range: str):
    digital, x = build(), torch.randn(shape, generator=seeded())
    layer = one_layer(digital, FINE.replace(digital_weights=4, input_range=input_range), 20.0).train()
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outs = [each(own) for each, own in zip((digital, layer), inputs, strict=True)]
    for out in outs:
        out.square().sum().backward()
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer.weight.grad, digital.weight.grad, rtol=1e-3, atol=1e-3)
    if digital.bias is not None:
        torch.testing.assert_close(layer.bias.grad, digital.bias.grad, rtol=1e-3, atol=1e-3)


def test_the_largest_weights_are_chosen_at_conversion_and_kept():
    digital = nn.Linear(6, 4)
    with torch.no_grad():
        digital.weight[2, 5], digital.weight[1, 0] = 9.0, -8.0
    layer = one_layer(digital, QUIET.replace(digital_weights=2), input_range=3.0)
    assert layer.analog_digital_places.tolist() == [[1, 2], [0, 5]]
    assert float(layer.analog_weight_bound.max()) < 1  # limits and scales do not count them
    with torch.no_grad():
        layer.weight[0, 0] = 20.0
    assert layer.analog_digital_places.tolist() == [[1, 2], [0, 5]]
    again = one_layer(nn.Linear(6, 4), QUIET.replace(digital_weights=2), input_range=3.0)
    again.load_state_dict(layer.state_dict())
    assert again.analog_digital_places.tolist() == [[1, 2], [0, 5]]
    x = torch.randn(3, 6, generator=seeded())
    assert torch.equal(again(x), layer(x))
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))


def test_digital_weights_of_a_digital_state_are_chosen_from_it():
    digital = nn.Linear(6, 4)
    with torch.no_grad():
        digital.weight[3, 2] = -7.0
    layer = one_layer(nn.Linear(6, 4), QUIET.replace(digital_weights=1), input_range=3.0)
    layer.load_state_dict(digital.state_dict())
    assert layer.analog_digital_places.tolist() == [[3], [2]]
    assert float(layer.analog_weight_bound.max()) < 1


def test_conversion_back_leaves_no_trace():
    model = nn.Sequential(nn.Linear(6, 4))
    names = set(model.state_dict())
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET.replace(digital_weights=2))
    assert "0.analog_digital_places" in model.state_dict()
    assert set(convert_to_digital_(model).state_dict()) == names
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET)
    assert "0.analog_digital_places" not in model.state_dict()


def test_all_weights_may_be_digital():
    digital, x = nn.Linear(3, 2), torch.randn(5, 3, generator=seeded())
    torch.testing.assert_close(
        one_layer(digital, TileSpec.pcm(digital_weights=99, output_noise=0.0), input_range=3.0)(x), digital(x)
    )


@pytest.mark.parametrize("clip", [{"weight_clip": 0.5}, {"weight_clip_sigma": 1.0, "weight_clip": None}], ids=str)
def test_clipping_spares_digital_weights(clip: dict[str, float | None]):
    digital = nn.Linear(40, 30)
    with torch.no_grad():
        digital.weight[4, 7] = 50 * digital.weight.std()
    model = nn.Sequential(digital)
    tile = QUIET.replace(digital_weights=1, hwa=HWASpec(weight_noise=0.0, **clip))
    before = digital.weight.detach().clone()
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    for _ in range(3):
        clip_weights_(model)
    after = model[0].weight.detach()
    assert after[4, 7] == before[4, 7]
    mask = torch.ones_like(before, dtype=torch.bool)
    mask[4, 7] = False
    spread = before.masked_fill(~mask, 0.0).std()
    limit = spread if "weight_clip_sigma" in clip else 0.5 * before[mask].abs().max()
    assert float(after[mask].abs().max()) == pytest.approx(float(limit), rel=0.01)


def test_an_outlier_hides_the_rest_of_its_column_unless_it_is_digital():
    digital = nn.Linear(64, 1, bias=False)
    with torch.no_grad():
        digital.weight[0, 3] = 200 * digital.weight.std()
    x = torch.randn(2000, 64, generator=seeded())
    errors = []
    for n in (0, 1):
        model = nn.Sequential(copy.deepcopy(digital))
        convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), TileSpec.pcm(digital_weights=n))
        calibrate_input_ranges_(model, lambda net: net(x))
        errors.append(float((model.eval()(x) - digital(x)).square().mean().detach()))
    assert errors[0] > 100 * errors[1]


@pytest.mark.parametrize("kind", ["offset", "affine"])
def test_columns_are_calibrated_without_the_exact_products(kind: str):
    """The correction is that of the tiles alone: an outlier's share does not dilute the gain, and is not multiplied by it."""
    digital = nn.Sequential(nn.Linear(20, 6))
    with torch.no_grad():
        digital[0].weight[:, 3] *= 30
    x = torch.randn(400, 20, generator=seeded()).add_(0.5)
    tile = TileSpec.pcm(output_noise=0.0, digital_weights=6, column_calibration=kind, drift_compensation="none")
    model = convert_to_analog_(copy.deepcopy(digital), LayerMapping({"0": Placement.ANALOG}), tile).eval()
    rest = without_largest(digital[0], 6)[0]
    twin = convert_to_analog_(
        nn.Sequential(rest), LayerMapping({"0": Placement.ANALOG}), tile.replace(digital_weights=0)
    )
    corrections = []
    for net in (model, twin.eval()):
        net[0].analog_input_range.fill_(3.0)
        columns = ColumnCalibration(net, lambda each: each(x))
        program_chip_(net, seeded())
        drift_chip_(net, 30 * DAY, seeded())
        columns.calibrate_()
        corrections.append(net[0].take_read().correction)
    for found, expected in zip(*corrections, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert kind == "offset" or float(corrections[0][0].min()) > 1.05  # drift is undone
    largest = without_largest(digital[0], 6)[1]
    torch.testing.assert_close(model(x), twin(x) + largest(x), rtol=1e-3, atol=1e-3)


def test_digital_weights_can_change_after_the_conversion():
    digital, x = nn.Linear(12, 5), torch.randn(9, 12, generator=seeded())
    model = nn.Sequential(copy.deepcopy(digital))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET)
    model[0].analog_input_range.fill_(3.0)
    for n in (4, 2, 0):
        set_tiles_(model.eval(), {"0": QUIET.replace(digital_weights=n)})
        assert torch.equal(model(x), one_layer(digital, QUIET.replace(digital_weights=n), input_range=3.0)(x))
    assert "0.analog_digital_places" not in model.state_dict()


# -- the range of a sample ---------------------------------------------------------------------------------------------


def samples_of(x: Tensor, digital: nn.Module) -> list[Tensor]:
    """Return the samples of the inputs: each image, or each token."""
    if isinstance(digital, nn.Linear):
        return list(x.reshape(-1, x.shape[-1]))
    return list(x) if x.ndim == digital.weight.ndim else [x]


@each_layer
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("vectors", [False, True], ids=["static", "vectors"])
def test_the_range_of_a_sample_is_its_largest_input(
    build: Callable[[], nn.Module], shape: tuple[int, ...], training: bool, vectors: bool
):
    digital = build()
    x = torch.randn(shape, generator=seeded())
    x = x * torch.linspace(0.1, 5, len(x)).view(-1, *[1] * (x.ndim - 1)) if x.ndim > 1 else x
    tile = QUIET.replace(rows=8, cols=4, bound_management="iterative" if vectors else "none")
    layer = one_layer(digital, tile.replace(input_range="sample"), 0.0).train(training)
    outputs = []
    for sample in samples_of(x, digital):
        outputs.append(one_layer(digital, tile, float(sample.abs().max()))(sample))
    expected = torch.stack(outputs).view_as(layer(x))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["linear, tokens", "conv2d", "conv2d, no batch"])
def test_samples_of_zeros_give_the_bias(name: str):
    build, shape = LAYERS[name]
    digital, x = build(), torch.zeros(shape)
    layer = one_layer(digital, QUIET.replace(input_range="sample"), 0.0)
    assert torch.equal(layer(x), digital(x))
    if name != "conv2d, no batch":
        assert torch.equal(layer(x[:0]), digital(x[:0]))


def test_noise_scales_with_the_sample():
    digital = nn.Linear(8, 3, bias=False)
    tile = TileSpec.ideal().replace(output_noise=0.06, input_range="sample")
    layer = one_layer(digital, tile, input_range=3.0)
    x = torch.rand(1, 8, generator=seeded()).expand(20_000, 8)
    spread = [layer(x * size).std(0) for size in (1.0, 5.0)]
    expected = 0.06 * digital.weight.detach().abs().amax(dim=1) * x.max()
    torch.testing.assert_close(spread[0], expected, rtol=0.04, atol=0)
    torch.testing.assert_close(spread[1] / spread[0], torch.full((3,), 5.0), rtol=0.05, atol=0)


def test_samples_need_no_calibration():
    model = nn.Sequential(nn.Linear(8, 3))
    tile = QUIET.replace(input_range="sample")
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    assert find_uncalibrated(model) == ()
    x = torch.rand(9, 8, generator=seeded())
    model.eval()(x)  # a guessed range would warn, and a warning is an error
    assert float(model[0].analog_input_range) == 0.0
    assert measure_saturation(model, lambda net: net(x * 1e6)) == {"0": 0.0}


def test_a_static_range_after_one_of_samples_is_the_calibrated_one():
    model = nn.Sequential(nn.Linear(8, 3))
    x = torch.rand(9, 8, generator=seeded())
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET.replace(input_range="sample"))
    model.eval()(x)
    set_tiles_(model, {"0": QUIET})
    assert find_uncalibrated(model) == ("0",)


# -- other layers ------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.recurrent = kind(8, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrent(x)[0]


class OwnLinear(nn.Linear):
    """A forward of its own, whose product a wrapper computes on tiles."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight.t() + self.bias)


class OwnConv(nn.Conv2d):
    """The same of a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(super().forward(x))


OTHERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "attention": (Attention, (3, 5, 8)),
    "lstm": (lambda: Recurrent(nn.LSTM), (3, 5, 8)),
    "gru": (lambda: Recurrent(nn.GRU), (3, 5, 8)),
    "own forward": (lambda: nn.Sequential(OwnLinear(8, 5)), (3, 5, 8)),
    "own convolution": (lambda: nn.Sequential(OwnConv(3, 4, 3)), (2, 3, 6, 5)),
    "transposed convolution": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2)), (2, 3, 4, 5)),
}
POLICIES = {
    "copies": {"n_reads": 2, "row_copies": 3, "column_copies": 2, "device_pairs": 2},
    "digital weights": {"digital_weights": 4},
    "sample": {"input_range": "sample"},
    "all": {
        "n_reads": 2,
        "row_copies": 3,
        "column_copies": 2,
        "device_pairs": 2,
        "digital_weights": 4,
        "input_range": "sample",
    },
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize(("build", "shape"), OTHERS.values(), ids=OTHERS)
def test_policies_hold_for_all_layers(
    build: Callable[[], nn.Module], shape: tuple[int, ...], policy: dict[str, int | str]
):
    digital, x = build(), torch.randn(shape, generator=seeded())
    names = [each.fqn for each in find_projections(digital)]
    model = copy.deepcopy(digital)
    convert_to_analog_(model, LayerMapping(dict.fromkeys(names, Placement.ANALOG)), FINE.replace(**policy))
    layers = analog_layers(model)
    assert sorted(layers) == sorted(names)
    for layer in layers.values():
        layer.analog_input_range.detach().fill_(8.0)
    torch.testing.assert_close(model.eval()(x), digital(x), rtol=1e-3, atol=1e-3)
    program_chip_(model, seeded())
    drift_chip_(model, DAY, seeded())
    torch.testing.assert_close(model(x), digital(x), rtol=1e-3, atol=1e-3)
    for net in (model.train(), digital):
        net(x).square().sum().backward()
    for (name, found), expected in zip(model.named_parameters(), digital.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-2, msg=name)
    if "digital_weights" in policy:
        assert all(layer.analog_digital_places.shape == (2, 4) for layer in layers.values())
        again = copy.deepcopy(digital)
        convert_to_analog_(again, LayerMapping(dict.fromkeys(names, Placement.ANALOG)), FINE.replace(**policy))
        again.load_state_dict(model.state_dict())
        torch.testing.assert_close(again.eval()(x), digital(x), rtol=1e-3, atol=1e-3)


def test_calibration_names_the_layers_that_need_none():
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))
    lionheart.convert_to_analog_(model, QUIET)
    set_tiles_(model, {"1": QUIET.replace(input_range="sample")})
    found = lionheart.calibrate_(model, [(torch.rand(9, 8, generator=seeded()), torch.zeros(9))])
    assert (list(found.ranges), found.dynamic, found.sample) == (["0"], (), ("1",))
    assert "sample" in str(found)
