"""Reads averaged, copies on rows, columns and device pairs: equal in distribution to what they stand for, built literally."""

import copy
import math

import pytest
import torch
from exact_tiles import one_layer, seeded
from scipy import stats
from torch import Tensor, nn

from lionheart.analog import (
    AnalogLayer,
    analog_layers,
    calibrate_input_ranges_,
    convert_to_analog_,
    drift_chip_,
    program_chip_,
    set_tiles_,
)
from lionheart.analog.calibration import measure_saturation
from lionheart.analog.converters import average_reads, read_columns
from lionheart.analog.hwa import modify_weights
from lionheart.analog.noise import NoiseSource
from lionheart.analog.policy import count_devices, describe_read, merges_copies
from lionheart.analog.readout import reference_read
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.errors import ConfigError
from lionheart.evaluation.ensemble import ChipEnsemble
from lionheart.mapping import LayerMapping, Placement
from lionheart.rng import RandomStreams

DAY = 86400.0
#: Converters and output noise of the paper, ideal devices.
NOISY = TileSpec(device=DeviceSpec.ideal(), drift_compensation="none", hwa=HWASpec(weight_noise=0.0, weight_clip=None))
#: Converters only.
QUIET = NOISY.replace(output_noise=0.0)
#: Devices only.
DEVICES = TileSpec.ideal().replace(device=DeviceSpec.pcm())
STEP = 12 / 127

pytestmark = pytest.mark.usefixtures("fixed_weights")


def frozen_layer(digital: nn.Module, tile: TileSpec, input_range: float = 1.0) -> AnalogLayer:
    return one_layer(digital, tile, input_range).requires_grad_(False)


def on_chip(layer: AnalogLayer, seed: int = 1, t_inference: float = DAY) -> AnalogLayer:
    generator = seeded(seed)
    layer.program_(generator)
    layer.drift_(t_inference, generator)
    return layer


def stacked(linear: nn.Linear, copies: int) -> nn.Linear:
    """Return a layer with the rows of `linear` `copies` times, for inputs that are repeated as often."""
    again = nn.Linear(copies * linear.in_features, linear.out_features, bias=False)
    again.weight.data = linear.weight.detach().repeat(1, copies)
    return again


def same_distribution(a: Tensor, b: Tensor) -> bool:
    """Return whether a two-sample test finds no difference; of equal distributions it would find one in 100,000 times."""
    found = stats.ks_2samp(a.detach().double().flatten().numpy(), b.detach().double().flatten().numpy())
    return bool(found.pvalue > 1e-5)


# -- reads -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 4, 10])
@pytest.mark.parametrize("sigma", [0.5 * STEP, 0.06, 0.3])
@pytest.mark.parametrize("place", [0.0, 0.25, 0.5])
def test_one_read_stands_for_the_mean_of_many(k: int, sigma: float, place: float):
    """The mean of k rounded reads: mean z, variance ``(sigma^2 + step^2 / 12) / k``, in multiples of ``step / k``."""
    n, z = 100_000, (5 + place) * STEP
    tile = NOISY.replace(output_noise=sigma, n_reads=k)
    generator = seeded()
    literal = torch.stack(
        [read_columns(torch.full((n,), z), torch.randn(n, generator=generator), sigma, 8, 12.0) for _ in range(k)]
    ).mean(0)
    read = describe_read(tile)
    assert read.n_reads == 1
    found = average_reads(torch.full((n,), z), lambda like: torch.randn(like.shape, generator=generator), read)
    expected = math.sqrt((sigma**2 + STEP**2 / 12) / k)
    assert read.variance == pytest.approx(expected**2)
    bias = STEP / math.pi * math.exp(-2 * (math.pi * sigma / STEP) ** 2)  # of a rounded sum with this noise, at most
    for each in (literal, found):
        assert abs(float(each.mean()) - z) < bias + 6 * expected / math.sqrt(n)
        assert float(each.std()) == pytest.approx(expected, rel=0.03)
        codes = each.double() / STEP * k
        assert float((codes - codes.round()).abs().max()) < 1e-3
    levels = torch.arange(-8 * k, 12 * k + 1) * STEP / k + 0.5 * STEP / k
    shares = [torch.tensor([(each <= level).double().mean() for level in levels]) for each in (literal, found)]
    assert float((shares[0] - shares[1]).abs().max()) < (0.025 if sigma == 0.5 * STEP else 0.01)


