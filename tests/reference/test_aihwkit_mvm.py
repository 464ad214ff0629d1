"""Matrix-vector products and gradients against an installed AIHWKIT: every layer kind, split and unsplit, noise off.

AIHWKIT 1.1.0 offers its torch tiles, a 1.2.0 built here its C++ tiles too; what needs the latter skips without them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog import AnalogLayer, convert_to_analog_, drift_chip_, program_chip_
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.mapping import LayerMapping, Placement

pytestmark = pytest.mark.xref
pytest.importorskip("aihwkit", reason="compares with AIHWKIT, which is not installed")

from aihwkit.nn import AnalogConv2d, AnalogLinear  # noqa: E402
from aihwkit.simulator.configs import (  # noqa: E402
    BoundManagementType,
    InferenceRPUConfig,
    NoiseManagementType,
    TorchInferenceRPUConfig,
    WeightNoiseType,
)

QUIET = TileSpec(
    device=DeviceSpec.ideal(),
    output_noise=0.0,
    drift_compensation="none",
    hwa=HWASpec(weight_noise=0.0, weight_clip=None),
)
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(40, 24), (16, 40)),
    "Conv1d": (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=1), (3, 4, 20)),
    "Conv2d": (lambda: nn.Conv2d(5, 7, 3, padding=1), (2, 5, 8, 7)),
    "Conv2d dilated": (lambda: nn.Conv2d(5, 7, 3, dilation=2, stride=2), (2, 5, 9, 9)),
    "Conv3d": (lambda: nn.Conv3d(2, 5, 3, padding=1), (2, 2, 4, 5, 6)),
}
SIZES = {"whole": (256, 256), "split rows": (16, 256), "split columns": (256, 4), "both": (13, 3)}


@pytest.fixture(autouse=True)
def _fixed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        yield


def has_cpp_tiles() -> bool:
    try:
        AnalogLinear(2, 2, rpu_config=InferenceRPUConfig())(torch.ones(1, 2))
    except RuntimeError:
        return False
    return True


NEEDS_CPP = pytest.mark.skipif(
    not has_cpp_tiles(), reason="needs AIHWKIT with working C++ tiles (1.2.0 built from source)"
)


def configure(kind: type, size: tuple[int, int], bound_management: BoundManagementType) -> TorchInferenceRPUConfig:
    config = kind()
    config.forward.inp_res = config.forward.out_res = 1 / 254
    config.forward.out_noise = 0.0
    config.forward.noise_management = NoiseManagementType.ABS_MAX
    config.forward.bound_management = bound_management
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.max_input_size, config.mapping.max_output_size = size
    return config


class OverPatches(nn.Module):
    """AIHWKIT's linear layer over the patches of a convolution: its Conv1d and Conv3d run neither split nor on torch tiles."""

    def __init__(self, digital: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.linear, self.__dict__["digital"] = linear, digital
        size = digital.in_channels * math.prod(digital.kernel_size)
        self.patches = torch.eye(size).view(size, digital.in_channels, *digital.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        d = self.digital
        convolve = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim]
        rows = convolve(x, self.patches, None, d.stride, d.padding, d.dilation).movedim(1, -1)
        return self.linear(rows.reshape(-1, rows.shape[-1])).view(*rows.shape[:-1], -1).movedim(-1, 1)


def theirs_of(digital: nn.Module, config: TorchInferenceRPUConfig) -> nn.Module:
    weight = digital.weight.detach().reshape(len(digital.weight), -1)
    if isinstance(digital, nn.Conv2d):
        layer = AnalogConv2d(
            digital.in_channels,
            digital.out_channels,
            digital.kernel_size,
            digital.stride,
            digital.padding,
            digital.dilation,
            rpu_config=config,
        )
    else:
        layer = AnalogLinear(weight.shape[1], weight.shape[0], rpu_config=config)
    layer.set_weights(weight, digital.bias.detach())
    return layer if isinstance(digital, nn.Linear | nn.Conv2d) else OverPatches(digital, layer)


def ours_of(digital: nn.Module, tile: TileSpec, input_range: float = 1.0) -> AnalogLayer:
    model = nn.Sequential(copy.deepcopy(digital))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    model[0].analog_input_range.fill_(input_range)
    return model[0]


def spread_columns_(digital: nn.Module) -> nn.Module:
    """Give columns very different sizes, and one that drives the ADC out of its range."""
    n = len(digital.weight)
    digital.weight.data *= torch.logspace(-1, 1, n).view(-1, *[1] * (digital.weight.ndim - 1))
    digital.weight.data[0].uniform_(0.9, 1.0)
    return digital


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_products_with_a_range_for_each_vector(name: str, size: tuple[int, int]):
    build, shape = LAYERS[name]
    digital, x = spread_columns_(build()), torch.rand(shape) - 0.3
    theirs = theirs_of(digital, configure(TorchInferenceRPUConfig, size, BoundManagementType.NONE)).eval()(x)
    tile = QUIET.replace(rows=size[0], cols=size[1], input_range="dynamic")
    assert worst(ours_of(digital, tile).eval()(x), theirs) < 1e-5
    for changed in ({"dac_bits": 9}, {"adc_bits": 9}, {"output_bound": 12.1}, {"input_range": "static"}):
        assert worst(ours_of(digital, tile.replace(**changed)).eval()(x), theirs) > 1e-5, changed


@NEEDS_CPP
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", ["Linear", "Conv2d of one patch"])
def test_products_with_bound_management(name: str, size: tuple[int, int]):
    """Vector by vector, as the C++ tiles; the torch tiles read a whole batch again where one vector saturates."""
    digital = spread_columns_(nn.Linear(90, 7) if name == "Linear" else nn.Conv2d(10, 7, 3))
    digital.weight.data[1].uniform_(0.95, 1.0)  # 90 full-scale inputs: read again three times on a whole crossbar
    theirs = theirs_of(digital, configure(InferenceRPUConfig, size, BoundManagementType.ITERATIVE)).eval()
    tile = QUIET.replace(rows=size[0], cols=size[1], input_range="dynamic", bound_management="iterative")
    ours, unmanaged = ours_of(digital, tile).eval(), ours_of(digital, tile.replace(bound_management="none")).eval()
    vectors = torch.cat([torch.rand(12, 90), torch.ones(1, 90), torch.randn(12, 90), torch.zeros(1, 90)])
    x = vectors if name == "Linear" else vectors.view(-1, 10, 3, 3)
    expected = theirs(x)
    assert worst(ours(x), expected) < 1e-5
    assert (worst(unmanaged(x), expected) > 1e-2) == (size[0] > 12)


@pytest.mark.parametrize("name", LAYERS)
@NEEDS_CPP
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_products_equal_the_compiled_tiles(name: str, size: tuple[int, int]):
    build, shape = LAYERS[name]
    digital, x = spread_columns_(build()), torch.rand(shape) - 0.3
    theirs = theirs_of(digital, configure(InferenceRPUConfig, size, BoundManagementType.ITERATIVE)).eval()(x)
    tile = QUIET.replace(rows=size[0], cols=size[1], input_range="dynamic", bound_management="iterative")
    assert worst(ours_of(digital, tile).eval()(x), theirs) < 1e-5


def weights_of(theirs: nn.Module) -> tuple[Tensor, Tensor]:
    return getattr(theirs, "linear", theirs).get_weights()


def gradients(layer: nn.Module, x: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = layer.train()(x)
    (out * upstream).sum().backward()
    return out, x.grad


@pytest.mark.parametrize("perfect", [True, False], ids=["perfect", "converters"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_training_layers(name: str, size: tuple[int, int], perfect: bool):
    """One step of their SGD shows their weight gradient; converters are compared where their backward pass is exact."""
    if not perfect and not has_cpp_tiles():
        pytest.skip("needs AIHWKIT with working C++ tiles (1.2.0 built from source)")
    build, shape = LAYERS[name]
    digital, x = build(), torch.rand(shape) - 0.3
    config = configure(TorchInferenceRPUConfig if perfect else InferenceRPUConfig, size, BoundManagementType.NONE)
    config.forward.is_perfect = perfect
    tile = QUIET.replace(rows=size[0], cols=size[1], input_range="dynamic")
    if perfect:
        tile = TileSpec.ideal(*size)
    theirs, ours = theirs_of(digital, config), ours_of(digital, tile)
    upstream = torch.randn(digital(x).shape)
    from aihwkit.optim import AnalogSGD

    optimizer = AnalogSGD(theirs.parameters(), lr=1.0)
    optimizer.regroup_param_groups(theirs)
    their_out, their_x = gradients(theirs, x, upstream)
    our_out, our_x = gradients(ours, x, upstream)
    assert worst(our_out, their_out) < 1e-5
    assert worst(our_x, their_x) < 1e-5
    before, bias = (each.detach().clone() for each in weights_of(theirs))
    optimizer.step()
    after, bias_after = (each.detach() for each in weights_of(theirs))
    assert (
        worst(ours.weight.grad.reshape(before.shape), before - after) < 1e-4
    )  # their difference of weights, single precision
    assert worst(ours.bias.grad, bias - bias_after) < 1e-4
    assert worst(our_x * 1.001, their_x) > 1e-4  # and this would be noticed


def test_per_column_compensation():
    from aihwkit.inference.compensation.drift import PerColumnDriftCompensation

    digital = nn.Linear(128, 16, bias=False)
    digital.weight.data.normal_(0, 0.05)
    config = configure(TorchInferenceRPUConfig, (256, 256), BoundManagementType.NONE)
    config.drift_compensation = PerColumnDriftCompensation()
    theirs = AnalogLinear(128, 16, bias=False, rpu_config=config)
    theirs.set_weights(digital.weight.detach())
    theirs.eval()
    ours = ours_of(digital, TileSpec(drift_compensation="per_column", output_noise=0.0)).eval()
    generator, mine, expected = torch.Generator().manual_seed(3), [], []
    for _ in range(60):
        theirs.program_analog_weights()
        theirs.drift_analog_weights(86_400.0)
        ((tile),) = theirs.analog_tiles()
        expected.append(tile.alpha.flatten().clone())
        program_chip_(ours, generator)
        drift_chip_(ours, 86_400.0, generator)
        ((_, scaled),) = ours._programmed
        mine.append(scaled / ours._scales[0])
    one, other = torch.stack(mine), torch.stack(expected)
    assert one.shape == other.shape == (60, 16)
    error = ((one.var() + other.var()) / one.numel()).sqrt()
    assert error < 2e-3 * other.mean()
    assert (one.mean() - other.mean()).abs() < 4 * error
    assert (one.mean() * 1.02 - other.mean()).abs() > 4 * error
    assert one.std() == pytest.approx(float(other.std()), rel=0.15)


# ------------------------------------------------------------------------------------------- what disturbs the product


def disturbed(tile: TileSpec) -> tuple[nn.Module, nn.Module, Tensor]:
    """Return a linear layer on our tiles and on AIHWKIT's compiled ones, and inputs."""
    digital = nn.Linear(40, 24)
    config = configure(InferenceRPUConfig, (tile.rows, tile.cols), BoundManagementType.NONE)
    forward = config.forward
    forward.inp_noise, forward.w_noise, forward.ir_drop = tile.input_noise, tile.weight_read_noise, tile.ir_drop
    if tile.weight_read_noise > 0:
        by_weight = tile.weight_read_noise_kind == "root"
        forward.w_noise_type = WeightNoiseType.PCM_READ if by_weight else WeightNoiseType.ADDITIVE_CONSTANT
    if tile.dac_bits is None:
        forward.inp_res = forward.out_res = -1.0
    forward.ir_drop_g_ratio = 1 / (tile.wire_resistance * 1e-6 * tile.device.g_max)
    theirs = theirs_of(digital, config)
    return ours_of(digital, tile.replace(input_range="dynamic")).eval(), theirs.eval(), torch.randn(16, 40)


@NEEDS_CPP
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ir_drop", [0.5, 1.0])
def test_voltage_lost_in_wires_is_that_of_compiled_tiles(size: str, ir_drop: float):
    rows, cols = SIZES[size]
    tile = QUIET.replace(rows=rows, cols=cols, ir_drop=ir_drop, dac_bits=None, adc_bits=None, wire_resistance=100.0)
    ours, theirs, x = disturbed(tile)
    with torch.no_grad():
        mine, other, clean = ours(x), theirs(x), F.linear(x, ours.weight, ours.bias)
    scale = float(other.abs().max())
    assert float((mine - other).abs().max()) < 1e-5 * scale
    assert float((clean - other).abs().max()) > 1e-3 * scale
    wrong = ours_of(nn.Linear(40, 24), tile.replace(input_range="dynamic", wire_resistance=102.0)).eval()
    wrong.load_state_dict(ours.state_dict())
    with torch.no_grad():
        assert float((wrong(x) - other).abs().max()) > 1e-5 * scale


@NEEDS_CPP
@pytest.mark.parametrize("cols", [24, 5])
@pytest.mark.parametrize(
    "settings",
    [
        {"input_noise": 0.05},
        {"weight_read_noise": 0.05},
        {"weight_read_noise": 0.05, "weight_read_noise_kind": "root"},
    ],
    ids=["inputs", "weights", "weights of PCM"],
)
def test_noise_in_the_product_is_that_of_compiled_tiles(settings: dict[str, float], cols: int):
    """Compiled tiles draw from a table of 32,768 normal numbers, made when a tile is and seeded by the clock (``rng.h``).

    The table's own sigma is off by 1/sqrt(2 * 32,768), 0.4 %, for all products of a tile: so the limit counts tiles, not
    products. A sigma 2 % off is seen.
    """
    tile = QUIET.replace(rows=20, cols=cols, dac_bits=None, adc_bits=None, **settings)
    n, n_layers, off_by = 1500, 12, []
    for _ in range(n_layers):
        ours, theirs, x = disturbed(tile)
        with torch.no_grad():
            mine, other = (layer(x.repeat(n, 1)).view(n, 16, 24).std(dim=0) for layer in (ours, theirs))
        assert float(other.min()) > 0
        ratio = (mine / other).log()
        assert float(ratio.std()) < 2.5 / math.sqrt(n)  # sqrt(1/n) from two estimates of sigma
        off_by.append(float(ratio.mean()))
    error = 0.005 / math.sqrt(
        n_layers
    )  # the table, and as much again for what the 16 vectors and our own draws leave open
    assert abs(sum(off_by) / n_layers) < 5 * error
    assert 10 * error < math.log(1.02)
