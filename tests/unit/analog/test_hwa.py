"""Hardware-aware training, setting by setting: what a step computes with, what its gradients are, what eval() leaves out."""

import contextlib
import copy
import gc
import math
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from lionheart.analog import (
    AnalogLayer,
    analog_layers,
    clip_weights_,
    convert_to_analog_,
    drift_chip_,
    program_chip_,
    seed_noise_,
)
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.mapping import LayerMapping, Placement

HOUR, DAY = 3600.0, 86400.0
KINDS = ["additive", "multiplicative", "programming", "device"]
#: Every device has the exponent 0.06 and nothing else happens.
COMMON_NU = DeviceSpec(
    programming_noise_scale=0.0,
    read_noise_scale=0.0,
    drift_nu_mean=(0.0, 0.06, 0.06, 0.06),
    drift_nu_sigma=(0.0, 0.0, 0.0, 0.0),
)
#: The exponent falls as the conductance grows, and nothing else happens.
NU_OF_G = DeviceSpec(
    programming_noise_scale=0.0,
    read_noise_scale=0.0,
    drift_nu_mean=(-0.05, 0.02, 0.0, 0.5),
    drift_nu_sigma=(0.0, 0.0, 0.0, 0.0),
)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _fixed_weights() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(23)
        yield


def on_tiles(model: nn.Module, tile: TileSpec, input_range: float = 1.0) -> nn.Module:
    """Put every layer that has a weight matrix on tiles, in ``train()``."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    convert_to_analog_(model, LayerMapping(dict.fromkeys(names, Placement.ANALOG)), tile, generator=seeded(77))
    for layer in analog_layers(model).values():
        layer.analog_input_range.data.fill_(input_range)
    return model.train()


def one_layer(digital: nn.Module, tile: TileSpec, input_range: float = 1.0) -> AnalogLayer:
    """Return a copy of `digital` on tiles, in ``train()``."""
    layer = on_tiles(nn.Sequential(copy.deepcopy(digital)), tile, input_range)[0]
    assert isinstance(layer, AnalogLayer)
    return layer


def hwa_tile(rows: int = 512, cols: int = 512, **settings: object) -> TileSpec:
    """Return a tile that is exact but for HWA settings that change weights; by default none."""
    quiet = {"weight_noise": 0.0, "weight_clip": None, "output_noise": False, "converters": False}
    return TileSpec.ideal(rows, cols).replace(device=DeviceSpec(), hwa=HWASpec(**{**quiet, **settings}))


def one_hot(layer: nn.Module) -> Tensor:
    """Return one input after another at 1, all others 0, as the only patch of a convolution."""
    if isinstance(layer, nn.Linear) or not hasattr(layer, "kernel_size"):
        return torch.eye(layer.in_features, dtype=layer.weight.dtype)
    n = layer.in_channels * math.prod(layer.kernel_size)
    return torch.eye(n, dtype=layer.weight.dtype).view(n, layer.in_channels, *layer.kernel_size)


@torch.no_grad()
def used_weights(layer: AnalogLayer) -> Tensor:
    """Return the weights ``(out, in)`` that one pass computes with; of groups only the group's own."""
    out = layer(one_hot(layer)).flatten(1).T
    out = out if layer.bias is None else out - layer.bias.unsqueeze(1)
    groups = getattr(layer, "groups", 1)
    blocks = out.view(groups, len(out) // groups, groups, -1)
    return torch.cat([blocks[group, :, group] for group in range(groups)])


def column_max(weights: Tensor) -> Tensor:
    return weights.detach().flatten(1).abs().amax(1, keepdim=True)


def relative_error(got: Tensor, expected: Tensor) -> float:
    assert got.shape == expected.shape
    return float((got - expected).detach().double().abs().max() / expected.detach().double().abs().max())


def from_one_distribution(one: Tensor, other: Tensor) -> bool:
    return bool(stats.ks_2samp(one.flatten().double().numpy(), other.flatten().double().numpy()).pvalue > 1e-3)


def is_sigma(samples: Tensor, sigma: float) -> bool:
    """Return whether a standard deviation is `sigma` within 4 standard errors."""
    return abs(float(samples.double().std()) / sigma - 1) < 4 / math.sqrt(2 * samples.numel())


def wide_linear() -> nn.Linear:
    """Return 40 000 weights in columns of very different size."""
    linear = nn.Linear(200, 200, bias=False)
    linear.weight.data *= torch.logspace(-1, 1, 200).unsqueeze(1)
    return linear


# -- drop connect -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_drop_connect_zeroes_its_share_anew_in_every_step(share: float):
    linear = wide_linear()
    layer = one_layer(linear, hwa_tile(60, 50, drop_connect=share))
    first, second = used_weights(layer) == 0, used_weights(layer) == 0
    n, sigma = first.numel(), math.sqrt(share * (1 - share))
    for zeros in (first, second):
        assert float(zeros.double().mean()) == pytest.approx(share, abs=4 * sigma / math.sqrt(n))
        for axis in (0, 1):  # one weight after another, not whole rows or columns
            assert float(zeros.double().mean(axis).std()) == pytest.approx(sigma / math.sqrt(200), rel=0.25)
    both = float((first & second).double().mean())
    assert both == pytest.approx(share**2, abs=4 * share / math.sqrt(n))
    weights = used_weights(layer)
    kept = weights != 0
    torch.testing.assert_close(weights[kept], linear.weight.detach()[kept], rtol=1e-6, atol=0)  # and not scaled up
    torch.testing.assert_close(used_weights(layer.eval()), linear.weight.detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_drop_connect_comes_after_the_noise(kind: str):
    layer = one_layer(wide_linear(), hwa_tile(weight_noise=0.1, weight_noise_kind=kind, drop_connect=0.3))
    zeros = float((used_weights(layer) == 0).double().mean())
    assert zeros == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 40_000) + 1e-3)  # the device reads a few as exactly 0