def test_reads_with_little_noise_are_computed_one_by_one():
    """A sum of 0.3 steps with noise of 0.1 steps is 0 in nearly every read, however many reads are averaged."""
    tile = NOISY.replace(output_noise=0.1 * STEP, n_reads=16)
    assert describe_read(tile).n_reads == 16
    draw = lambda like: torch.randn(like.shape, generator=generator)  # noqa: E731
    generator, n = seeded(), 50_000
    for place in (0.3, 0.45):
        found = average_reads(torch.full((n,), place * STEP), draw, describe_read(tile))
        share = stats.norm.sf(0.5, place, 0.1)  # of reads that are rounded up
        assert float(found.mean()) / STEP == pytest.approx(share, abs=6 * math.sqrt(share * (1 - share) / n / 16))
        expected = math.sqrt(share * (1 - share) / 16)
        assert float(found.std()) / STEP == pytest.approx(expected, rel=0.15 if place == 0.3 else 0.03)


def test_reads_without_noise_are_one_read():
    assert describe_read(QUIET.replace(n_reads=8)).n_reads == 1
    digital, x = nn.Linear(9, 4), torch.rand(6, 9, generator=seeded())
    assert torch.equal(frozen_layer(digital, QUIET.replace(n_reads=8))(x), frozen_layer(digital, QUIET)(x))


def test_without_an_adc_reads_have_the_noise_of_their_mean():
    read = describe_read(TileSpec.ideal().replace(output_noise=0.06, n_reads=9))
    assert (read.sigma, read.rounds, read.n_reads) == (pytest.approx(0.02), False, 1)


@pytest.mark.parametrize("name", ["n_reads", "column_copies"])
@pytest.mark.parametrize("k", [4, 16])
def test_the_noise_of_a_layer_falls_with_the_root_of_its_reads(name: str, k: int):
    digital = nn.Linear(8, 4, bias=False)
    x = torch.rand(1, 8, generator=seeded()).expand(20_000, 8)
    spread = {n: frozen_layer(digital, NOISY.replace(dac_bits=None, **{name: n}))(x).std(dim=0) for n in (1, k)}
    torch.testing.assert_close(spread[1] / spread[k], torch.full((4,), math.sqrt(k)), rtol=0.04, atol=0)


def test_noise_of_products_is_drawn_anew_in_each_read():
    """Input noise and weight read noise fall with the root of the reads; the literal mean of four layers agrees."""
    digital, n = nn.Linear(8, 3, bias=False), 20_000
    tile = TileSpec.ideal().replace(input_noise=0.1, weight_read_noise=0.05)
    x = torch.rand(1, 8, generator=seeded()).expand(n, 8)
    layer = frozen_layer(digital, tile)
    literal = torch.stack([layer(x) for _ in range(4)]).mean(0)
    found = frozen_layer(digital, tile.replace(n_reads=4))(x)
    assert all(same_distribution(found[:, i], literal[:, i]) for i in range(3))
    assert not same_distribution(found[:, 0], layer(x)[:, 0])


def test_disturbed_products_with_little_output_noise_are_read_one_by_one():
    digital, n = nn.Linear(8, 3, bias=False), 5_000
    tile = QUIET.replace(input_noise=0.02)
    x = torch.rand(1, 8, generator=seeded()).expand(n, 8)
    layer = frozen_layer(digital, tile)
    literal = torch.stack([layer(x) for _ in range(4)]).mean(0)
    found = frozen_layer(digital, tile.replace(n_reads=4))(x)
    torch.testing.assert_close(found.mean(0), literal.mean(0), atol=0.002, rtol=0)
    torch.testing.assert_close(found.std(0), literal.std(0), rtol=0.1, atol=1e-4)


