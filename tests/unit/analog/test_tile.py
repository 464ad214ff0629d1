"""Tiles: equal to the digital layer when ideal, to a loop in float64 when not, and exactly undone."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch
from one_batch import OneBatch
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lionheart.analog import (
    AnalogLayer,
    analog_layers,
    calibrate_input_ranges_,
    clear_chip_,
    clip_weights_,
    convert_to_analog_,
    convert_to_digital_,
    drift_chip_,
    program_chip_,
    seed_noise_,
)
from lionheart.analog.noise import NoiseSource
from lionheart.analog.readout import reference_read
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.errors import CalibrationWarning, ConfigError, UnsupportedLayerError
from lionheart.evaluation import evaluate_over_chips
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
BUFFERS = {"analog_input_range", "analog_weight_bound"}
#: Converters only: nothing random.
QUIET = TileSpec(device=DeviceSpec.ideal(), output_noise=0.0, drift_compensation="none", hwa=HWASpec(weight_noise=0.0))
#: Output noise only.
NOISY = TileSpec.ideal().replace(output_noise=0.06)

pytestmark = pytest.mark.usefixtures("fixed_weights")


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_tiles(model: nn.Module, tile: TileSpec, *names: str, input_range: float | None = None) -> nn.Module:
    """Put `names` (or every layer that has a weight) on tiles, in ``eval()``, with a given input range."""
    found = names or [name for name, module in model.named_modules() if hasattr(module, "weight")]
    convert_to_analog_(model, LayerMapping(dict.fromkeys(found, Placement.ANALOG)), tile, generator=seeded(77))
    for layer in analog_layers(model).values():
        if input_range is not None:
            layer.analog_input_range.fill_(input_range)
    return model.eval()


def one_layer(digital: nn.Module, tile: TileSpec, input_range: float | None = None) -> AnalogLayer:
    """Return a copy of `digital` on tiles."""
    layer = on_tiles(nn.Sequential(copy.deepcopy(digital)), tile, input_range=input_range)[0]
    assert isinstance(layer, AnalogLayer)
    return layer


def relative_error(got: Tensor | np.ndarray, expected: Tensor | np.ndarray) -> float:
    got, expected = (torch.as_tensor(each).detach().double() for each in (got, expected))
    assert got.shape == expected.shape
    return float((got - expected).abs().max() / expected.abs().max())


def looks_normal(samples: Tensor, sigma: float) -> bool:
    return bool(stats.kstest(samples.detach().double().flatten().numpy(), stats.norm(0, sigma).cdf).pvalue > 0.01)


# -- ideal tile = torch.nn.functional ---------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(13, 7), (4, 13)),
    "linear 3D": (lambda: nn.Linear(13, 7), (2, 5, 13)),
    "linear one vector": (lambda: nn.Linear(13, 7), (13,)),
    "linear no bias": (lambda: nn.Linear(13, 7, bias=False), (4, 13)),
    "conv1d": (lambda: nn.Conv1d(3, 5, 4, stride=2, padding=1, dilation=2), (2, 3, 17)),
    "conv1d circular": (lambda: nn.Conv1d(3, 5, 3, padding=2, padding_mode="circular"), (2, 3, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 5, 3), (2, 4, 8, 7)),
    "conv2d strided": (lambda: nn.Conv2d(4, 5, (3, 2), stride=(2, 1), padding=(1, 2)), (2, 4, 8, 7)),
    "conv2d dilated": (lambda: nn.Conv2d(4, 5, 3, padding=2, dilation=2, bias=False), (2, 4, 8, 7)),
    "conv2d same": (lambda: nn.Conv2d(4, 5, (3, 5), padding="same"), (2, 4, 8, 7)),
    "conv2d reflect": (lambda: nn.Conv2d(4, 5, 3, padding=(1, 2), padding_mode="reflect"), (2, 4, 8, 7)),
    "conv2d replicate": (lambda: nn.Conv2d(4, 5, 3, padding=1, stride=2, padding_mode="replicate"), (2, 4, 8, 7)),
    "conv2d same circular": (lambda: nn.Conv2d(4, 5, 4, padding="same", padding_mode="circular"), (2, 4, 8, 7)),
    "conv2d pointwise": (lambda: nn.Conv2d(12, 5, 1), (2, 12, 4, 4)),
    "conv2d one image": (lambda: nn.Conv2d(4, 5, 3, padding=1), (4, 4, 9)),  # no batch dimension, height = channels
    "conv3d": (lambda: nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=1, dilation=(1, 1, 2)), (2, 2, 4, 6, 5)),
    "conv3d replicate": (lambda: nn.Conv3d(2, 4, 2, padding=1, padding_mode="replicate"), (1, 2, 3, 4, 3)),
}
GROUPED = {
    "conv2d grouped": (lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2), (2, 6, 5, 4)),
    "conv2d depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, stride=2, groups=6), (2, 6, 5, 4)),
    "conv1d depthwise, two outputs": (lambda: nn.Conv1d(4, 8, 3, dilation=2, groups=4), (2, 4, 9)),
    "conv2d same": (lambda: nn.Conv2d(3, 4, 3, dilation=2, padding="same"), (2, 3, 5, 4)),
}
SIZES = {"whole": (256, 256), "5x3": (5, 3), "1x1": (1, 1), "7x256": (7, 256), "256x2": (256, 2)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("build", "shape"), (LAYERS | GROUPED).values(), ids=LAYERS | GROUPED)
@pytest.mark.parametrize("programmed", [False, True], ids=["exact", "chip"])
def test_ideal_tile_is_the_digital_layer(
    build: Callable[[], nn.Module], shape: tuple[int, ...], size: tuple[int, int], programmed: bool
):
    digital = build()
    layer = one_layer(digital, TileSpec.ideal(*size))
    n_rows, n_cols = layer.matrix().shape[1], layer.matrix().shape[0]
    groups = getattr(digital, "groups", 1)
    assert layer.partition.n_tiles == groups * math.ceil(n_rows / size[0]) * math.ceil(n_cols / groups / size[1])
    if programmed:
        program_chip_(layer, seeded())
        drift_chip_(layer, YEAR, seeded())
    x = torch.randn(shape, generator=seeded()) * 3
    torch.testing.assert_close(layer(x), digital(x), rtol=1e-5, atol=1e-5)


def test_channels_last_images_stay_channels_last():
    conv = nn.Conv2d(4, 5, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 8, 8, generator=seeded()).contiguous(memory_format=torch.channels_last)
    y = one_layer(conv, TileSpec.ideal(13, 3))(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, conv(x), rtol=1e-5, atol=1e-5)


def test_empty_batches_and_columns_of_zeros():
    linear = nn.Linear(6, 4)
    linear.weight.data[2] = 0
    layer = one_layer(linear, QUIET.replace(rows=4, cols=3), input_range=1.0)
    assert layer(torch.empty(0, 6)).shape == (0, 4)
    out = layer(torch.ones(1, 6))
    assert torch.isfinite(out).all()
    assert torch.equal(out[0, 2], linear.bias[2])


# -- a twin in loops and float64 --------------------------------------------------------------------------------------


def pieces(size: int, largest: int) -> Iterator[range]:
    n = math.ceil(size / largest)
    first = 0
    for number in range(n):
        length = size // n + (1 if number < size % n else 0)
        yield range(first, first + length)
        first += length


class Twin:
    """DAC, crossbar, ADC, digital sums and bias for one input vector after another, in float64."""

    def __init__(self, weight: Tensor, bias: Tensor | None, tile: TileSpec, input_range: float) -> None:
        self.weight = weight.detach().double().numpy().reshape(len(weight), -1)
        self.bias = np.zeros(len(weight)) if bias is None else bias.detach().double().numpy()
        self.tile, self.input_range = tile, input_range
        self.n_clipped_inputs = self.n_clipped_outputs = 0

    def multiply(self, x: Sequence[float]) -> list[float]:
        top = 2 ** (self.tile.dac_bits - 1) - 1
        step = 2 * self.tile.output_bound / (2**self.tile.adc_bits - 2)  # 8 bit: 2 * 12 / 254
        volts = []
        for value in x:
            code = float(np.rint(value / self.input_range * top))  # half to even
            self.n_clipped_inputs += abs(code) > top
            volts.append(min(max(code, -top), top) / top)
        y = []
        for column, bias in zip(self.weight, self.bias, strict=True):
            total = 0.0
            for rows in pieces(len(volts), self.tile.rows):
                scale = max(abs(column[i]) for i in rows) or 1.0
                z = sum(column[i] / scale * volts[i] for i in rows)
                z = float(np.rint(z / step)) * step
                self.n_clipped_outputs += abs(z) > self.tile.output_bound
                z = min(max(z, -self.tile.output_bound), self.tile.output_bound)
                total += z * scale * self.input_range
            y.append(total + bias)
        return y


@pytest.mark.parametrize("size", [(256, 256), (20, 6), (7, 3)])
@pytest.mark.parametrize(("dac_bits", "adc_bits"), [(8, 8), (4, 6)])
def test_linear_equals_its_twin(size: tuple[int, int], dac_bits: int, adc_bits: int):
    tile = QUIET.replace(rows=size[0], cols=size[1], dac_bits=dac_bits, adc_bits=adc_bits)
    linear = nn.Linear(40, 9)
    linear.weight.data[0] = torch.linspace(0.8, 1.0, 40)  # leaves the ADC's range where more than 14 rows are summed
    x = torch.randn(12, 40, generator=seeded())
    x[0] = 1.4
    twin = Twin(linear.weight, linear.bias, tile, input_range=1.5)
    expected = np.array([twin.multiply(row) for row in x.double().numpy()])
    assert twin.n_clipped_inputs > 10
    assert (twin.n_clipped_outputs > 0) == (size[0] > 12)
    assert relative_error(one_layer(linear, tile, input_range=1.5)(x), expected) < 1e-5


@pytest.mark.parametrize("size", [(256, 256), (20, 4), (7, 3)])  # 27 rows, 9 a channel: 20 and 7 cut inside channels
def test_convolution_equals_its_twin(size: tuple[int, int]):
    tile = QUIET.replace(rows=size[0], cols=size[1])
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 7, 6, generator=seeded())
    twin = Twin(conv.weight, conv.bias, tile, input_range=2.0)
    padded = np.pad(x.double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    expected = np.zeros((2, 5, 4, 3))
    for n, i, j in itertools.product(range(2), range(4), range(3)):
        patch = padded[n, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].reshape(-1)  # channel, row, column: im2col's order
        expected[n, :, i, j] = twin.multiply(patch)
    assert twin.n_clipped_inputs > 0
    assert relative_error(one_layer(conv, tile, input_range=2.0)(x), expected) < 1e-5


def test_rounding_is_half_to_even():
    layer = one_layer(nn.Linear(1, 1, bias=False), TileSpec.ideal().replace(dac_bits=8), input_range=127.0)
    layer.weight.data.fill_(1.0)
    x = torch.tensor([[0.5], [1.5], [2.5], [-0.5], [-1.5], [126.5], [127.5], [300.0], [-300.0]])
    assert layer(x).flatten().tolist() == [0, 2, 2, 0, -2, 126, 127, 127, -127]


# -- converters: 6 dB a bit -------------------------------------------------------------------------------------------


def sqnr_db(clean: Tensor, got: Tensor) -> float:
    error = (got - clean).double()
    return 10 * math.log10(float(clean.double().square().mean() / error.square().mean()))


@pytest.mark.parametrize("converter", ["dac", "adc"])
def test_signal_to_quantisation_noise_grows_six_db_a_bit(converter: str):
    linear = nn.Linear(64, 32, bias=False).double()
    linear.weight.data /= linear.weight.data.abs().amax(dim=1, keepdim=True)  # every column's largest weight is 1
    x = torch.rand(500, 64, generator=seeded(), dtype=torch.float64) * 2 - 1
    clean = linear(x).detach()
    bound = float(clean.abs().max()) * 1.01
    levels = {}
    for bits in range(4, 13):
        if converter == "dac":
            tile = TileSpec.ideal().replace(dac_bits=bits)
            # each of the 64 inputs is off by a uniform error of one step 1 / limit
            expected = float(linear.weight.detach().square().sum(dim=1).mean()) / 12 / (2 ** (bits - 1) - 1) ** 2
        else:
            tile = TileSpec.ideal().replace(adc_bits=bits, output_bound=bound)
            expected = (bound / (2 ** (bits - 1) - 1)) ** 2 / 12
        got = one_layer(linear, tile, input_range=1.0)(x).detach()
        assert float((got - clean).square().mean()) == pytest.approx(expected, rel=0.05)
        levels[bits] = sqnr_db(clean, got)
    slope = np.polyfit(list(levels)[2:], list(levels.values())[2:], 1)[
        0
    ]  # 2^(b-1) - 1 codes: more than 6 dB below 6 bits
    assert slope == pytest.approx(6.02, abs=0.15)


# -- output noise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool_size", [0, 1 << 22])
@pytest.mark.parametrize("rows", [256, 11])
def test_output_noise_has_its_sigma(rows: int, pool_size: int):
    linear = nn.Linear(40, 6)
    linear.weight.data *= torch.logspace(-1, 1, 6).unsqueeze(1)  # columns of very different size
    layer = one_layer(linear, NOISY.replace(rows=rows), input_range=2.5)
    layer.noise = NoiseSource(seeded(3), pool_size)
    x = torch.randn(10_000, 40, generator=seeded())
    noise = (layer(x) - linear(x)).detach()
    weight = linear.weight.detach()
    squared = sum(weight[:, part.start : part.stop].abs().amax(1) ** 2 for part in pieces(40, rows))
    # The noise of one tile is 0.06 times a full-scale input times the largest weight of its column.
    normalised = noise / (2.5 * squared.sqrt())
    assert looks_normal(normalised, 0.06)
    assert not looks_normal(normalised, 0.06 * 1.03)
    assert abs(float(torch.corrcoef(normalised.T).fill_diagonal_(0).abs().max())) < 5 / math.sqrt(10_000)


def test_output_noise_of_a_convolution_has_its_sigma():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    layer = one_layer(conv, NOISY.replace(rows=10), input_range=0.5)
    x = torch.randn(20, 3, 16, 16, generator=seeded()).contiguous(memory_format=torch.channels_last)
    matrix = conv.weight.detach().reshape(8, 27)
    squared = sum(matrix[:, rows.start : rows.stop].abs().amax(1) ** 2 for rows in pieces(27, 10))
    normalised = (layer(x) - conv(x)).detach() / (0.5 * squared.sqrt()).view(-1, 1, 1)
    assert looks_normal(normalised, 0.06)
    assert not looks_normal(normalised, 0.06 * 1.03)


def test_output_noise_does_not_depend_on_the_dac():
    linear = nn.Linear(40, 6)
    x = torch.randn(20_000, 40, generator=seeded())
    for bits in (None, 4, 8):
        quiet, noisy = (
            one_layer(linear, TileSpec.ideal().replace(dac_bits=bits, output_noise=sigma), input_range=2.5)
            for sigma in (0.0, 0.06)
        )
        noise = (noisy(x) - quiet(x)).detach() / (2.5 * linear.weight.detach().abs().amax(1))
        assert looks_normal(noise, 0.06)


def test_noise_is_added_before_the_adc():
    tile = NOISY.replace(adc_bits=8, output_bound=12.0, dac_bits=None)
    linear = nn.Linear(5, 3, bias=False)
    linear.weight.data = torch.eye(3, 5)
    y = one_layer(linear, tile, input_range=1.0)(torch.randn(2000, 5, generator=seeded()))
    codes = y.detach() / (2 * 12 / 254)
    assert float((codes - codes.round()).abs().max()) < 1e-4  # only multiples of the step come out
    assert len(codes.round().unique()) > 3


def test_seeded_noise_repeats_and_other_seeds_do_not():
    layer = one_layer(nn.Linear(5, 3), NOISY, input_range=1.0)
    x = torch.ones(100, 5)
    draws = []
    for seed in (4, 4, 5):
        seed_noise_(layer, seeded(seed))
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[2], layer(x))


# -- gradients --------------------------------------------------------------------------------------------------------


def gradients(layer: nn.Module, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    layer(x).backward(upstream)
    return {"x": x.grad, **{name: p.grad.clone() for name, p in layer.named_parameters()}}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(256, 256), (10, 3)])
@pytest.mark.parametrize("name", ["linear 3D", "conv1d", "conv2d strided", "conv2d reflect", "conv3d", *GROUPED])
def test_fine_converters_pass_the_digital_gradients(name: str, size: tuple[int, int], training: bool):
    build, shape = (LAYERS | GROUPED)[name]
    digital = build()
    tile = QUIET.replace(rows=size[0], cols=size[1], dac_bits=24, adc_bits=24)
    layer = one_layer(digital, tile, input_range=6.0).train(training)
    x = torch.randn(shape, generator=seeded())
    upstream = torch.randn(digital(x).shape, generator=seeded(2))
    got, expected = gradients(layer, x, upstream), gradients(digital, x, upstream)
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert relative_error(got[key], value) < 1e-5, key


def test_coarse_converters_pass_straight_through():
    linear = nn.Linear(20, 6)
    tile = QUIET.replace(dac_bits=4, adc_bits=4, output_bound=2.0)  # most outputs leave the ADC's range
    layer = one_layer(linear, tile, input_range=1.0)
    x = torch.randn(30, 20, generator=seeded())
    x[0, 0], x[0, 1] = 1.0, -1.0  # full scale is not clipped; its gradient was lost where single precision met the edge
    x[0, 2], x[0, 3] = 1.000001, -1.000001  # and this is
    upstream = torch.randn(30, 6, generator=seeded(2))
    got = gradients(layer, x, upstream)
    clipped = x.abs() > 1.0
    assert clipped.any()
    assert (got["x"][clipped] == 0).all()
    assert relative_error(got["x"], (upstream @ linear.weight) * ~clipped) < 1e-5
    quantised = (x * 7).round().clamp(-7, 7) / 7
    assert relative_error(got["weight"], upstream.T @ quantised) < 1e-5  # the weights see what was on the rows
    assert relative_error(got["bias"], upstream.sum(0)) < 1e-6


# -- hardware-aware training ------------------------------------------------------------------------------------------


def hwa_tile(**settings: object) -> TileSpec:
    return TileSpec.ideal().replace(hwa=HWASpec(**{"output_noise": False, "converters": False, **settings}))


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("rows", [256, 30])
def test_weight_noise_has_its_sigma(rows: int, kind: str):
    linear = nn.Linear(100, 300, bias=False)
    linear.weight.data *= torch.logspace(-1, 1, 300).unsqueeze(1)
    tile = hwa_tile(weight_noise=0.08, weight_noise_kind=kind).replace(rows=rows)
    layer = one_layer(linear, tile).train()
    weight = linear.weight.detach()
    noise = layer(torch.eye(100)).T.detach() - weight  # one input after another reads the weights
    drawn = []
    for columns in pieces(100, rows):
        part = slice(columns.start, columns.stop)
        unit = weight[:, part].abs() if kind == "multiplicative" else weight[:, part].abs().amax(1, keepdim=True)
        large = (weight[:, part].abs() > 0.01 * weight[:, part].abs().amax(1, keepdim=True)).expand_as(noise[:, part])
        drawn.append((noise[:, part] / unit)[large])  # below 1 % the difference of two floats is no longer exact
    assert looks_normal(torch.cat(drawn), 0.08)
    assert not looks_normal(torch.cat(drawn), 0.08 * 1.04)
    assert not torch.equal(layer(torch.eye(100)), layer(torch.eye(100)))  # fresh at every pass
    torch.testing.assert_close(layer.eval()(torch.eye(100)).T, weight, rtol=1e-5, atol=1e-6)  # and none in eval


def test_device_noise_is_a_fresh_chip_at_every_pass():
    linear = nn.Linear(300, 200, bias=False)
    device = DeviceSpec(g_max=10.0)
    tile = hwa_tile(weight_noise=0.0, weight_noise_kind="device", t_longest=1.0).replace(rows=150, device=device)
    layer = one_layer(linear, tile).train()
    with torch.no_grad():
        first, second = layer(torch.eye(300)).T, layer(torch.eye(300)).T
        chips = []
        for seed in (1, 2):
            program_chip_(layer, seeded(seed))
            drift_chip_(layer.eval(), 1.0, seeded(seed + 10))
            chips.append(layer(torch.eye(300)).T)
    weight = linear.weight.detach()
    noise = [(each - weight).flatten().numpy() for each in (first, second, *chips)]
    assert abs(np.corrcoef(noise)[0, 1]) < 5 / math.sqrt(60_000)
    for drawn in noise[:2]:
        assert stats.ks_2samp(drawn, noise[2]).pvalue > 0.01
        assert stats.ks_2samp(drawn * 1.05, noise[2]).pvalue < 1e-3
    upstream = torch.randn(8, 200, generator=seeded())
    x = torch.randn(8, 300, generator=seeded(2))
    assert relative_error(gradients(layer.train(), x, upstream)["weight"], upstream.T @ x) < 1e-5


def test_gradient_under_additive_weight_noise_is_the_clean_one():
    linear = nn.Linear(12, 5)
    layer = one_layer(linear, hwa_tile(weight_noise=0.08).replace(rows=5, cols=2)).train()
    x, upstream = torch.randn(8, 12, generator=seeded()), torch.randn(8, 5, generator=seeded(2))
    got = gradients(layer, x, upstream)
    assert relative_error(got["weight"], upstream.T @ x) < 1e-5


@pytest.mark.parametrize("training", [False, True])
def test_what_training_injects_is_chosen(training: bool):
    linear = nn.Linear(12, 5)
    x = torch.randn(8, 12, generator=seeded())
    hwa = HWASpec(weight_noise=0.0, output_noise=False, converters=False)
    layer = one_layer(linear, TileSpec(hwa=hwa), input_range=2.0).train(training)
    error = relative_error(layer(x), linear(x))
    assert (error < 1e-5) == training  # eval keeps converters and output noise, training has none of them here


def test_weights_are_clipped_to_their_column_at_conversion():
    conv = nn.Conv2d(3, 4, 3)
    layer = one_layer(conv, hwa_tile(weight_clip=1.0))
    start = conv.weight.detach().clone()
    clip_weights_(layer)
    assert torch.equal(layer.weight, start)  # nothing is beyond
    layer.weight.data.mul_(2)
    clip_weights_(layer)
    bound = start.abs().amax(dim=(1, 2, 3), keepdim=True)
    assert torch.equal(layer.weight, (2 * start).clamp(-bound, bound))
    half = one_layer(conv, hwa_tile(weight_clip=0.5))
    clip_weights_(half)
    assert torch.equal(half.weight, start.clamp(-0.5 * bound, 0.5 * bound))


def test_weights_are_clipped_to_sigmas_of_the_layer():
    linear = nn.Linear(30, 20)
    layer = one_layer(linear, hwa_tile(weight_clip=None, weight_clip_sigma=1.5))
    clip_weights_(layer)
    limit = 1.5 * linear.weight.detach().std()
    torch.testing.assert_close(layer.weight.detach(), linear.weight.detach().clamp(-limit, limit))
    assert (layer.weight.abs().max() < linear.weight.abs().max()).item()


def test_no_clip_no_change():
    layer = one_layer(nn.Linear(30, 20), hwa_tile(weight_clip=None))
    layer.weight.data.mul_(100)
    kept = layer.weight.detach().clone()
    clip_weights_(layer)
    assert torch.equal(layer.weight, kept)


# -- conversion and back ----------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3, bias=False)
    )


IMAGES = torch.randn(6, 2, 4, 4, generator=seeded(5))


def test_round_trip_is_exact():
    model = network()
    modules = dict(model.named_modules())
    parameters = {name: (p, p.detach().clone()) for name, p in model.named_parameters()}
    keys = list(model.state_dict())
    on_tiles(model, TileSpec(rows=7, cols=3), "0", "4", input_range=1.0)
    assert list(analog_layers(model)) == ["0", "4"]
    assert {name: id(p) for name, p in model.named_parameters()} == {n: id(p) for n, (p, _) in parameters.items()}
    program_chip_(model, seeded())
    drift_chip_(model, DAY, seeded())
    model(IMAGES)
    assert convert_to_digital_(model) is model
    assert dict(model.named_modules()) == modules
    assert all(module is modules[name] for name, module in model.named_modules())
    assert list(model.state_dict()) == keys
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name][0]
        assert torch.equal(parameter, parameters[name][1])


def test_conversion_follows_a_change_of_mapping():
    model = network()
    on_tiles(model, TileSpec.ideal(), "0", input_range=3.0)
    first = model[0]
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG, "4": Placement.ANALOG}), TileSpec.ideal())
    assert model[0] is first  # keeps its state
    assert float(first.analog_input_range) == 3.0
    assert model[4].noise is first.noise  # one source for the whole model
    convert_to_analog_(model, LayerMapping({"0": Placement.DIGITAL, "4": Placement.ANALOG}), TileSpec.ideal())
    assert isinstance(model[0], nn.Conv2d)
    assert list(analog_layers(model)) == ["4"]


def test_optimiser_built_before_conversion_trains_on():
    digital = network().double()
    analog, start = copy.deepcopy(digital), copy.deepcopy(digital)
    optimisers = [torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9) for m in (digital, analog)]
    on_tiles(analog, TileSpec.ideal(7, 2), "0", "4", input_range=1.0)
    for step in range(6):
        if step == 4:
            convert_to_digital_(analog)
        for model, optimiser in zip((digital, analog), optimisers, strict=True):
            optimiser.zero_grad()
            model.train()(IMAGES.double()).square().sum().backward()
            optimiser.step()
    for (name, one), other in zip(digital.named_parameters(), analog.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-10)
        if name != "0.bias":  # the batch norm takes it out again
            assert not torch.allclose(one, start.get_parameter(name))


def test_state_dicts_cross_over():
    digital, analog = network(), network()
    on_tiles(analog, TileSpec.ideal(7, 2), "0", "4", input_range=2.5)
    analog.load_state_dict(digital.state_dict())  # strict
    for name, parameter in digital.named_parameters():
        assert torch.equal(analog.get_parameter(name), parameter)
    assert float(analog[0].analog_input_range) == 2.5  # what a digital state does not know is kept
    extra = set(analog.state_dict()) - set(digital.state_dict())
    assert extra == {f"{fqn}.{buffer}" for fqn in ("0", "4") for buffer in BUFFERS}
    back = network()
    missing, unexpected = back.load_state_dict(analog.state_dict(), strict=False)
    assert not missing
    assert set(unexpected) == extra
    twin = network()
    on_tiles(twin, TileSpec.ideal(7, 2), "0", "4", input_range=1.0)
    twin.load_state_dict(analog.state_dict())
    assert float(twin[4].analog_input_range) == 2.5
    for model in (back, twin):
        torch.testing.assert_close(model.eval()(IMAGES), digital.eval()(IMAGES), rtol=1e-5, atol=1e-5)


def test_deepcopy_shares_nothing_with_the_original():
    model = on_tiles(network(), NOISY.replace(hwa=HWASpec()), "0", "4", input_range=1.0)
    twin = copy.deepcopy(model)
    assert twin[0].digital.weight is twin[0].weight  # the digital layer inside is still the same parameter
    assert twin[0].weight is not model[0].weight
    assert twin[0].noise is twin[4].noise
    assert twin[0].noise is not model[0].noise
    expected = model(IMAGES)
    assert torch.equal(twin(IMAGES), expected)  # the copy continues the same random stream
    state = model[0].noise.generator.get_state()
    with torch.no_grad():
        twin[0].weight.zero_()
        twin(IMAGES)
    assert model[0].weight.any()
    assert torch.equal(model[0].noise.generator.get_state(), state)  # and never disturbs the original's
    convert_to_digital_(twin)
    assert not twin[0].weight.any()


def test_a_layer_keeps_looking_like_the_digital_one():
    model = on_tiles(network().train(), TileSpec.ideal(7, 2), "0", "4")
    assert (model[0].out_channels, model[0].kernel_size, model[4].in_features) == (4, (3, 3), 64)
    assert model[4].bias is None
    assert repr(model[0]) == "AnalogConv(18x4 on 6 tile(s) of 7x2)"
    with pytest.raises(AttributeError, match="no_such"):
        _ = model[0].no_such


def test_modes_are_carried_over():
    model = network().train()
    model[4].eval()
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG, "4": Placement.ANALOG}), TileSpec.ideal())
    assert (model[0].training, model[4].training) == (True, False)
    model.eval()
    convert_to_digital_(model)
    assert (model[0].training, model[4].training) == (False, False)


def test_autocast_to_bfloat16():
    model = network()
    exact = copy.deepcopy(model).eval()(IMAGES)
    on_tiles(model, QUIET.replace(rows=7, cols=3), "0", "4", input_range=4.0)
    full = model(IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(IMAGES)
        loss = out.float().square().sum()
    assert out.dtype == torch.bfloat16
    loss.backward()
    for parameter in model.parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
    assert relative_error(out, full) < 3 * relative_error(
        full, exact
    )  # codes are exact; only sums and codes at a tie differ


def test_double_precision_is_kept():
    linear = nn.Linear(9, 4).double()
    out = one_layer(linear, NOISY.replace(rows=4), input_range=1.0)(torch.ones(2, 9, dtype=torch.float64))
    assert out.dtype == torch.float64


# A module with two names was replaced under the first alone; calls through the other stayed digital and exact.
def test_a_layer_with_two_names_is_one_layer():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    on_tiles(model, QUIET, "0", input_range=1.0)
    assert isinstance(model[0], AnalogLayer)
    assert model[2] is model[0]
    convert_to_digital_(model)
    assert model[0] is shared
    assert model[2] is shared


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    on_tiles(model, TileSpec.ideal(3, 3))
    assert model[1].weight is model[0].weight
    convert_to_digital_(model)
    assert model[1].weight is model[0].weight


class OwnAttention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x)[0]


def test_attention_with_a_forward_of_its_own_stays_digital():
    model = nn.Sequential(nn.Linear(4, 4), OwnAttention(4, 2))
    with pytest.raises(UnsupportedLayerError, match="OwnAttention overrides forward") as error:
        convert_to_analog_(model, LayerMapping({"1.out_proj": Placement.ANALOG}), TileSpec.ideal())
    assert error.value.hint
    with pytest.raises(ConfigError, match="got '1', expected a layer of the model that has a registered layer type"):
        convert_to_analog_(model, LayerMapping({"1": Placement.ANALOG}), TileSpec.ideal())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm2d(4), "BatchNorm2d"),
        (weight_norm(nn.Linear(4, 4)), "computed"),  # lost its parameters and stopped training
    ],
)
def test_layers_that_tiles_cannot_take(layer: nn.Module, message: str):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(UnsupportedLayerError, match=message) as error:
        convert_to_analog_(model, LayerMapping({"1": Placement.ANALOG}), TileSpec.ideal())
    assert "keep the layer digital" in error.value.hint
    assert model[1] is layer


def test_unknown_names_are_refused_with_a_suggestion():
    model = nn.ModuleDict({"head": nn.Linear(4, 4)})
    with pytest.raises(ConfigError, match="did you mean 'head'"):
        convert_to_analog_(model, LayerMapping({"haed": Placement.ANALOG}), TileSpec.ideal())
    assert analog_layers(model) == {}


def test_a_model_that_is_a_layer_itself_is_refused():
    with pytest.raises(ConfigError, match="wrap the layer"):  # was added to itself as a child that never runs
        convert_to_analog_(nn.Linear(4, 4), LayerMapping({"": Placement.ANALOG}), TileSpec.ideal())


# -- calibration ------------------------------------------------------------------------------------------------------


def mean_squared_error(layer: AnalogLayer, x: Tensor, input_range: float) -> float:
    layer.analog_input_range.fill_(input_range)
    layer.noise = NoiseSource(seeded(8), pool_size=0)
    with torch.no_grad():
        return float((layer(x) - layer.digital(x)).double().square().mean())


@pytest.mark.parametrize("spread", ["normal", "outliers", "uniform", "coarse"])
def test_calibrated_range_is_close_to_the_best(spread: str):
    x = torch.randn(256, 64, generator=seeded())
    if spread == "outliers":
        x = x**3
    if spread == "uniform":
        x = x.clamp(-0.5, 0.5)
    tile = TileSpec(rows=32, device=DeviceSpec.ideal())
    if spread == "coarse":  # the DAC's steps against clipping, without noise or ADC
        tile = TileSpec.ideal().replace(dac_bits=3)
    layer = one_layer(nn.Linear(64, 32), tile)
    model = nn.Sequential(layer)
    found = calibrate_input_ranges_(model, lambda m: m(x))
    assert found == {"0": pytest.approx(float(layer.analog_input_range))}
    largest = float(x.abs().max())
    assert 0 < found["0"] <= largest * (1 + 1e-6)
    errors = {r: mean_squared_error(layer, x, r) for r in np.linspace(0.05, 1.2, 116) * largest}
    best = min(errors.values())
    assert mean_squared_error(layer, x, found["0"]) < 1.05 * best
    assert errors[max(errors)] > 1.1 * best  # the case has an optimum to find


def test_calibration_only_touches_layers_without_a_range():
    model = network()
    on_tiles(model, TileSpec(), "0", "4")
    model[0].analog_input_range.fill_(7.0)
    found = calibrate_input_ranges_(model, lambda m: m(IMAGES))
    assert list(found) == ["4"]
    assert float(model[0].analog_input_range) == 7.0
    assert calibrate_input_ranges_(model, lambda m: m(IMAGES)) == {}
    again = calibrate_input_ranges_(model, lambda m: m(IMAGES), ["0"])
    assert 0 < again["0"] <= float(IMAGES.abs().max())


def test_inputs_are_exact_while_calibrating():
    model = on_tiles(network(), TileSpec(), "0", "4")
    seen = []
    handle = model[4].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    calibrate_input_ranges_(model, lambda m: m(IMAGES))
    handle.remove()
    with torch.no_grad():
        torch.testing.assert_close(seen[0], copy.deepcopy(convert_to_digital_(model))[:4](IMAGES))


def test_silent_inputs_get_a_range_of_one():
    model = on_tiles(nn.Sequential(nn.Linear(4, 2)), TileSpec())
    assert calibrate_input_ranges_(model, lambda m: m(torch.zeros(3, 4))) == {"0": 1.0}


def test_a_failed_calibration_leaves_no_trace():
    model = on_tiles(network(), TileSpec(), "0", "4").train()
    model[1].eval()  # frozen statistics stay frozen
    with pytest.raises(ZeroDivisionError):
        calibrate_input_ranges_(model, lambda m: 1 / 0)
    with pytest.raises(ConfigError, match="got '9', expected the name of an analog layer"):
        calibrate_input_ranges_(model, lambda m: m(IMAGES), ["9"])
    assert [float(layer.analog_input_range) for layer in analog_layers(model).values()] == [0, 0]  # was left at 1
    assert [module.training for module in model] == [True, False, True, True, True]
    assert not any("forward" in layer.__dict__ for layer in analog_layers(model).values())


def test_a_guessed_range_is_announced():
    layer = one_layer(nn.Linear(4, 2), TileSpec())
    x = torch.tensor([[0.5, -3.0, 1.0, 2.0]])
    with pytest.warns(CalibrationWarning, match="calibrate_input_ranges_"):
        layer(x)
    assert float(layer.analog_input_range) == 3.0
    layer(2 * x)  # the range is static: no second warning, no second guess
    assert float(layer.analog_input_range) == 3.0
    one_layer(nn.Linear(4, 2), TileSpec.ideal())(x)  # nothing to guess


# -- drift and its compensation ---------------------------------------------------------------------------------------

#: Every device drifts with the same exponent and nothing else happens.
COMMON_NU = DeviceSpec(
    programming_noise_scale=0.0,
    read_noise_scale=0.0,
    drift_nu_mean=(0.0, 0.06, 0.06, 0.06),
    drift_nu_sigma=(0.0, 0.0, 0.0, 0.0),
)


@pytest.mark.parametrize("compensation", ["none", "global"])
@pytest.mark.parametrize("t_inference", [0.0, HOUR, YEAR])
def test_global_compensation_undoes_common_drift(compensation: str, t_inference: float):
    tile = TileSpec.ideal(9, 4).replace(device=COMMON_NU, drift_compensation=compensation)
    model = on_tiles(network(), tile, "0", "4")
    conv, linear = model[0], model[4]
    x = torch.randn(5, 64, generator=seeded())
    program_chip_(model, seeded())
    drift_chip_(model, t_inference, seeded())
    factor = 1.0 if compensation == "global" else ((t_inference + 20) / 20) ** -0.06
    assert relative_error(linear(x), factor * linear.digital(x)) < 1e-5
    bias = conv.bias.view(-1, 1, 1)  # digital: does not drift
    assert relative_error(conv(IMAGES), factor * (conv.digital(IMAGES) - bias) + bias) < 1e-5


def test_compensation_restores_the_mean_of_spread_drift():
    x = torch.randn(50, 128, generator=seeded())
    linear = nn.Linear(128, 64, bias=False)
    gains = {}
    for compensation in ("none", "global"):
        tile = TileSpec.ideal(64, 32).replace(device=DeviceSpec(), drift_compensation=compensation)
        layer = one_layer(linear, tile)
        program_chip_(layer, seeded())
        drift_chip_(layer, YEAR, seeded(2))
        y, exact = layer(x).detach(), linear(x).detach()
        gains[compensation] = float((y * exact).sum() / exact.square().sum())
    assert 0.4 < gains["none"] < 0.55  # |W| after a year is about 0.49 of |W| at programming
    assert gains["global"] == pytest.approx(1.0, abs=0.05)


# -- the chip ---------------------------------------------------------------------------------------------------------


def programmed_weights(model: nn.Module) -> list[Tensor]:
    return [tile.weights for layer in analog_layers(model).values() for row in layer._chip for tile in row]


def test_ageing_keeps_the_chip_and_programming_draws_a_new_one():
    model = on_tiles(network(), TileSpec.ideal(9, 4).replace(device=DeviceSpec()), "0", "4")
    generator = seeded()
    program_chip_(model, generator)
    first = [weights.clone() for weights in programmed_weights(model)]
    outputs = []
    for t_inference in (HOUR, HOUR, DAY):
        drift_chip_(model, t_inference, generator)
        outputs.append(model(IMAGES))
        assert all(map(torch.equal, programmed_weights(model), first))
    assert not torch.equal(outputs[0], outputs[1])  # read noise is fresh at every read
    program_chip_(model, generator)
    for new, old in zip(programmed_weights(model), first, strict=True):
        assert not torch.isclose(new, old, rtol=1e-4).any()


def test_without_read_noise_a_chip_reads_the_same_at_the_same_time():
    tile = TileSpec.ideal(9, 4).replace(device=DeviceSpec(read_noise_scale=0.0))
    model = on_tiles(network(), tile, "0", "4")
    program_chip_(model, seeded())
    outputs = []
    for t_inference in (HOUR, YEAR, HOUR):
        drift_chip_(model, t_inference, seeded())
        outputs.append(model(IMAGES))
    assert torch.equal(
        outputs[0], outputs[2]
    )  # there is no way back in time, but every time starts from the programming
    assert not torch.equal(outputs[0], outputs[1])


def test_exact_weights_are_never_changed():
    model = on_tiles(network(), TileSpec(rows=9, cols=4), "0", "4", input_range=1.0)
    before = copy.deepcopy(model.state_dict())
    exact = convert_to_digital_(copy.deepcopy(model))(IMAGES)
    for seed in range(3):
        program_chip_(model, seeded(seed))
        drift_chip_(model, DAY, seeded(seed))
        model(IMAGES)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    clear_chip_(model)
    assert not any(layer.is_programmed for layer in analog_layers(model).values())
    assert torch.equal(convert_to_digital_(model)(IMAGES), exact)


def test_cleared_chip_computes_with_exact_weights():
    model = on_tiles(network(), TileSpec.ideal(9, 4).replace(device=DeviceSpec()), "0", "4")
    exact = model(IMAGES)
    program_chip_(model, seeded())
    drift_chip_(model, DAY, seeded())
    assert model[0].is_programmed
    assert relative_error(model(IMAGES), exact) > 0.01
    clear_chip_(model)
    assert torch.equal(model(IMAGES), exact)
    with pytest.raises(ConfigError, match="program_chip_"):
        drift_chip_(model, DAY, seeded())


def test_training_uses_exact_weights_whatever_is_programmed():
    linear = nn.Linear(10, 4)
    layer = one_layer(linear, hwa_tile(weight_noise=0.0).replace(device=DeviceSpec()))
    program_chip_(layer, seeded())
    drift_chip_(layer, DAY, seeded())
    x = torch.randn(3, 10, generator=seeded())
    torch.testing.assert_close(layer.train()(x), linear(x))
    assert relative_error(layer.eval()(x), linear(x)) > 0.01


# The column scales were taken anew from the exact weights at each read: a chip programmed before a training step came out
# scaled by the step.
def test_a_programmed_chip_does_not_follow_later_training():
    layer = one_layer(nn.Linear(10, 4), TileSpec.ideal(5, 4))
    program_chip_(layer, seeded())
    drift_chip_(layer, 0.0, seeded())
    x = torch.randn(3, 10, generator=seeded())
    programmed = layer(x)
    layer.weight.data *= torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    drift_chip_(layer, DAY, seeded())
    assert torch.equal(layer(x), programmed)


def sum_of_outputs(outputs: Tensor, _: Tensor) -> Tensor:
    return outputs.sum(dim=1)


def test_spread_over_chips_is_the_spread_over_programmings():
    n_chips, n = 400, 6
    linear = nn.Linear(n, 1, bias=False)
    linear.weight.data = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]])
    device = DeviceSpec(read_noise_scale=0.0)
    tile = TileSpec.ideal().replace(device=device)
    x = torch.ones(1, n)
    model = on_tiles(nn.Sequential(copy.deepcopy(linear)), tile)
    (estimate,) = evaluate_over_chips(
        model, OneBatch(x, x), sum_of_outputs, times=[0.0], n_chips=n_chips, streams=RandomStreams(1)
    )
    separate = []
    for seed in range(n_chips):
        other = on_tiles(nn.Sequential(copy.deepcopy(linear)), tile)
        program_chip_(other, seeded(10_000 + seed))
        drift_chip_(other, 0.0, seeded(20_000 + seed))
        separate.append(other(x).item())
    assert stats.ks_2samp(estimate.scores, separate).pvalue > 0.01
    # A device at g_max has a sigma of 1.05538 µS, its partner at 0 half a normal of 0.26348 µS: variance 1/2 - 1/(2 pi)
    sigma = math.sqrt(n * (1.05538**2 + 0.26348**2 * (0.5 - 0.5 / math.pi))) / 25
    assert estimate.std == pytest.approx(sigma, rel=4 / math.sqrt(2 * n_chips))
    assert np.std(separate, ddof=1) == pytest.approx(sigma, rel=4 / math.sqrt(2 * n_chips))
    assert not model[0].is_programmed
    assert torch.equal(model[0].weight, linear.weight)
    # Reading one chip again and again is another experiment, and this test would tell.
    noisy = one_layer(linear, TileSpec.ideal().replace(device=DeviceSpec()))
    program_chip_(noisy, seeded())
    repeated = []
    for seed in range(n_chips):
        drift_chip_(noisy, 0.0, seeded(seed))
        repeated.append(noisy(x).item())
    assert stats.ks_2samp(repeated, separate).pvalue < 1e-4


def test_chip_i_of_a_stream_is_always_the_same_chip():
    def scores(n_chips: int, seed: int) -> tuple[float, ...]:
        model = on_tiles(nn.Sequential(nn.Linear(6, 2)), NOISY.replace(device=DeviceSpec()), input_range=1.0)
        model[0].weight.data.fill_(0.5)
        model[0].bias.data.zero_()
        return evaluate_over_chips(
            model,
            OneBatch(torch.ones(1, 6), torch.ones(1, 6)),
            sum_of_outputs,
            times=[HOUR, DAY],
            n_chips=n_chips,
            streams=RandomStreams(seed),
        )[1].scores

    assert scores(5, 1)[:3] == scores(3, 1)
    assert len({*scores(5, 1), *scores(5, 2)}) == 10


# -- the pool of noise ------------------------------------------------------------------------------------------------


def test_pool_is_standard_normal():
    source = NoiseSource(seeded(), pool_size=1 << 20)
    numbers = source.normal(torch.Size((400, 1000)))
    assert numbers.shape == (400, 1000)
    assert numbers.dtype == torch.float32
    n = numbers.numel()
    assert abs(float(numbers.mean())) < 4 / math.sqrt(n)
    assert float(numbers.var()) == pytest.approx(1.0, abs=4 * math.sqrt(2 / n))
    assert float((numbers**4).mean()) == pytest.approx(3.0, abs=4 * math.sqrt(96 / n))
    assert looks_normal(numbers, 1.0)
    assert not looks_normal(numbers, 1.02)
    assert abs(
        float(torch.corrcoef(torch.stack([numbers.flatten()[1:], numbers.flatten()[:-1]]))[0, 1])
    ) < 4 / math.sqrt(n)


@pytest.mark.parametrize("pool_size", [0, 1000, 1001, 1 << 16])
@pytest.mark.parametrize("n", [0, 1, 499, 500, 501, 999, 1000, 5003])
def test_requests_of_any_size(n: int, pool_size: int):
    source = NoiseSource(seeded(), pool_size)
    numbers = source.normal(torch.Size((n,)))
    assert numbers.shape == (n,)
    assert numbers.is_contiguous()
    assert torch.isfinite(numbers).all()
    if n > 1:
        assert float(numbers.std()) > 0


def test_a_request_larger_than_the_pool_is_normal_too():
    numbers = NoiseSource(seeded(), pool_size=20_000).normal(torch.Size((200_000,)))
    assert abs(float(numbers.mean())) < 5 / math.sqrt(20_000)  # no better than the pool
    assert float(numbers.std()) == pytest.approx(1.0, abs=5 / math.sqrt(2 * 20_000))


@pytest.mark.parametrize("pool_size", [0, 1 << 18])
def test_calls_differ(pool_size: int):
    source = NoiseSource(seeded(), pool_size)
    draws = torch.stack([source.normal(torch.Size((1000,))) for _ in range(20)])
    correlation = torch.corrcoef(draws).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 5 / math.sqrt(1000)
    twin = NoiseSource(seeded(), pool_size)
    assert torch.equal(twin.normal(torch.Size((1000,))), draws[0])


@pytest.mark.parametrize("pool_size", [0, 1 << 16])
@pytest.mark.parametrize(("shape", "memory_format"), [
    ((2, 3, 4, 5), torch.channels_last),
    ((2, 3, 4, 5, 6), torch.channels_last_3d),
    ((2, 3, 4, 5), torch.contiguous_format),
])  # fmt: skip
def test_noise_has_the_layout_of_its_outputs(
    shape: tuple[int, ...], memory_format: torch.memory_format, pool_size: int
):
    reference = torch.empty(shape).contiguous(memory_format=memory_format)
    noise = NoiseSource(seeded(), pool_size).normal_like(reference)
    assert noise.shape == reference.shape
    assert noise.stride() == reference.stride()


def test_copy_of_a_source_draws_alike_and_apart():
    source = NoiseSource(seeded(), 1 << 16)
    source.normal(torch.Size((5,)))
    twin = copy.deepcopy(source)
    shape = torch.Size((100,))
    assert torch.equal(twin.normal(shape), source.normal(shape))
    twin.normal(shape)
    assert not torch.equal(twin.normal(shape), source.normal(shape))


# ------------------------------------------------------------------------------------------- what disturbs the product


@pytest.mark.parametrize("kind", ["inputs", "constant", "root"])
def test_noise_in_the_product_has_the_sigma_of_its_formula(kind: str):
    """Variance of an output: of the noise of inputs times squared weights, or of weights times squared inputs."""
    weights, x = torch.randn(6, 30, generator=seeded(2)), torch.rand(1, 30, generator=seeded(3))
    digital = nn.Linear(30, 6, bias=False)
    digital.weight.data = weights
    settings = (
        {"input_noise": 0.02} if kind == "inputs" else {"weight_read_noise": 0.03, "weight_read_noise_kind": kind}
    )
    layer = one_layer(digital, TileSpec.ideal().replace(**settings), input_range=2.0)
    layer.eval()
    layer.noise = NoiseSource(seeded(4), pool_size=0)
    with torch.no_grad():
        sigmas = layer(x.repeat(20_000, 1)).std(dim=0)
    largest = weights.abs().amax(dim=1)
    if kind == "inputs":
        expected = 0.02 * 2.0 * weights.square().sum(dim=1).sqrt()
    elif kind == "constant":
        expected = 0.03 * largest * x.square().sum().sqrt()
    else:
        expected = 0.03 * largest * (weights.abs() / largest.unsqueeze(1) * x.square()).sum(dim=1).sqrt()
    assert relative_error(sigmas, expected) < 0.03
    assert relative_error(1.05 * sigmas, expected) > 0.03


def test_wires_take_more_from_far_rows_and_from_large_currents():
    digital = nn.Linear(100, 1, bias=False)
    digital.weight.data.fill_(1.0)
    tile = TileSpec.ideal().replace(ir_drop=1.0, device=DeviceSpec.pcm())
    layer = one_layer(digital, tile, input_range=1.0).eval()
    far, near, all_rows = torch.zeros(1, 100), torch.zeros(1, 100), torch.ones(1, 100)
    far[0, 1], near[0, 99] = 1.0, 1.0
    with torch.no_grad():
        lost = [float(1 - layer(x) / x.sum()) for x in (far, near, all_rows)]
        a = 100 * tile.wire_resistance * tile.device.g_max * 1e-6
        at = [1 - (1 - j / 100) ** 2 for j in (1, 99)]
        c = a * (a * (0.05 * a - 0.2) + 0.5)
        assert lost[0] == pytest.approx(c * at[0], abs=2e-7)
        assert lost[1] == pytest.approx(c * at[1], abs=2e-7)
        assert lost[2] > 50 * lost[1]
        assert float(layer.digital(far)) == 1.0


def test_reference_reads_see_what_disturbs_products():
    """What long wires take is missing in the reference reads as in any; in the ratio of two of them it is not."""
    digital = nn.Linear(40, 8, bias=False)
    tile = TileSpec.pcm(output_noise=0.0, adc_bits=None, ir_drop=1.0, wire_resistance=300.0)
    layer = one_layer(digital, tile, input_range=1.0).eval()
    plain = one_layer(digital, tile.replace(ir_drop=0.0), input_range=1.0).eval()
    generator = seeded()
    read = reference_read(torch.full((8, 40), 0.5), layer.tile, generator)
    assert float(read) < 0.97 * float(reference_read(torch.full((8, 40), 0.5), plain.tile, generator))
    for each in (layer, plain):
        each.program_(seeded(5))
        each.drift_(86_400.0, seeded(6))
    assert relative_error(layer.take_read().weights[0][1], plain.take_read().weights[0][1]) < 0.05


def test_convolutions_take_disturbed_products_too():
    digital = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.rand(2, 3, 5, 5, generator=seeded(3))
    layer = one_layer(digital, TileSpec.ideal().replace(weight_read_noise=0.01, input_noise=0.01), input_range=1.0)
    with torch.no_grad():
        noisy, again = layer.eval()(x), layer(x)
    assert not torch.equal(noisy, again)
    assert relative_error(noisy, digital(x)) < 0.2
    layer.train()(x).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("fixed", [False, True])
def test_large_outputs_take_overlapping_slices_without_correlated_columns(fixed: bool):
    source = NoiseSource(seeded(), 1 << 16)
    if fixed:
        source.begin_pass()
    noise = source.normal(torch.Size((5_000, 40)))
    assert noise.numel() > 1 << 16
    assert looks_normal(noise[::50], 1.0)
    assert abs(float(torch.corrcoef(noise.T).fill_diagonal_(0).abs().max())) < 5 / math.sqrt(5_000)
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 5 / math.sqrt(noise.numel() / 40)
    wide = source.normal(torch.Size((3, 40_000)))
    assert wide.shape == (3, 40_000)
    assert looks_normal(wide.flatten()[:40_000], 1.0)