def test_gradient_of_inputs_is_of_the_weights_that_were_used():
    layer = one_layer(nn.Linear(20, 8, bias=False), hwa_tile(7, 3, weight_noise=0.1, drop_connect=0.3))
    x = torch.eye(20).requires_grad_()
    upstream = torch.randn(20, 8)
    out = layer(x)
    out.backward(upstream)
    assert (out == 0).any()
    assert relative_error(x.grad, upstream @ out.detach().T) < 1e-6
    assert relative_error(layer.weight.grad, upstream.T @ x.detach()) < 1e-6  # a dropped weight goes on learning


# -- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remap", [True, False])
@pytest.mark.parametrize("n_levels", [3, 15, 255])
def test_weights_are_rounded_to_the_nearest_level_of_their_column(n_levels: int, remap: bool):
    linear = wide_linear()
    layer = one_layer(linear, hwa_tile(weight_levels=n_levels, remap=remap))
    exact, largest = linear.weight.detach(), column_max(linear.weight)
    used = used_weights(layer)
    levels = torch.linspace(-1, 1, n_levels).expand(200, -1) * largest
    distance = (used.unsqueeze(-1) - levels.unsqueeze(1)).abs().amin(-1)
    assert float((distance / largest).max()) < 1e-6
    assert float(((used - exact).abs() / largest).max()) <= 1 / (n_levels - 1) + 1e-6
    if n_levels < 100:  # more weights than levels
        assert all(len(row.unique()) == n_levels for row in (used / largest * (n_levels - 1) / 2).round())
    torch.testing.assert_close(used_weights(layer.eval()), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_levels", [4, 6, 16])
def test_even_numbers_of_levels_are_kept(n_levels: int):
    linear = nn.Linear(1000, 2, bias=False)
    used = used_weights(one_layer(linear, hwa_tile(1000, weight_levels=n_levels)))
    assert [len((row * 1e4).round().unique()) for row in used] == [n_levels, n_levels]
    torch.testing.assert_close(column_max(used), column_max(linear.weight))


def test_gradients_pass_rounded_weights_straight_through():
    layer = one_layer(nn.Linear(20, 8, bias=False), hwa_tile(weight_levels=5))
    x, upstream = torch.randn(30, 20, requires_grad=True), torch.randn(30, 8)
    layer(x).backward(upstream)
    assert relative_error(layer.weight.grad, upstream.T @ x.detach()) < 1e-6
    assert relative_error(x.grad, upstream @ used_weights(layer)) < 1e-5
    assert relative_error(x.grad, upstream @ layer.weight) > 0.01


# -- kinds of weight noise --------------------------------------------------------------------------------------------

CONV = (lambda: nn.Conv2d(24, 60, 3), 216)
GROUPED = (lambda: nn.Conv2d(24, 120, 3, groups=4), 54)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize(("build", "n_rows"), [CONV, GROUPED], ids=["convolution", "grouped"])
@pytest.mark.parametrize("rows", [512, 40])
def test_weight_noise_of_convolutions_has_its_sigma(build: Callable[[], nn.Conv2d], n_rows: int, kind: str, rows: int):
    conv = build()
    conv.weight.data *= torch.logspace(-1, 1, len(conv.weight)).view(-1, 1, 1, 1)
    layer = one_layer(conv, hwa_tile(rows, weight_noise=0.05, weight_noise_kind=kind))
    exact = conv.weight.detach().flatten(1)
    n_pieces = math.ceil(n_rows / rows)
    scales = torch.cat([column_max(part).expand_as(part) for part in exact.tensor_split(n_pieces, dim=1)], 1)
    drawn = used_weights(layer) - exact
    unit = exact.abs() if kind == "multiplicative" else scales
    large = exact.abs() > 0.05 * scales
    assert is_sigma((drawn / unit)[large], 0.05)
    other = scales if kind == "multiplicative" else exact.abs()
    assert not is_sigma((drawn / other)[large], 0.05)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_programming_noise_is_that_of_the_device(share: float):
    """At 25 µS x share: sigma = 0.26348 + 1.965 share - 1.1731 share^2 µS, and the idle device adds |N| 0.26348 µS."""
    linear = nn.Linear(200, 200, bias=False)
    linear.weight.data = torch.randn(200, 200).sign() * 3.0
    linear.weight.data[:, 1:] *= share
    layer = one_layer(linear, hwa_tile(weight_noise=0.0, weight_noise_kind="programming"))
    drawn = (used_weights(layer) / linear.weight.detach().sign())[:, 1:] * 25 / 3 - 25 * share
    idle = 0.26348**2 * (0.5 - 0.5 / math.pi)  # half a normal distribution, the other half at 0
    assert is_sigma(drawn, math.sqrt((0.26348 + 1.965 * share - 1.1731 * share**2) ** 2 + idle))
    assert float(drawn.mean()) == pytest.approx(-0.26348 / math.sqrt(2 * math.pi), abs=4 * 1.1 / 200)


def test_device_noise_is_programming_noise_and_a_read():
    """One second after programming a device at g_max reads with sigma = 0.0088 sqrt(ln(21 s / 0.5 µs)), relative."""
    linear = nn.Linear(200, 200, bias=False)
    linear.weight.data = torch.randn(200, 200).sign()
    device = DeviceSpec(drift_nu_mean=(0.0, 0.0, 0.0, 0.0), drift_nu_sigma=(0.0, 0.0, 0.0, 0.0))
    for scale in (0.0, 0.05):
        noisy = device.replace(programming_noise_scale=scale)
        tile = hwa_tile(weight_noise_kind="device", t_longest=1.0).replace(device=noisy)
        drawn = used_weights(one_layer(linear, tile)) / linear.weight.detach() - 1
        sigma = math.hypot(0.0088 * math.sqrt(math.log(21 / 5e-7)), scale * 1.05538 / 25)
        assert float(drawn.std()) == pytest.approx(sigma, rel=0.02)
        assert float(drawn.mean()) == pytest.approx(0, abs=4 * sigma / 200 + scale * 0.11 / 25)


def test_device_noise_ages_chips_log_uniformly():
    tile = hwa_tile(weight_noise_kind="device", t_longest=DAY).replace(device=COMMON_NU)
    layer = one_layer(nn.Linear(1, 1, bias=False), tile)
    factors = torch.stack([used_weights(layer) for _ in range(400)]).flatten() / layer.weight.item()
    ages = 20 * factors.double() ** (-1 / 0.06) - 20
    shares = ages.log() / math.log(DAY)
    assert stats.kstest(shares.numpy(), "uniform").pvalue > 0.01
    assert stats.kstest((shares * 1.15).numpy(), "uniform").pvalue < 1e-3
    for compensation in ("global", "per_column"):  # the same drift everywhere is all taken back
        compensated = one_layer(nn.Linear(6, 4), tile.replace(drift_compensation=compensation))
        assert relative_error(used_weights(compensated), compensated.weight) < 1e-5


def test_device_noise_is_compensated_as_the_tile_says():
    linear = nn.Linear(6, 4, bias=False)
    errors = {}
    for compensation in ("none", "global", "per_column"):
        hwa = {"weight_noise_kind": "device", "remap": False}
        tile = hwa_tile(**hwa).replace(device=NU_OF_G, drift_compensation=compensation)
        layer = one_layer(linear, tile)
        layer.weight.data.copy_(torch.tensor([1.0, 0.5, 0.2, 0.1]).unsqueeze(1) * column_max(linear.weight))
        ratio = used_weights(layer) / layer.weight.detach()
        errors[compensation] = float((ratio - 1).abs().max())
        mean = float((ratio * torch.tensor([[1.0], [0.5], [0.2], [0.1]])).mean() / 0.45)
        assert (abs(mean - 1) < 1e-5) == (compensation != "none")
    assert errors["per_column"] < 1e-5
    assert errors["global"] > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [lambda: nn.Linear(30, 20), lambda: nn.Conv2d(8, 8, 3, groups=4)])
