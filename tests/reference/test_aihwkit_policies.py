"""Read policies against AIHWKIT's tiles: what it can express is carried, and the rest is built literally from its tiles."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

pytestmark = pytest.mark.xref
pytest.importorskip("aihwkit", reason="compares with AIHWKIT, which is not installed")

from aihwkit.nn.modules.container import AnalogWrapper  # noqa: E402

from lionheart.analog import AnalogLayer, analog_layers, convert_to_analog_, set_tiles_  # noqa: E402
from lionheart.analog.noise import NoiseSource  # noqa: E402
from lionheart.devices import DeviceSpec, HWASpec, TileSpec  # noqa: E402
from lionheart.errors import ConfigError  # noqa: E402
from lionheart.interop.aihwkit import ConversionWarning, to_aihwkit_, to_rpu_config  # noqa: E402
from lionheart.jobs.backend import find_backend  # noqa: E402
from lionheart.mapping import LayerMapping, Placement  # noqa: E402

NOISY = TileSpec(device=DeviceSpec.ideal(), drift_compensation="none", hwa=HWASpec(weight_noise=0.0, weight_clip=None))
QUIET = NOISY.replace(output_noise=0.0)


@pytest.fixture(autouse=True)
def _fixed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(29)
        yield


def ours_of(digital: nn.Module, tile: TileSpec) -> nn.Sequential:
    model = nn.Sequential(copy.deepcopy(digital)).eval().requires_grad_(False)
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    layer = model[0]
    assert isinstance(layer, AnalogLayer)
    layer.noise = NoiseSource(torch.Generator().manual_seed(7), pool_size=0)
    layer.analog_input_range.data.fill_(1.0)
    return model


def theirs_of(digital: nn.Module, tile: TileSpec) -> nn.Module:
    return to_aihwkit_(ours_of(digital, tile)).eval()


def stacked(linear: nn.Linear, copies: int) -> nn.Linear:
    again = nn.Linear(copies * linear.in_features, linear.out_features, bias=False)
    again.weight.data = linear.weight.detach().repeat(1, copies)
    return again


@torch.no_grad()
def run(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


@pytest.mark.parametrize("copies", [2, 4])
def test_repeated_rows_are_their_tile_with_repeated_rows(copies: int):
    digital, x = nn.Linear(9, 5, bias=False), torch.rand(1, 9)
    many = x.expand(20_000, 9)
    ours = ours_of(digital, QUIET.replace(row_copies=copies))
    assert ours[0].tile_in_use.row_copies == copies
    theirs = theirs_of(stacked(digital, copies), QUIET)
    torch.testing.assert_close(run(ours, x), run(theirs, x.repeat(1, copies)) / copies, rtol=1e-5, atol=1e-6)
    ours, theirs = ours_of(digital, NOISY.replace(row_copies=copies)), theirs_of(stacked(digital, copies), NOISY)
    found, literal = run(ours, many), run(theirs, many.repeat(1, copies)) / copies
    torch.testing.assert_close(found.std(0), literal.std(0), rtol=0.04, atol=0)
    torch.testing.assert_close(found.mean(0), literal.mean(0), rtol=0, atol=0.002)


@pytest.mark.parametrize("noise", [0.06, 0.02], ids=["one read stands for many", "one by one"])
def test_averaged_reads_are_the_mean_of_their_reads(noise: float):
    digital, tile = nn.Linear(9, 5, bias=False), NOISY.replace(output_noise=noise)
    x = torch.rand(1, 9).expand(10_000, 9)
    theirs = theirs_of(digital, tile)
    literal = torch.stack([run(theirs, x) for _ in range(4)]).mean(0)
    found = run(ours_of(digital, tile.replace(n_reads=4)), x)
    torch.testing.assert_close(found.std(0), literal.std(0), rtol=0.06, atol=2e-4)
    torch.testing.assert_close(found.mean(0), literal.mean(0), rtol=0, atol=0.002)


@pytest.mark.parametrize("compensation", ["none", "global"])
def test_programmed_copies_are_their_programmed_stack(compensation: str):
    digital, day = nn.Linear(12, 8, bias=False), 86_400.0
    tile = TileSpec.ideal().replace(
        device=DeviceSpec.pcm(), drift_compensation=compensation, row_copies=4, reference_inputs="rows"
    )
    layer, eye, generator = ours_of(digital, tile)[0], torch.eye(12), torch.Generator().manual_seed(3)
    found, literal = [], []
    theirs = AnalogWrapper(theirs_of(stacked(digital, 4), tile.replace(row_copies=1)))
    exact = [each.tile.get_weights().clone() for each in theirs.analog_tiles()]
    for _ in range(60):
        layer.program_(generator)
        layer.drift_(day, generator)
        found.append(run(layer, eye))
        for each, weights in zip(theirs.analog_tiles(), exact, strict=True):
            each.tile.set_weights(weights)
        theirs.program_analog_weights()
        theirs.drift_analog_weights(day)
        literal.append(run(theirs, eye.repeat(1, 4)) / 4)
    ours, others = torch.stack(found), torch.stack(literal)
    scale = digital.weight.detach().abs().amax(dim=1)
    for statistic in (lambda e: (e / scale).std(0).mean(), lambda e: (e.mean(0) / scale).abs().mean()):
        assert float(statistic(ours)) == pytest.approx(float(statistic(others)), rel=0.04)


def test_reads_without_an_adc_are_one_read_with_less_noise():
    tile = TileSpec.ideal().replace(output_noise=0.06, input_noise=0.04, n_reads=16)
    assert to_rpu_config(tile).forward.out_noise == pytest.approx(0.06 / 4)
    assert to_rpu_config(tile).forward.inp_noise == pytest.approx(0.04 / 4)
    digital, x = nn.Linear(9, 5, bias=False), torch.rand(1, 9).expand(20_000, 9)
    found, literal = run(ours_of(digital, tile), x), run(theirs_of(digital, tile), x)
    torch.testing.assert_close(found.std(0), literal.std(0), rtol=0.04, atol=0)
    assert float((found.std(0) / (0.015 * digital.weight.detach().abs().amax(dim=1))).min()) > 0.99


def test_the_range_of_a_token_is_that_of_their_vector():
    digital, x = nn.Linear(9, 5), torch.randn(30, 9) * torch.logspace(-2, 2, 30).unsqueeze(1)
    tile = QUIET.replace(input_range="sample")
    torch.testing.assert_close(run(ours_of(digital, tile), x), run(theirs_of(digital, tile), x), rtol=1e-4, atol=1e-4)


REFUSED = {
    "reads": (nn.Linear(9, 5), {"n_reads": 4}, "^0: TileSpec.n_reads: 4"),
    "rows": (nn.Linear(9, 5), {"row_copies": 2}, "^0: TileSpec.row_copies: 2"),
    "columns": (nn.Linear(9, 5), {"column_copies": 2}, "^0: TileSpec.column_copies: 2"),
    "pairs": (nn.Linear(9, 5), {"device_pairs": 2}, "^0: TileSpec.device_pairs: 2"),
    "digital": (nn.Linear(9, 5), {"digital_weights": 2}, "^0: TileSpec.digital_weights: 2"),
    "image": (nn.Conv2d(2, 3, 3), {"input_range": "sample"}, "^0: TileSpec.input_range: 'sample'"),
    "split tokens": (nn.Linear(9, 5), {"input_range": "sample", "rows": 5}, "^0: TileSpec.input_range: 'sample'"),
}


@pytest.mark.parametrize(("digital", "changes", "message"), REFUSED.values(), ids=REFUSED)
def test_other_policies_are_refused(digital: nn.Module, changes: dict[str, int | str], message: str):
    with pytest.raises(ConfigError, match=f"{message}: no counterpart in AIHWKIT's torch tiles"):
        to_aihwkit_(ours_of(digital, NOISY.replace(**changes)))
    with pytest.warns(ConversionWarning, match=message):
        to_aihwkit_(ours_of(digital, NOISY.replace(**changes)), strict=False)
    backend, model = find_backend("aihwkit"), nn.Sequential(copy.deepcopy(digital))
    with pytest.raises(ConfigError, match=message.replace("^0: ", "^")):
        backend.check_tile(NOISY.replace(**changes))
    with pytest.raises(ConfigError, match=message.replace("^0: ", "^")):
        backend.convert_(model, LayerMapping({"0": Placement.ANALOG}), NOISY.replace(**changes))
    assert analog_layers(model) == {}


def test_copies_that_do_not_fit_are_none():
    model = theirs_of(nn.Linear(200, 200), QUIET.replace(row_copies=4, column_copies=4))
    assert analog_layers(model) == {}


def test_settings_of_layers_on_the_backend_change_with_their_tiles():
    tile, model = TileSpec.pcm(drift_compensation="global"), nn.Sequential(nn.Linear(60, 20, bias=False))
    find_backend("aihwkit").convert_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    model[0].analog_input_range.data.fill_(1.0)
    with pytest.raises(ConfigError, match="TileSpec.n_reads: 2"):
        set_tiles_(model, {"0": tile.replace(n_reads=2)})
    gains = []
    for kind in ("global", "none"):
        set_tiles_(model, {"0": tile.replace(drift_compensation=kind)})
        generator = torch.Generator().manual_seed(1)
        model[0].program_(generator)
        model[0].drift_(3e7, generator)
        weight = model[0].weight.detach()
        gains.append(float((model[0].take_read().matrix() * weight).sum() / weight.square().sum()))
    assert gains[0] == pytest.approx(1.0, abs=0.1)
    assert gains[1] < 0.75
    assert math.isfinite(sum(gains))
