"""Input ranges: the ADC's range counts, layers that no input reaches are named."""

import copy
import math
import warnings

import pytest
import torch
from exact_tiles import convert_all_
from torch import Tensor, nn

from lionheart.analog import (
    calibrate_input_ranges_,
    drift_chip_,
    measure_saturation,
    program_chip_,
)
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import CalibrationWarning, ConfigError

#: Converters only.
QUIET = TileSpec(device=DeviceSpec.ideal(), output_noise=0.0, drift_compensation="none")
PATTERN = torch.randn(384, generator=torch.Generator().manual_seed(1)).sign()
LOUD = 0.5 * torch.randn(512, 384, generator=torch.Generator().manual_seed(2)) + 0.25 * torch.randn(
    512, 1, generator=torch.Generator().manual_seed(3)
) * PATTERN  # fmt: skip


pytestmark = pytest.mark.usefixtures("fixed_weights")


def place_(model: nn.Module, tile: TileSpec) -> nn.Module:
    return convert_all_(model.eval(), tile)


def head(kind: str = "linear") -> tuple[nn.Module, Tensor]:
    """A layer all of whose weights pull in the direction of the inputs, as the head of a question answerer does."""
    weight = 0.05 * torch.stack([PATTERN, -PATTERN]) * (0.5 + torch.rand(2, 384))
    layer: nn.Module = nn.Linear(384, 2) if kind == "linear" else nn.Conv1d(384, 2, 1)
    with torch.no_grad():
        layer.weight.copy_(weight.view_as(layer.weight))
    return nn.Sequential(layer), LOUD if kind == "linear" else LOUD.unsqueeze(-1)


# -- bug case 42, faults A14: sums beyond the ADC's range were not in the error ----------------------------------------


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("rows", [128, 256, 512])
def test_large_sums_get_a_range_in_which_they_fit(rows: int, kind: str):
    model, x = head(kind)
    expected = model(x).detach()
    place_(model, QUIET.replace(rows=rows, cols=rows))
    calibrate_input_ranges_(model, lambda net: net(x))
    assert float((model(x).detach() - expected).norm() / expected.norm()) < 0.1
    assert measure_saturation(model, lambda net: net(x))["0"] < 0.02


def test_sums_within_the_range_change_nothing():
    model, x = nn.Sequential(nn.Linear(384, 8)), 0.1 * LOUD
    ranges = [
        calibrate_input_ranges_(place_(copy.deepcopy(model), QUIET.replace(output_bound=bound)), lambda net: net(x), ["0"])
        for bound in (1e3, 1e3 + 1)
    ]  # fmt: skip
    assert ranges[0]["0"] == pytest.approx(ranges[1]["0"])
    assert ranges[0]["0"] <= float(x.abs().max()) * (1 + 1e-6)  # no larger than the largest input


def test_output_noise_speaks_against_a_larger_range():
    found = {}
    for noise in (0.0, 0.5):
        model, x = head()
        place_(model, QUIET.replace(rows=512, cols=512, output_noise=noise))
        found[noise] = calibrate_input_ranges_(model, lambda net, x=x: net(x))["0"]
    assert found[0.0] > found[0.5]


@pytest.mark.parametrize("tile", [QUIET, QUIET.replace(input_range="dynamic")], ids=["static", "dynamic"])
def test_the_share_of_saturated_sums_is_that_of_a_loop(tile: TileSpec):
    model, x = head()
    x = x[:256]  # what calibration keeps of a call
    place_(model, tile.replace(rows=192, cols=2, output_bound=3.0))
    layer = model[0]
    layer.analog_input_range.fill_(1.0)
    beyond = []
    for vector in x:
        for first in (0, 192):
            part = vector[first : first + 192]
            scale = float(part.abs().max()) if tile.input_range == "dynamic" else 1.0
            codes = (part / scale * 127).round().clamp(-127, 127) / 127
            weights = layer.weight[:, first : first + 192].detach()
            beyond.append((weights / weights.abs().amax(dim=1, keepdim=True) @ codes).abs() > 3.0)
    share = float(torch.stack(beyond).double().mean())
    assert 0.1 < share < 0.95
    assert measure_saturation(model, lambda net: net(x))["0"] == pytest.approx(share, abs=2e-3)


def test_saturation_of_a_chip_and_of_tiles_that_do_not_saturate():
    model, x = head()
    place_(model, TileSpec.pcm(rows=512, cols=512))
    layer = model[0]
    layer.analog_input_range.fill_(0.5)
    exact = measure_saturation(model, lambda net: net(x))["0"]
    program_chip_(model, torch.Generator().manual_seed(0))
    drift_chip_(model, 3.15e7, torch.Generator().manual_seed(0))
    assert 0 < measure_saturation(model, lambda net: net(x))["0"] < exact  # drift lowers the currents
    for tile in (TileSpec.ideal(), QUIET.replace(bound_management="iterative")):
        model, x = head()
        place_(model, tile)
        calibrate_input_ranges_(model, lambda net, x=x: net(x))
        assert measure_saturation(model, lambda net, x=x: net(x)) == {"0": 0.0}
    assert measure_saturation(model, lambda net: None) == {}


# -- bug case 11: layers that no input reaches -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_inputs_that_are_not_finite_are_named(value: float, kind: str):
    """Bug case 22: the input range became NaN or infinite without a word."""
    model, x = head(kind)
    x = x.clone()
    x.view(-1)[5] = value
    place_(model, QUIET)
    with pytest.raises(ConfigError, match="calibration: got NaN or infinite inputs of layer '0'"):
        calibrate_input_ranges_(model, lambda net: net(x))
    assert model[0].analog_input_range == 0


class Experts(nn.Module):
    """Each token goes to the expert of its sign; one without tokens runs on none, or not at all."""

    def __init__(self, *, calls_empty: bool) -> None:
        super().__init__()
        self.experts, self.calls_empty = nn.ModuleList(nn.Linear(8, 8) for _ in range(2)), calls_empty

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = (x[:, 0] > 0) == bool(index)
            if self.calls_empty or rows.any():
                out[rows] = expert(x[rows])
        return out


@pytest.mark.parametrize("calls_empty", [True, False])
def test_a_layer_that_no_input_reaches_is_named_once_and_ranged_by_its_first_input(calls_empty: bool):
    model, some, every = Experts(calls_empty=calls_empty), torch.rand(16, 8), torch.randn(64, 8)
    place_(model, TileSpec.pcm())
    with pytest.warns(CalibrationWarning, match=r"^calibration: no input reached experts\.0; ") as said:
        ranges = calibrate_input_ranges_(model, lambda net: net(some))
    assert len(said) == 1
    assert list(ranges) == ["experts.1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate_input_ranges_(model, lambda net: net(some))
        model(some)
        assert model.experts[0].analog_input_range == 0
        assert torch.isfinite(model(every)).all()
    largest = every[every[:, 0] <= 0].abs().max()
    assert math.isclose(float(model.experts[0].analog_input_range), float(largest), rel_tol=1e-6)
    model.train()(some).sum().backward()


@pytest.mark.parametrize("calls_empty", [True, False])
def test_a_later_pass_of_calibration_may_reach_it(calls_empty: bool):
    model, some, every = Experts(calls_empty=calls_empty), torch.rand(16, 8), torch.randn(64, 8)
    place_(model, TileSpec.pcm())
    ranges = calibrate_input_ranges_(model, lambda net: (net(some), net(every)))
    assert sorted(ranges) == ["experts.0", "experts.1"]