def test_weight_noise_is_fresh_seeded_and_absent_in_eval(build: Callable[[], nn.Module], kind: str):
    layer = one_layer(build(), hwa_tile(9, 5, weight_noise=0.1, weight_noise_kind=kind, t_longest=1.0))
    draws = []
    for seed in (4, 4, 5):
        seed_noise_(layer, seeded(seed))
        draws.append(used_weights(layer))
    again = used_weights(layer)
    assert torch.equal(draws[0], draws[1])
    exact = layer.weight.detach().flatten(1)
    noise = torch.stack([(each - exact).flatten() for each in (draws[0], draws[2], again)])
    assert float(torch.corrcoef(noise).fill_diagonal_(0).abs().max()) < 0.3
    assert (noise.std(1) > 1e-3 * exact.std()).all()
    torch.testing.assert_close(used_weights(layer.eval()), exact, rtol=1e-5, atol=1e-7)


# -- clipping ---------------------------------------------------------------------------------------------------------


def test_weights_are_clipped_to_the_mean_of_column_maxima():
    linear = wide_linear()
    layer = one_layer(linear, hwa_tile(weight_clip_average=0.7))
    exact = linear.weight.detach()
    limit = 0.7 * float(column_max(exact).mean())
    clip_weights_(layer)
    torch.testing.assert_close(layer.weight.detach(), exact.clamp(-limit, limit))
    assert not torch.equal(layer.weight, exact)