# -- copies on rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 3, 4])
def test_repeated_rows_are_a_layer_with_repeated_rows(copies: int):
    """Currents of the copies add up: with converters alone, the outputs are those of the stacked layer over the copies."""
    digital = nn.Linear(5, 7, bias=False)
    x = torch.randn(50, 5, generator=seeded())
    found = frozen_layer(digital, QUIET.replace(rows=5 * copies + 2, row_copies=copies))(x)
    literal = frozen_layer(stacked(digital, copies), QUIET)(x.repeat(1, copies)) / copies
    torch.testing.assert_close(found, literal, rtol=1e-5, atol=1e-6)


def test_copies_saturate_where_their_sum_does():
    digital = nn.Linear(8, 3, bias=False)
    digital.weight.data.fill_(1.0)
    x = torch.full((1, 8), 0.9)  # a sum of 7.2: twice as much is beyond the bound of 12
    found = frozen_layer(digital, QUIET.replace(row_copies=2))(x)
    torch.testing.assert_close(found, torch.full((1, 3), 6.0))
    assert float(frozen_layer(digital, QUIET)(x)[0, 0]) == pytest.approx(7.2, abs=0.1)
    model = nn.Sequential(digital)
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET.replace(row_copies=2))
    model[0].analog_input_range.fill_(1.0)
    assert measure_saturation(model, lambda net: net(x)) == {"0": 1.0}


def test_copies_multiply_the_signal_at_equal_noise():
    """In units of the stacked layer the noise stays sigma, so in units of one copy it is ``sigma / r``."""
    digital, n = nn.Linear(5, 2, bias=False), 20_000
    x = torch.rand(1, 5, generator=seeded()).expand(n, 5)
    found = frozen_layer(digital, NOISY.replace(row_copies=8))(x)
    literal = frozen_layer(stacked(digital, 8), NOISY)(x.repeat(1, 8)) / 8
    largest = digital.weight.detach().abs().amax(dim=1)
    expected = largest * math.sqrt(0.06**2 + STEP**2 / 12) / 8
    torch.testing.assert_close(found.std(0), expected, rtol=0.05, atol=0)
    assert all(same_distribution(found[:, i], literal[:, i]) for i in range(2))


@pytest.mark.parametrize("t_inference", [0.0, DAY])
@pytest.mark.parametrize("compensation", ["none", "global"])
def test_programmed_copies_are_those_of_a_programmed_stack(t_inference: float, compensation: str):
    digital = nn.Linear(4, 3, bias=False)
    tile = DEVICES.replace(row_copies=4, reference_inputs="rows", drift_compensation=compensation)
    twin = frozen_layer(stacked(digital, 4), tile.replace(row_copies=1))
    layer, x = frozen_layer(digital, tile), torch.rand(1, 4, generator=seeded())
    found = torch.cat([on_chip(layer, i, t_inference)(x) for i in range(300)])
    literal = torch.cat([on_chip(twin, 5000 + i, t_inference)(x.repeat(1, 4)) / 4 for i in range(300)])
    if compensation == "none":
        assert all(same_distribution(found[:, i], literal[:, i]) for i in range(3))
    torch.testing.assert_close(found.mean(0), literal.mean(0), rtol=0.01, atol=0.006)
    torch.testing.assert_close(found.std(0), literal.std(0), rtol=0.25, atol=0)