@pytest.mark.parametrize("tightest", ["weight_clip", "weight_clip_sigma", "weight_clip_average"])
def test_of_several_clips_the_tightest_holds(tightest: str):
    conv = nn.Conv2d(4, 6, 3, groups=2)
    settings = {"weight_clip": 50.0, "weight_clip_sigma": 50.0, "weight_clip_average": 50.0, tightest: 0.5}
    both, alone = one_layer(conv, hwa_tile(**settings)), one_layer(conv, hwa_tile(**{tightest: 0.5}))
    for layer in (both, alone):
        clip_weights_(layer)
    assert torch.equal(both.weight, alone.weight)
    assert (both.weight.abs() < conv.weight.abs()).double().mean() > 0.1


def test_clipping_leaves_biases_and_digital_layers_alone():
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), hwa_tile(weight_clip=1.0))
    bound = column_max(model[0].weight)
    model.get_parameter("0.weight").data.mul_(3)
    before = copy.deepcopy(model.state_dict())
    clip_weights_(model)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["0.weight"]
    assert torch.equal(column_max(model[0].weight), bound)
    twin = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    convert_to_analog_(twin, LayerMapping({"0": Placement.ANALOG}), hwa_tile(weight_clip=1.0))
    twin.load_state_dict(before)  # and the bound of the conversion is part of the state
    clip_weights_(twin)
    assert torch.equal(twin[0].weight, model[0].weight)


def test_a_column_of_zeros_can_learn():
    linear = nn.Linear(6, 4)
    linear.weight.data[1] = 0
    layer = one_layer(linear, hwa_tile(weight_clip=1.0))
    layer.weight.data[1] = 0.1
    clip_weights_(layer)
    assert torch.equal(layer.weight[1], torch.full((6,), 0.1))


# -- remap ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remap", [True, False])
def test_scales_follow_the_weights_only_with_remap(remap: bool):
    linear = nn.Linear(200, 200, bias=False)
    layer = one_layer(linear, hwa_tile(weight_noise=0.05, weight_noise_kind="additive", remap=remap))
    factor = torch.logspace(-0.5, 0.5, 200).unsqueeze(1)
    layer.weight.data.mul_(factor)
    noise = (used_weights(layer) - layer.weight.detach()) / column_max(linear.weight)
    scale = factor if remap else torch.ones_like(factor)
    assert is_sigma(noise / scale, 0.05)
    assert not is_sigma(noise / (1.1 * factor if remap else factor), 0.05)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("remap", [True, False])
def test_steps_and_noise_of_the_adc_follow_the_scale(remap: bool, training: bool):
    linear = nn.Linear(6, 3, bias=False)
    hwa = HWASpec(weight_noise=0.0, weight_clip=None, remap=remap)
    tile = TileSpec.ideal().replace(adc_bits=8, output_bound=12.0, output_noise=0.5, hwa=hwa)
    layer = one_layer(linear, tile).train(training)
    layer.weight.data.mul_(0.25)
    y = layer(torch.randn(2000, 6)).detach()
    step = 12 / 127 * column_max(layer.weight if remap else linear.weight).T
    assert float((y / step - (y / step).round()).abs().max()) < 1e-3
    assert ((y / step).round() % 4 != 0).any()


@pytest.mark.parametrize("remap", [True, False])
def test_a_chip_is_programmed_from_weights_beyond_the_scale(remap: bool):
    linear = nn.Linear(8, 5)
    layer = one_layer(linear, hwa_tile(remap=remap, weight_clip=None).replace(device=COMMON_NU)).eval()
    layer.weight.data.mul_(torch.tensor([0.1, 0.5, 1.0, 3.0, 10.0]).unsqueeze(1))
    program_chip_(layer, seeded())
    drift_chip_(layer, 0.0, seeded())
    assert relative_error(used_weights(layer), layer.weight) < 1e-5


# -- learned input range ----------------------------------------------------------------------------------------------

#: So fine that differences of outputs show no steps.
LEARNED = TileSpec.ideal(512, 512).replace(dac_bits=24, input_range="learned", hwa=HWASpec(weight_noise=0.0))
RANGED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 5), (30, 12)),
    "linear 3D": (lambda: nn.Linear(12, 5), (5, 6, 12)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (3, 4, 11)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), (3, 4, 6, 5)),
    "conv2d reflect": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (3, 4, 6, 5)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4), (3, 4, 6, 5)),
}


@pytest.mark.parametrize("managed", [False, True], ids=["", "bound management"])
@pytest.mark.parametrize("size", [(512, 512), (5, 3)])
@pytest.mark.parametrize("name", RANGED)
def test_gradient_of_a_learned_range_is_the_difference_quotient(name: str, size: tuple[int, int], managed: bool):
    build, shape = RANGED[name]
    tile = LEARNED.replace(rows=size[0], cols=size[1])
    if managed:  # some vectors are read again
        tile = tile.replace(output_bound=2.0, bound_management="iterative")
    layer = one_layer(build().double(), tile, input_range=0.8)
    x = torch.randn(shape, dtype=torch.float64)
    x = torch.where((x.abs() - 0.8).abs() < 0.01, 0.9 * x, x)  # none at the edge
    upstream = torch.randn(layer(x).shape, dtype=torch.float64)
    layer(x).backward(upstream)

    @torch.no_grad()
    def loss(input_range: float) -> float:
        layer.analog_input_range.fill_(input_range)
        return float((layer(x) * upstream).sum())

    quotient = (loss(0.8 + 1e-3) - loss(0.8 - 1e-3)) / 2e-3
    assert abs(quotient) > 0.1
    assert float(layer.analog_input_range.grad) == pytest.approx(quotient, rel=5e-3)


def test_gradient_of_a_learned_range_by_hand():
    """``y = 2 a - 3 b`` with ``a`` clipped above, ``b`` below and ``c`` not: dy/dr = 2 + 3."""
    linear = nn.Linear(3, 1, bias=False)
    linear.weight.data = torch.tensor([[2.0, -3.0, 1.0]])
    layer = one_layer(linear, LEARNED.replace(dac_bits=8))
    layer(torch.tensor([[1.5, -4.0, 0.3]])).sum().backward()
    assert float(layer.analog_input_range.grad) == pytest.approx(5.0)
    layer.zero_grad()
    layer(torch.tensor([[0.5, -0.4, 0.3]])).sum().backward()
    assert float(layer.analog_input_range.grad) == 0  # nothing is clipped


def test_a_learned_range_moves_to_where_it_serves_and_is_kept():
    model = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    tile = LEARNED.replace(dac_bits=8, adc_bits=8, output_bound=12.0)
    x = torch.randn(60, 12)
    target = model(x).detach()
    on_tiles(model, tile, input_range=0.3)
    ranges = [layer.analog_input_range for layer in analog_layers(model).values()]
    assert {id(each) for each in ranges} <= {id(each) for each in model.parameters()}
    optimizer = torch.optim.SGD(ranges, lr=0.5)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(each.item() > 0.4 for each in ranges)
    twin = nn.Sequential(nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))
    on_tiles(twin, tile, input_range=9.0).load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(x), model.eval()(x))
    assert [layer.analog_input_range for layer in analog_layers(twin).values()] == ranges


# -- programmed anew --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", [HOUR, 7 * HOUR])
@pytest.mark.parametrize("n_periods", [0, 1, 5])
@pytest.mark.parametrize("since", [0.0, 100.0, 3000.0])
def test_age_counts_from_the_last_programming(period: float, n_periods: int, since: float):
    tile = TileSpec.ideal().replace(device=COMMON_NU, reprogram_after=period)
    layer = one_layer(nn.Linear(8, 5), tile).eval()
    program_chip_(layer, seeded())
    drift_chip_(layer, n_periods * period + since, seeded())
    factor = ((since + 20) / 20) ** -0.06
    assert relative_error(used_weights(layer), factor * layer.weight) < 1e-5