def test_wires_are_as_long_as_all_copies():
    digital = nn.Linear(6, 4, bias=False)
    x = torch.rand(20, 6, generator=seeded())
    tile = TileSpec.ideal().replace(ir_drop=1.0, wire_resistance=20.0)
    found = frozen_layer(digital, tile.replace(row_copies=3))(x)
    literal = frozen_layer(stacked(digital, 3), tile)(x.repeat(1, 3)) / 3
    torch.testing.assert_close(found, literal, rtol=1e-5, atol=1e-6)
    assert float((found - frozen_layer(digital, tile)(x)).abs().max()) > 1e-3


def test_each_copy_has_its_own_input_noise():
    digital, n = nn.Linear(6, 2, bias=False), 20_000
    x = torch.rand(1, 6, generator=seeded()).expand(n, 6)
    tile = TileSpec.ideal().replace(input_noise=0.2, weight_read_noise=0.1)
    found = frozen_layer(digital, tile.replace(row_copies=4))(x)
    literal = frozen_layer(stacked(digital, 4), tile)(x.repeat(1, 4)) / 4
    assert all(same_distribution(found[:, i], literal[:, i]) for i in range(2))


def test_as_many_copies_as_fit():
    layer = frozen_layer(nn.Linear(100, 60), NOISY.replace(row_copies=9, column_copies=9))
    assert (layer.tile_in_use.row_copies, layer.tile_in_use.column_copies) == (2, 4)
    assert count_devices(layer.tile_in_use) == 8
    whole = frozen_layer(nn.Linear(200, 200), NOISY.replace(row_copies=9, column_copies=9))
    assert count_devices(whole.tile_in_use) == 1


# -- device errors -----------------------------------------------------------------------------------------------------

COPIES = {
    "rows": {"row_copies": 4},
    "columns": {"column_copies": 4},
    "pairs": {"device_pairs": 4},
    "all": {"row_copies": 2, "column_copies": 4, "device_pairs": 2},
}


def errors_of(layer: AnalogLayer, n_chips: int = 60) -> Tensor:
    """Return the errors of the weights on several chips, in units of the largest weight of each column."""
    scale = layer.matrix().detach().abs().amax(dim=1, keepdim=True)
    return torch.stack(
        [(on_chip(layer, i, 0.0).take_read().matrix() - layer.matrix().detach()) / scale for i in range(n_chips)]
    )


@pytest.mark.parametrize("changes", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "build", [lambda: nn.Linear(9, 6), lambda: nn.Conv2d(4, 6, 3, groups=2)], ids=["linear", "grouped"]
)
def test_errors_of_devices_fall_with_the_root_of_the_copies(changes: dict[str, int], build):
    digital = build()
    one = errors_of(frozen_layer(digital, DEVICES)).std()
    layer = frozen_layer(digital, DEVICES.replace(**changes))
    n = count_devices(layer.tile_in_use)
    assert n == math.prod(changes.values())
    assert float(one / errors_of(layer).std()) == pytest.approx(math.sqrt(n), rel=0.08)


@pytest.mark.parametrize("kind", ["device", "programming"])
def test_training_averages_the_devices_of_all_copies(kind: str):
    hwa = HWASpec(weight_noise_kind=kind, t_longest=1.0)
    weights = torch.linspace(-1, 1, 2000).view(40, 50)

    def spread(**copies: int) -> float:
        tile = DEVICES.replace(hwa=hwa, **copies)
        return float((modify_weights(weights, tile, NoiseSource(seeded(), 0), drop_below=-math.inf) - weights).std())

    assert spread() / spread(row_copies=2, column_copies=2, device_pairs=4) == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_training_noise_is_divided_by_the_root_of_the_copies(kind: str):
    digital = nn.Linear(50, 400)
    hwa = HWASpec(weight_noise_kind=kind, weight_noise=0.1, weight_clip=None)
    tile = TileSpec.ideal().replace(hwa=hwa, row_copies=4)
    x = torch.ones(1, 50)
    layers = [frozen_layer(digital, each).train() for each in (tile, tile.replace(row_copies=1))]
    spread = [torch.cat([layer(x) for _ in range(200)]).std(dim=0).mean() for layer in layers]
    assert float(spread[1] / spread[0]) == pytest.approx(2, rel=0.04)