@pytest.mark.parametrize("compensation", ["none", "global"])
def test_a_chip_programmed_anew_has_the_statistics_of_a_young_chip(compensation: str):
    linear = nn.Linear(200, 200, bias=False)
    young = TileSpec.ideal(512, 512).replace(device=DeviceSpec(), drift_compensation=compensation)
    noise = {}
    for name, tile, t_inference in (
        ("renewed", young.replace(reprogram_after=DAY), 3 * DAY + 60),
        ("young", young, 60.0),
        ("old", young, 3 * DAY + 60),
    ):
        layer = one_layer(linear, tile).eval()
        program_chip_(layer, seeded(3))
        drift_chip_(layer, t_inference, seeded(5))
        noise[name] = used_weights(layer) - linear.weight.detach()
    assert from_one_distribution(noise["renewed"], noise["young"])
    assert not from_one_distribution(noise["old"], noise["young"])


def test_every_period_has_one_chip():
    device = DeviceSpec(read_noise_scale=0.0, drift_scale=0.0)
    layer = one_layer(nn.Linear(30, 20), TileSpec.ideal().replace(device=device, reprogram_after=DAY)).eval()
    program_chip_(layer, seeded())
    generator, chips = seeded(2), []
    for t_inference in (0.0, 0.9 * DAY, DAY, 1.9 * DAY, 4 * DAY, 4.5 * DAY):
        drift_chip_(layer, t_inference, generator)
        chips.append(used_weights(layer) - layer.weight.detach())
    for first, second in ((0, 1), (2, 3), (4, 5)):
        assert torch.equal(chips[first], chips[second])
    correlation = torch.corrcoef(torch.stack([chips[i].flatten() for i in (0, 2, 4)])).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 5 / math.sqrt(600)
    program_chip_(layer, seeded(3))  # a new chip counts its periods from the start
    drift_chip_(layer, 0.5 * DAY, generator)
    kept = used_weights(layer)
    drift_chip_(layer, 1.5 * DAY, generator)
    assert not torch.equal(used_weights(layer), kept)


# -- compensation by column -------------------------------------------------------------------------------------------

SHARES = torch.tensor([1.0, 0.5, 0.2, 0.1])


def drifted_columns(compensation: str, size: tuple[int, int] = (512, 512)) -> Tensor:
    """Return what is left of columns of four sizes after a day, relative; each drifts with an exponent of its own."""
    linear = nn.Linear(10, 4)
    tile = hwa_tile(*size, remap=False).replace(device=NU_OF_G, drift_compensation=compensation)
    layer = one_layer(linear, tile).eval()
    signs = torch.randn(4, 10).sign()
    layer.weight.data.copy_(signs * SHARES.unsqueeze(1) * column_max(linear.weight))
    program_chip_(layer, seeded())
    drift_chip_(layer, DAY, seeded())
    return used_weights(layer) / layer.weight.detach()


def test_drift_of_columns_is_left_reduced_to_its_mean_or_removed():
    drifted = ((DAY + 20) / 20) ** -(-0.05 * SHARES.log() + 0.02).unsqueeze(1).expand(4, 10)
    torch.testing.assert_close(drifted_columns("none"), drifted, rtol=1e-5, atol=0)
    mean = float((drifted * SHARES.unsqueeze(1)).mean() / SHARES.mean())
    torch.testing.assert_close(drifted_columns("global"), drifted / mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(drifted_columns("per_column"), torch.ones(4, 10), rtol=1e-5, atol=0)


def test_global_compensation_is_one_factor_for_each_tile():
    drifted = ((DAY + 20) / 20) ** -(-0.05 * SHARES.log() + 0.02)
    means = (drifted * SHARES).view(2, 2).mean(1) / SHARES.view(2, 2).mean(1)
    expected = (drifted / means.repeat_interleave(2)).unsqueeze(1).expand(4, 10)
    torch.testing.assert_close(drifted_columns("global", size=(4, 2)), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(drifted_columns("per_column", size=(4, 2)), torch.ones(4, 10), rtol=1e-5, atol=0)


# -- groups -----------------------------------------------------------------------------------------------------------


def grouped(kind: str) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, groups=4) if kind == "depthwise" else nn.Conv2d(4, 12, 3, groups=2)


@pytest.mark.parametrize("size", [(512, 512), (4, 2)], ids=["one crossbar a group", "several"])
@pytest.mark.parametrize("kind", ["depthwise", "grouped"])
def test_each_group_has_a_crossbar_of_its_own(kind: str, size: tuple[int, int]):
    """A group whose weights shrank 10 times drifts and is compensated apart; the same crossbar would show it."""
    conv = grouped(kind)
    tile = hwa_tile(*size, remap=False).replace(device=NU_OF_G, drift_compensation="global")
    layer = one_layer(conv, tile).eval()
    factors = torch.logspace(0, -1, conv.groups).repeat_interleave(len(conv.weight) // conv.groups)
    weights = torch.randn_like(conv.weight).sign() * column_max(conv.weight).view(-1, 1, 1, 1)
    layer.weight.data.copy_(weights * factors.view(-1, 1, 1, 1))
    program_chip_(layer, seeded())
    drift_chip_(layer, DAY, seeded())
    assert relative_error(used_weights(layer), layer.weight.detach().flatten(1)) < 1e-5


@pytest.mark.parametrize("compensation", ["none", "global", "per_column"])
@pytest.mark.parametrize("size", [(512, 512), (4, 2)], ids=["one crossbar a group", "several"])
@pytest.mark.parametrize("kind", ["depthwise", "grouped"])
def test_groups_have_the_statistics_of_layers_programmed_apart(kind: str, size: tuple[int, int], compensation: str):
    conv = grouped(kind)
    tile = TileSpec.pcm(rows=size[0], cols=size[1], drift_compensation=compensation, dac_bits=None, adc_bits=None)
    tile = tile.replace(output_noise=0.0, output_bound=None)
    n_out, n_in = len(conv.weight) // conv.groups, conv.in_channels // conv.groups
    whole = one_layer(conv, tile).eval()
    apart = []
    for group in range(conv.groups):
        part = nn.Conv2d(n_in, n_out, 3)
        part.weight.data = conv.weight.detach()[group * n_out : (group + 1) * n_out].clone()
        apart.append(one_layer(part, tile).eval())

    def errors(layers: list[AnalogLayer], seed: int) -> Tensor:
        generator, drawn = seeded(seed), []
        for _ in range(100):
            for layer in layers:
                program_chip_(layer, generator)
                drift_chip_(layer, HOUR, generator)
            weights = torch.cat([used_weights(layer) for layer in layers])
            exact = torch.cat([layer.weight.detach().flatten(1) for layer in layers])
            drawn.append((weights - exact) / column_max(exact))
        return torch.stack(drawn)

    one, other = errors([whole], 3), errors(apart, 4)
    assert one.shape == other.shape
    assert from_one_distribution(one, other)
    assert not from_one_distribution(one * 1.4, other)
    sigma = torch.stack([one.std(0), other.std(0)])
    assert float((sigma[0] / sigma[1]).log().abs().mean()) < 0.1  # weight by weight


# -- bfloat16 ---------------------------------------------------------------------------------------------------------

MODES: dict[str, dict[str, object]] = {
    "static": {},
    "learned": {"input_range": "learned"},
    "dynamic": {"input_range": "dynamic"},
    "managed": {"bound_management": "iterative", "input_range": "dynamic"},
    "ideal converters": {"dac_bits": None, "adc_bits": None},
    "rounded weights": {"hwa": HWASpec(weight_noise=0.0, weight_levels=31)},
    "fixed scale": {"hwa": HWASpec(weight_noise=0.0, remap=False)},
}
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(40, 24), nn.ReLU(), nn.Linear(24, 5, bias=False)), (16, 40)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=8, stride=2),
            nn.Flatten(),
            nn.Linear(32, 5),
        ),
        (8, 3, 6, 6),
    ),
}


def quiet_net(name: str, rows: int = 20, **changes: object) -> tuple[nn.Module, Tensor]:
    """Return a network with converters and no noise, and inputs."""
    build, shape = NETS[name]
    hwa = HWASpec(weight_noise=0.0)
    tile = TileSpec.pcm(rows=rows, cols=10, output_noise=0.0, **{"hwa": hwa, **changes})
    return on_tiles(build(), tile, input_range=2.0), torch.randn(shape)


def step(model: Callable[..., Tensor], parameters: nn.Module, x: Tensor) -> dict[str, Tensor]:
    parameters.zero_grad()
    out = model(x)
    out.float().square().mean().backward()
    grads = {name: p.grad for name, p in parameters.named_parameters() if p.grad is not None}
    return {"outputs": out.detach(), **{name: grad.clone() for name, grad in grads.items()}}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETS)
def test_training_in_bfloat16_is_close_to_single_precision(name: str, mode: str):
    model, x = quiet_net(name, **MODES[mode])
    full = step(model, model, x)
    with torch.autocast("cpu", torch.bfloat16):
        half = step(model, model, x)
    assert half.pop("outputs").dtype == torch.bfloat16
    for key, value in half.items():
        assert value.dtype == torch.float32
        assert value.isfinite().all()
        if not key.startswith("0.bias"):  # the batch norm takes it out
            assert (value - full[key]).norm() < 0.25 * full[key].norm() + 1e-3, key
    assert half.keys() == full.keys() - {"outputs"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETS)