@pytest.mark.parametrize(("drops", "expected"), [(True, 1), (False, 4)])
def test_training_has_the_output_noise_of_the_reads(drops: bool, expected: int):
    tile = NOISY.replace(n_reads=16, hwa=HWASpec(weight_noise=0.0, weight_clip=None, output_noise=not drops))
    digital, x = nn.Linear(9, 4, bias=False), torch.ones(1, 9).expand(5000, 9)
    spread = [frozen_layer(digital, each).train()(x).std(0).mean() for each in (tile.replace(n_reads=1), tile)]
    if drops:
        assert float(spread[0]) == float(spread[1]) == 0.0  # without output noise every read is the same
    else:
        assert float(spread[0] / spread[1]) == pytest.approx(expected, rel=0.05)


def test_copies_on_columns_with_little_noise_are_read_one_by_one():
    """With converters alone: the mean of the rounded products of each programmed copy."""
    digital = nn.Linear(6, 5)
    tile = QUIET.replace(device=DeviceSpec.pcm(), column_copies=3)
    assert not merges_copies(tile)
    layer = on_chip(frozen_layer(digital, tile))
    ((weights, scale),) = layer.take_read().weights
    assert weights.shape == (3, 5, 6)
    x = torch.rand(20, 6, generator=seeded())
    codes = (x * 127).round() / 127
    sums = torch.stack([codes @ each.T for each in weights])
    expected = ((sums / STEP).round().clamp(-127, 127) * STEP).mean(0) * scale + digital.bias.detach()
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    mean = copy.deepcopy(layer)
    mean.use_read_(type(layer.take_read())(layer.programmed_rows()))
    assert float((mean(x) - expected).abs().max()) > 1e-3


def test_vectors_take_copies_on_columns_that_are_read_one_by_one():
    digital = nn.Conv2d(2, 4, 3, groups=2)
    tile = QUIET.replace(device=DeviceSpec.pcm(), column_copies=3, rows=40, cols=20)
    layer = on_chip(frozen_layer(digital, tile))
    x = torch.rand(2, 2, 5, 5, generator=seeded())
    expected = layer(x)
    layer.use_tile_(tile.replace(bound_management="iterative"))
    torch.testing.assert_close(on_chip(layer)(x), expected, rtol=1e-5, atol=1e-6)


# -- reference reads, calibration, ensembles ---------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"n_reads": 16}, {"row_copies": 4}, {"column_copies": 16}], ids=str)
def test_reference_reads_have_the_noise_of_the_policy(changes: dict[str, int]):
    """The mean magnitude of a column of zeros is that of the noise, ``sqrt(2 / pi) sigma``; it is a quarter here."""
    zeros = torch.zeros(40, 2000)
    fine = NOISY.replace(adc_bits=16, drift_compensation="global")
    one, policy = (float(reference_read(zeros, each, seeded())) for each in (fine, fine.replace(**changes)))
    assert one == pytest.approx(math.sqrt(2 / math.pi) * 0.06, rel=0.02)
    assert one / policy == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("inputs", ["rows", "signs"])
@pytest.mark.parametrize("drift", ["global", "per_column"])
def test_drift_is_compensated_with_copies(inputs: str, drift: str):
    tile = TileSpec.pcm(
        reference_inputs=inputs, drift_compensation=drift, row_copies=4, column_copies=2, n_reads=4, device_pairs=2
    )
    digital = nn.Linear(60, 60, bias=False)
    layer = on_chip(frozen_layer(digital, tile))
    gain = float((layer.take_read().matrix() * digital.weight.detach()).sum() / digital.weight.detach().square().sum())
    assert gain == pytest.approx(1.0, abs=0.03)


def test_the_range_of_inputs_counts_sums_beyond_the_divided_bound():
    digital = nn.Linear(10, 3, bias=False)
    digital.weight.data.fill_(0.5)
    x = torch.rand(64, 10, generator=seeded()).add_(0.5)
    ranges = {}
    for copies in (1, 8):
        model = nn.Sequential(copy.deepcopy(digital))
        convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), NOISY.replace(row_copies=copies))
        ranges[copies] = calibrate_input_ranges_(model, lambda net: net(x))["0"]
        assert measure_saturation(model, lambda net: net(x))["0"] < 0.01
    assert ranges[8] > 4 * ranges[1]  # sums of up to 10 full-scale inputs, eight times, and a bound of 12


def test_less_noise_allows_a_larger_range():
    digital, x = nn.Linear(64, 32, bias=False), torch.randn(512, 64, generator=seeded())
    ranges = []
    for k in (1, 64):
        model = nn.Sequential(copy.deepcopy(digital))
        convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), NOISY.replace(n_reads=k, output_noise=0.2))
        ranges.append(calibrate_input_ranges_(model, lambda net: net(x))["0"])
    assert ranges[1] > 1.15 * ranges[0]


@pytest.mark.parametrize("noise", [0.06, 0.0], ids=["merged", "one by one"])
def test_an_ensemble_reads_the_same_copies(noise: float):
    tile = TileSpec.pcm(output_noise=noise, row_copies=2, column_copies=2, n_reads=2)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    convert_to_analog_(model, LayerMapping(dict.fromkeys("02", Placement.ANALOG)), tile)
    layers = analog_layers(model)
    for layer in layers.values():
        layer.analog_input_range.fill_(1.0)
    streams = RandomStreams(3)
    ensemble = ChipEnsemble(model.eval(), n_chips=2, times=[1.0, DAY], streams=streams)
    reads = list(ensemble.program(1))
    generator = streams.generator("chip", 1)
    program_chip_(model, generator)
    for time, of_time in zip((1.0, DAY), reads, strict=True):
        drift_chip_(model, time, generator)
        for layer, read in zip(layers.values(), of_time, strict=True):
            assert torch.equal(layer.take_read().matrix(), read.matrix())
            assert layer.take_read().weights[0][0].ndim == (2 if noise else 3)


# -- changes after the conversion --------------------------------------------------------------------------------------


def test_a_policy_can_change_after_the_conversion():
    digital, x = nn.Linear(9, 4), torch.rand(30, 9, generator=seeded())
    new = QUIET.replace(n_reads=2, row_copies=3, column_copies=2, device_pairs=2, digital_weights=3)
    model = nn.Sequential(copy.deepcopy(digital))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), QUIET)
    model[0].analog_input_range.fill_(1.0)
    set_tiles_(model.eval(), {"0": new})
    assert torch.equal(model(x), frozen_layer(digital, new)(x))
    set_tiles_(model, {"0": new.replace(input_range="sample")})
    assert torch.equal(model(x), frozen_layer(digital, new.replace(input_range="sample"))(x))
    set_tiles_(model, {"0": QUIET})
    assert torch.equal(model(x), frozen_layer(digital, QUIET)(x))
    assert "analog_digital_places" not in model[0].state_dict()


@pytest.mark.parametrize("changes", [{"row_copies": 2}, {"digital_weights": 1}, {"device_pairs": 2}], ids=str)
def test_layers_with_one_weight_have_one_set_of_devices(changes: dict[str, int]):
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), DEVICES)
    set_tiles_(model, {"1": DEVICES.replace(**changes)})
    with pytest.raises(ConfigError, match=f"{next(iter(changes))}: got .* share a weight"):
        program_chip_(model, seeded())
    set_tiles_(model, {"0": DEVICES.replace(**changes)})
    program_chip_(model, seeded())
    drift_chip_(model, DAY, seeded())
    assert torch.equal(model[0].take_read().matrix(), model[1].take_read().matrix())