def test_noisy_training_in_bfloat16_draws_the_same_weights(name: str, kind: str):
    model, x = quiet_net(name, hwa=HWASpec(weight_noise=0.1, weight_noise_kind=kind, drop_connect=0.1))
    outputs = {}
    for enabled in (False, True):
        seed_noise_(model, seeded(8))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs[enabled] = step(model, model, x)["outputs"].float()
    assert (outputs[True] - outputs[False]).norm() < 0.1 * outputs[False].norm()
    seed_noise_(model, seeded(9))
    assert (model(x) - outputs[False]).norm() > 0.1 * outputs[False].norm()


@pytest.mark.parametrize("name", NETS)
def test_a_chip_in_bfloat16_is_close_to_single_precision(name: str):
    model, x = quiet_net(name)
    program_chip_(model.eval(), seeded())
    drift_chip_(model, DAY, seeded())
    full = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x)
    assert half.dtype == torch.bfloat16
    assert (half.float() - full).norm() < 0.1 * full.norm()
    assert torch.equal(model(x), full)  # nothing of the one is kept for the other


# -- torch.compile by the user, in graphs that run eagerly ------------------------------------------------------------

COMPILED = {key: MODES[key] for key in ("static", "learned", "dynamic", "managed", "rounded weights")}


@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("mode", COMPILED)
@pytest.mark.parametrize("name", NETS)
def test_a_compiled_network_equals_the_eager_one(name: str, mode: str, training: bool):
    torch.compiler.reset()
    model, x = quiet_net(name, **COMPILED[mode])
    model.train(training)
    if not training:
        program_chip_(model, seeded())
        drift_chip_(model, DAY, seeded())
    plain = step(model, model, x)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=counter)
    for _ in range(2):
        again = step(compiled, model, x)
        assert again.keys() == plain.keys()
        for key, value in plain.items():
            assert (again[key] - value).norm() <= 1e-4 * value.norm() + 1e-6, key
    if mode in ("static", "learned", "rounded weights"):
        assert (
            counter.frame_count == 1
        )  # nothing breaks the graph, and nothing is compiled again; vectors are never compiled
    with torch.no_grad():
        model[0].weight.mul_(0.5)
        if training:  # weights are read, not remembered
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    torch.compiler.reset()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_fresh_in_every_compiled_step(kind: str):
    torch.compiler.reset()
    model, x = quiet_net("perceptron", hwa=HWASpec(weight_noise=0.1, weight_noise_kind=kind))
    compiled = torch.compile(model, backend="aot_eager")
    with torch.no_grad():
        outputs = torch.stack([compiled(x) for _ in range(4)])
    assert (outputs.std(0) > 0).double().mean() > 0.5  # the rest rounds to the same code
    torch.compiler.reset()


# -- memory -----------------------------------------------------------------------------------------------------------

KEPT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(96, 64), (200, 96)),
    "conv2d": (lambda: nn.Conv2d(6, 10, 3, padding=1), (5, 6, 12, 12)),
    "conv2d depthwise": (lambda: nn.Conv2d(6, 12, 3, groups=6), (5, 6, 12, 12)),
}
NOISY = HWASpec(weight_noise=0.1, drop_connect=0.1)


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Return the bytes that a pass keeps for its backward pass, each storage once."""
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        layer(x).sum()
    return sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [512, 20])
@pytest.mark.parametrize("name", KEPT)
def test_training_saves_inputs_and_weights_only(name: str, rows: int, dtype: torch.dtype):
    build, shape = KEPT[name]
    digital = build()
    x = torch.randn(shape).to(dtype)
    layer = one_layer(digital, TileSpec.pcm(rows=rows, hwa=NOISY))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        assert saved_bytes(layer, x) == (x.numel() + digital.weight.numel()) * dtype.itemsize
    if dtype == torch.float32:
        assert saved_bytes(digital, x.requires_grad_()) == saved_bytes(layer, x)  # as much as in floating point


@pytest.mark.parametrize("name", KEPT)
def test_training_holds_no_other_tensors(name: str):
    build, shape = KEPT[name]
    layer, x = one_layer(build(), TileSpec.pcm(rows=20, hwa=NOISY)), torch.randn(shape)
    layer(x).sum().backward()

    def living() -> dict[int, int]:
        gc.collect()
        storages = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for each in gc.get_objects():
                if type(each) not in (Tensor, nn.Parameter) or each.device.type != "cpu":
                    continue
                with contextlib.suppress(RuntimeError):  # tensors that a compiler of other tests left have no memory
                    storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
        return storages

    before = living()
    out = layer(x)
    new = {pointer: size for pointer, size in living().items() if pointer not in before}
    new.pop(out.untyped_storage().data_ptr())
    assert sum(new.values()) <= layer.weight.numel() * 4 + 64  # the weights used, and a scalar
