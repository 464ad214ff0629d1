"""What training does on tiles against an installed AIHWKIT: noise, rounding and clipping of weights, gradients of ranges.

Products and gradients without an input range are in `test_aihwkit_mvm`. Torch tiles suffice for most; compiled tiles are
compared too where they work. Every comparison is shown to fail when a setting differs.
"""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from lionheart.analog import AnalogLayer, clip_weights_, convert_to_analog_, drift_chip_, program_chip_
from lionheart.devices import DeviceSpec, HWASpec, TileSpec
from lionheart.mapping import LayerMapping, Placement

pytestmark = pytest.mark.xref
pytest.importorskip("aihwkit", reason="compares with AIHWKIT, which is not installed")

from aihwkit.inference.compensation.drift import PerColumnDriftCompensation  # noqa: E402
from aihwkit.nn import AnalogConv2d, AnalogLinear  # noqa: E402
from aihwkit.optim import AnalogSGD  # noqa: E402
from aihwkit.simulator.configs import (  # noqa: E402
    BoundManagementType,
    InferenceRPUConfig,
    NoiseManagementType,
    TorchInferenceRPUConfig,
)
from aihwkit.simulator.parameters.enums import WeightClipType, WeightModifierType  # noqa: E402


def compiled_tiles_work() -> bool:
    try:
        return bool(AnalogLinear(2, 2, rpu_config=InferenceRPUConfig())(torch.ones(1, 2)).isfinite().all())
    except (RuntimeError, ImportError, AttributeError):
        return False


needs_compiled = pytest.mark.skipif(not compiled_tiles_work(), reason="AIHWKIT's compiled (C++) tiles do not work here")
TORCH = pytest.param(TorchInferenceRPUConfig, id="torch tile")
COMPILED = pytest.param(InferenceRPUConfig, id="compiled tile", marks=needs_compiled)
TILES = pytest.mark.parametrize("kind", [TORCH, COMPILED])
Config = TorchInferenceRPUConfig | InferenceRPUConfig

#: Converters only: nothing random.
QUIET = TileSpec(
    device=DeviceSpec.ideal(),
    output_noise=0.0,
    drift_compensation="none",
    hwa=HWASpec(weight_noise=0.0, weight_clip=None),
)
RANGE = 1.3  # of static inputs; some are beyond


@pytest.fixture(autouse=True)
def _fixed_draws() -> Iterator[None]:
    """AIHWKIT draws from the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(19)
        yield


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def configure(kind: type[Config], size: tuple[int, int] = (0, 0), *, bits: int = 8) -> Config:
    """Return their configuration with converters only, one scale for each column and a range for each vector."""
    config = kind()
    config.forward.inp_res = config.forward.out_res = 1 / (2**bits - 2)
    config.forward.out_noise = 0.0
    config.forward.noise_management = NoiseManagementType.ABS_MAX
    config.forward.bound_management = BoundManagementType.NONE
    config.mapping.weight_scaling_omega = 1.0
    config.mapping.weight_scaling_columnwise = True
    config.mapping.max_input_size, config.mapping.max_output_size = size
    return config


def is_compiled(config: Config) -> bool:
    return type(config) is InferenceRPUConfig  # the other derives from it


def fix_range_(config: Config, *, learned: bool = False) -> None:
    """Let full scale stand for one value, their "input range"; it clips before bound management, as ours."""
    config.forward.noise_management = NoiseManagementType.NONE
    given = config.pre_post.input_range
    given.enable, given.init_value, given.init_from_data, given.learn_input_range = True, RANGE, 0, learned
    given.decay, given.gradient_relative = 0.0, False


def build_theirs(digital: nn.Module, config: Config) -> nn.Module:
    weight, bias = digital.weight.detach(), None if digital.bias is None else digital.bias.detach()
    if isinstance(digital, nn.Linear):
        layer = AnalogLinear(digital.in_features, digital.out_features, bias is not None, rpu_config=config)
    else:
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
        layer = AnalogConv2d(*(getattr(digital, each) for each in names), bias=bias is not None, rpu_config=config)
    layer.set_weights(weight.flatten(1).clone(), None if bias is None else bias.clone())
    return layer.eval()


def build_ours(digital: nn.Module, tile: TileSpec, input_range: float = RANGE) -> AnalogLayer:
    model = nn.Sequential(copy.deepcopy(digital))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile, generator=seeded(73))
    model[0].analog_input_range.data.fill_(input_range)
    return model.eval()[0]


def error(ours: Tensor, theirs: Tensor) -> float:
    """Return the largest deviation, relative to the largest of theirs."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


# -- gradients with an input range ------------------------------------------------------------------------------------

SIZES = {"whole": (256, 256), "split rows": (13, 256), "split columns": (256, 4), "both": (13, 3)}
on_sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
STEP = 1e3  # a large step: the difference of two weights is their gradient to single precision
RANGED = {
    "linear": (lambda: nn.Linear(40, 14), (24, 40)),
    "conv2d": (lambda: nn.Conv2d(4, 7, 3, padding=1), (3, 4, 7, 6)),
}


def ranged(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a layer that stays within the ADC's range, inputs of which a fifth is clipped, and a gradient of its outputs."""
    build, shape = RANGED[name]
    digital, x = build(), torch.randn(shape, generator=seeded(3))
    upstream = torch.randn(digital(x).shape, generator=seeded(5))
    return digital, x, upstream


def their_gradients(digital: nn.Module, config: Config, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    layer, x = build_theirs(digital, config).train(), x.clone().requires_grad_()
    optimiser = AnalogSGD(layer.parameters(), lr=STEP)
    optimiser.regroup_param_groups(layer)  # finds its tiles
    (layer(x) * upstream).sum().backward()
    ranges = [getattr(tile, "input_range", None) for tile in layer.analog_tiles()]
    slopes = [each.grad.sum() for each in ranges if each is not None and each.grad is not None]
    before = [each.detach().clone() for each in layer.get_weights()]
    optimiser.step()
    weight, bias = ((a - b.detach()) / STEP for a, b in zip(before, layer.get_weights(), strict=True))
    return {"x": x.grad, "weight": weight, "bias": bias, "range": sum(slopes, torch.zeros(()))}


def our_gradients(digital: nn.Module, tile: TileSpec, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    layer, x = build_ours(digital, tile).train(), x.clone().requires_grad_()
    (layer(x) * upstream).sum().backward()
    slope = layer.analog_input_range.grad
    kept = {"x": x.grad, "weight": layer.weight.grad.flatten(1), "bias": layer.bias.grad}
    return {**kept, "range": torch.zeros(()) if slope is None else slope}


def exact_gradients(digital: nn.Module, x: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """Return the digital layer's gradients for inputs `x`, which may be clipped or quantised."""
    layer, x = copy.deepcopy(digital), x.clone().requires_grad_()
    (layer(x) * upstream).sum().backward()
    return {"x": x.grad, "weight": layer.weight.grad.flatten(1), "bias": layer.bias.grad}


@on_sizes
@pytest.mark.parametrize("name", RANGED)
@pytest.mark.parametrize("learned", [False, True], ids=["static", "learned"])
@pytest.mark.parametrize("managed", [False, True], ids=["", "bound management"])
def test_gradients_of_torch_tiles_with_an_input_range(name: str, size: tuple[int, int], learned: bool, managed: bool):
    """Both stop the inputs' gradient where they are clipped, and give weights that of the quantised inputs."""
    digital, x, upstream = ranged(name)
    config = configure(TorchInferenceRPUConfig, size)
    fix_range_(config, learned=learned)
    tile = QUIET.replace(rows=size[0], cols=size[1], input_range="learned" if learned else "static")
    if managed:  # nothing saturates: a torch tile reads a whole batch again where one vector does
        config.forward.bound_management = BoundManagementType.ITERATIVE
        tile = tile.replace(bound_management="iterative")
    theirs, ours = their_gradients(digital, config, x, upstream), our_gradients(digital, tile, x, upstream)
    for part in ("x", "weight", "bias"):
        assert error(ours[part], theirs[part]) < 1e-5, part
    clipped = x.abs() > RANGE
    assert 0.1 < float(clipped.double().mean()) < 0.3
    assert (theirs["x"][clipped] == 0).all()
    coarse = our_gradients(digital, tile.replace(dac_bits=7), x, upstream)
    assert error(coarse["weight"], theirs["weight"]) > 1e-4


@needs_compiled
@on_sizes
@pytest.mark.parametrize("name", RANGED)
def test_gradients_of_compiled_tiles_with_an_input_range(name: str, size: tuple[int, int]):
    """Their compiled tiles do not stop at clipped inputs; weights get that of clipped, not quantised inputs, over the range."""
    digital, x, upstream = ranged(name)
    config = configure(InferenceRPUConfig, size)
    fix_range_(config)
    theirs = their_gradients(digital, config, x, upstream)
    ours = our_gradients(digital, QUIET.replace(rows=size[0], cols=size[1]), x, upstream)
    inside = (x.abs() <= RANGE).to(x.dtype)
    assert error(ours["x"], theirs["x"] * inside) < 1e-5
    assert error(ours["x"], theirs["x"]) > 0.1
    assert error(ours["bias"], theirs["bias"]) < 1e-5
    clipped = exact_gradients(digital, x.clamp(-RANGE, RANGE), upstream)
    assert error(theirs["weight"] * RANGE, clipped["weight"]) < 1e-5
    quantised = exact_gradients(digital, (x / RANGE * 127).round().clamp(-127, 127) / 127 * RANGE, upstream)
    assert error(ours["weight"], quantised["weight"]) < 1e-5


@needs_compiled
def test_gradients_of_compiled_tiles_where_the_adc_saturates():
    """Theirs stop at outputs beyond the bound, taken in units of the inputs; ours pass straight through."""
    digital = nn.Linear(40, 14)
    digital.weight.data[:3].uniform_(0.9, 1.0)
    x, upstream = torch.rand(24, 40) * torch.logspace(-1, 1, 24).unsqueeze(1), torch.randn(24, 14)
    config = configure(InferenceRPUConfig)
    theirs = their_gradients(digital, config, x, upstream)
    ours = our_gradients(digital, QUIET.replace(input_range="dynamic"), x, upstream)
    assert error(ours["x"], exact_gradients(digital, x, upstream)["x"]) < 1e-5
    scale = digital.weight.detach().abs().amax(1)
    read = (build_theirs(digital, config)(x) - digital.bias).detach() / scale
    beyond = read.abs() >= 0.999 * 12.0  # not relative to the largest input of the vector, though its ADC is
    assert error(theirs["x"], exact_gradients(digital, x, upstream * ~beyond)["x"]) < 1e-5
    largest = x.abs().amax(1, keepdim=True)
    saturated = (read / largest).abs() >= 0.999 * 12.0
    assert error(theirs["x"], exact_gradients(digital, x, upstream * ~saturated)["x"]) > 0.1
    assert error(ours["weight"], theirs["weight"]) < 1e-2  # theirs of the exact inputs


@TILES
def test_gradient_of_a_learned_range(kind: type[Config]):
    """Theirs only widens, input by input; ours is the derivative. They agree where every clipped input asks for more."""
    digital, x, upstream = ranged("linear")
    config = configure(kind)
    fix_range_(config, learned=True)
    dx = exact_gradients(digital, x, upstream)["x"]
    above, below = dx[x >= RANGE], dx[x <= -RANGE]
    one_sided = float(above.clamp(max=0).sum() - below.clamp(min=0).sum())
    if kind is TorchInferenceRPUConfig:  # and by autograd the error of both converters, relative to the range
        with torch.no_grad():
            converted = build_theirs(digital, config)(x) - digital(x.clamp(-RANGE, RANGE))
        one_sided += float((upstream * converted).sum() / RANGE)
    theirs = float(their_gradients(digital, config, x, upstream)["range"])
    assert theirs == pytest.approx(one_sided, rel=1e-4)
    ours = float(our_gradients(digital, QUIET.replace(input_range="learned"), x, upstream)["range"])
    assert ours == pytest.approx(float(above.sum() - below.sum()), rel=1e-4, abs=1e-4)
    assert abs(ours - theirs) > 1


@TILES
def test_gradient_of_a_learned_range_that_is_too_narrow(kind: type[Config]):
    digital, _, _ = ranged("linear")
    x = torch.rand(24, 40, generator=seeded(3)) - 0.5
    clipped, sign = torch.arange(24), torch.randn(24, generator=seeded(7)).sign()
    x[clipped, clipped] = 2.0 * sign  # one input a vector
    upstream = -sign.unsqueeze(1) * digital.weight.detach()[:, :24].T
    config = configure(kind)
    fix_range_(config, learned=True)
    theirs = float(their_gradients(digital, config, x, upstream)["range"])
    ours = float(our_gradients(digital, QUIET.replace(input_range="learned"), x, upstream)["range"])
    assert ours < -1
    assert ours == pytest.approx(theirs, rel=1e-5 if kind is InferenceRPUConfig else 1e-2)


# -- bound management with an input range -----------------------------------------------------------------------------


def saturating() -> tuple[nn.Linear, Tensor]:
    """Return a layer and vectors that saturate never, once, ... and still where bound management gives up."""
    digital = nn.Linear(900, 7)
    digital.weight.data[0].uniform_(0.9, 1.0)  # not all 1: sums would fall exactly between two codes
    digital.weight.data[1] *= 50
    full = torch.rand(12, 900) + torch.linspace(0, 1, 12).unsqueeze(1)
    for number, row in enumerate(full):
        row[75 * (number + 1) :] = 0
    return digital, torch.cat([full, torch.rand(6, 900), torch.randn(6, 900), torch.zeros(1, 900)])


@TILES
@pytest.mark.parametrize("size", [(1000, 1000), (300, 3)], ids=["whole", "split"])
@pytest.mark.parametrize("input_range", ["static", "dynamic"])
def test_bound_management_vector_by_vector(kind: type[Config], size: tuple[int, int], input_range: str):
    """Torch tiles reduce a whole batch when one of its vectors saturates, so they get one vector at a time."""
    digital, x = saturating()
    config = configure(kind, size)
    if input_range == "static":
        fix_range_(config)
    config.forward.bound_management = BoundManagementType.ITERATIVE
    tile = QUIET.replace(rows=size[0], cols=size[1], bound_management="iterative", input_range=input_range)
    with torch.no_grad():
        theirs = build_theirs(digital, config)
        expected = torch.cat([theirs(each.unsqueeze(0)) for each in x])
        assert error(build_ours(digital, tile)(x), expected) < 1e-5
        for changed in ({"bound_management": "none"}, {"dac_bits": 7}, {"output_bound": 11.0}):
            assert error(build_ours(digital, tile.replace(**changed))(x), expected) > 1e-4, changed


# -- what training injects ---------------------------------------------------------------------------------------------


def wide_layer() -> nn.Linear:
    """Return 200 000 weights in columns of very different size."""
    linear = nn.Linear(400, 500, bias=False)
    linear.weight.data *= torch.logspace(-1, 1, 500).unsqueeze(1)
    return linear


def their_weights(linear: nn.Linear, config: Config) -> Tensor:
    """Return the weights that one training step of theirs computes with."""
    config.forward.is_perfect = True
    layer = build_theirs(linear, config).train()
    if is_compiled(config):  # drawn after each step of the optimiser, here without one
        layer(torch.eye(linear.in_features))
        for tile in layer.analog_tiles():
            tile.post_update_step()
    with torch.no_grad():
        return layer(torch.eye(linear.in_features)).T


def our_weights(linear: nn.Linear, **settings: object) -> Tensor:
    hwa = HWASpec(**{"weight_noise": 0.0, "output_noise": False, "converters": False, **settings})
    layer = build_ours(linear, TileSpec.ideal(1000, 1000).replace(hwa=hwa)).train()
    with torch.no_grad():
        return layer(torch.eye(linear.in_features)).T


def agree(ours: Tensor, theirs: Tensor) -> bool:
    """Return whether two sets of samples may come from one distribution, with sigmas within 1 %."""
    one, other = ours.double().numpy(), theirs.double().numpy()
    return stats.ks_2samp(one, other).pvalue > 1e-3 and abs(one.std() / other.std() - 1) < 0.01


def weight_noise(weights: Tensor, linear: nn.Linear, modifier: str) -> Tensor:
    exact = linear.weight.detach()
    largest = exact.abs().amax(1, keepdim=True)
    if modifier == "additive":
        return ((weights - exact) / largest).flatten()
    large = exact.abs() > 0.01 * largest  # of smaller ones the difference is lost in rounding
    return ((weights - exact) / exact)[large]


@TILES
@pytest.mark.parametrize("modifier", ["additive", "multiplicative"])
def test_weight_noise(kind: type[Config], modifier: str):
    linear, config = wide_layer(), configure(kind)
    types = {"additive": WeightModifierType.ADD_NORMAL, "multiplicative": WeightModifierType.MULT_NORMAL}
    config.modifier.type, config.modifier.std_dev = types[modifier], 0.08
    theirs = weight_noise(their_weights(linear, config), linear, modifier)

    def ours(sigma: float, kind: str) -> Tensor:
        return weight_noise(our_weights(linear, weight_noise=sigma, weight_noise_kind=kind), linear, modifier)

    assert agree(ours(0.08, modifier), theirs)
    assert not agree(ours(0.083, modifier), theirs)
    assert not agree(ours(0.08, {"additive": "multiplicative", "multiplicative": "additive"}[modifier]), theirs)
    assert not agree(ours(0.08, modifier) + 0.004, theirs)
    if (
        modifier == "additive"
    ):  # theirs counts from the largest weight of the tile, so columns must have scales of their own
        config.mapping.weight_scaling_columnwise = False
        assert not agree(ours(0.08, modifier), weight_noise(their_weights(linear, config), linear, modifier))


@TILES
@pytest.mark.parametrize("levels", [3, 17, 255])
def test_rounded_weights(kind: type[Config], levels: int):
    linear, config = wide_layer(), configure(kind)
    config.modifier.type = WeightModifierType.DISCRETIZE
    config.modifier.res = (2 if kind is InferenceRPUConfig else 1) / (levels - 1)  # torch tiles double it
    theirs, scale = their_weights(linear, config), linear.weight.detach().abs().amax(1, keepdim=True)
    assert error(our_weights(linear, weight_levels=levels) / scale, theirs / scale) < 1e-5
    assert error(our_weights(linear, weight_levels=levels + 2) / scale, theirs / scale) > 1e-3


@needs_compiled
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_drop_connect(share: float):
    linear, config = wide_layer(), configure(InferenceRPUConfig)
    config.modifier.type, config.modifier.pdrop = WeightModifierType.DROP_CONNECT, share
    theirs, ours = their_weights(linear, config), our_weights(linear, drop_connect=share)
    for weights in (ours, theirs):  # what is kept is not scaled up
        assert error(weights[weights != 0], linear.weight[weights != 0]) < 1e-6

    def may_be_one_share(zeros: Tensor) -> bool:
        table = [[int(each.sum()), int((~each).sum())] for each in (zeros, theirs == 0)]
        return bool(stats.chi2_contingency(table).pvalue > 1e-3)

    assert may_be_one_share(ours == 0)
    assert not may_be_one_share(our_weights(linear, drop_connect=share + 0.01) == 0)
    for zeros in (ours == 0, theirs == 0):  # weights are dropped one by one, not by rows or columns
        spread = float(zeros.float().mean(1).std()), math.sqrt(share * (1 - share) / 400)
        assert spread[0] == pytest.approx(spread[1], rel=0.15)


@needs_compiled
def test_drop_connect_after_noise():
    linear, config = wide_layer(), configure(InferenceRPUConfig)
    config.modifier.type, config.modifier.std_dev, config.modifier.pdrop = WeightModifierType.ADD_NORMAL, 0.08, 0.2
    theirs = their_weights(linear, config)
    ours = our_weights(linear, weight_noise=0.08, weight_noise_kind="additive", drop_connect=0.2)
    assert float((theirs == 0).float().mean()) == pytest.approx(float((ours == 0).float().mean()), abs=0.005)
    noise = [weight_noise(each, linear, "additive")[each.flatten() != 0] for each in (ours, theirs)]
    assert agree(*noise)


# -- clipping ----------------------------------------------------------------------------------------------------------


def their_clipped(linear: nn.Linear, config: Config, grown: Tensor) -> Tensor:
    """Return what their clipping makes of weights that have grown since they were mapped."""
    layer = build_theirs(linear, config).train()
    layer(torch.ones(1, linear.in_features))
    (tile,) = layer.analog_tiles()
    scales = tile.get_scales()
    tile.tile.set_weights(grown if scales is None else grown / scales.view(-1, 1))
    tile.post_update_step()
    return layer.get_weights()[0].detach()


def our_clipped(linear: nn.Linear, grown: Tensor, *, loads: bool = False, **settings: object) -> Tensor:
    """Return weights that have grown, clipped. AIHWKIT takes their spread anew at each step; a layer of ours, when it loads."""
    hwa = HWASpec(**{"weight_clip": None, **settings})
    layer = build_ours(linear, TileSpec.ideal().replace(hwa=hwa))
    if loads:
        layer.load_state_dict({"weight": grown}, strict=False)
    else:
        layer.weight.data.copy_(grown)
    clip_weights_(layer)
    return layer.weight.detach()


def grown_layer() -> tuple[nn.Linear, Tensor]:
    linear = nn.Linear(60, 40, bias=False)
    linear.weight.data *= torch.logspace(-1, 1, 40).unsqueeze(1)
    return linear, linear.weight.detach() * 1.5 + 0.02


@TILES
@pytest.mark.parametrize("bound", [1.0, 0.7])
def test_weights_clipped_to_their_column(kind: type[Config], bound: float):
    linear, grown = grown_layer()
    config = configure(kind)
    config.clip.type, config.clip.fixed_value = WeightClipType.FIXED_VALUE, bound
    theirs = their_clipped(linear, config, grown)
    assert error(theirs, grown) > 0.1  # some were clipped
    assert error(our_clipped(linear, grown, weight_clip=bound), theirs) < 1e-6
    assert error(our_clipped(linear, grown, weight_clip=bound * 1.001), theirs) > 1e-4


@TILES
def test_weights_clipped_to_sigmas_of_the_layer(kind: type[Config]):
    linear, grown = grown_layer()
    config = configure(kind)
    config.mapping.weight_scaling_omega = (
        0.0  # sigma of the weights themselves, not of weights over their column's scale
    )
    config.clip.type, config.clip.sigma = WeightClipType.LAYER_GAUSSIAN, 1.5
    theirs = their_clipped(linear, config, grown)
    assert error(theirs, grown) > 0.1
    assert error(our_clipped(linear, grown, loads=True, weight_clip_sigma=1.5), theirs) < 1e-6
    biased = 1.5 * math.sqrt((grown.numel() - 1) / grown.numel())  # n instead of n - 1
    assert error(our_clipped(linear, grown, loads=True, weight_clip_sigma=biased), theirs) > 1e-5


@needs_compiled
def test_weights_clipped_to_the_mean_of_column_maxima():
    linear, grown = grown_layer()
    config = configure(InferenceRPUConfig)
    config.mapping.weight_scaling_omega = 0.0
    config.clip.type = WeightClipType.AVERAGE_CHANNEL_MAX
    theirs = their_clipped(linear, config, grown)
    assert error(theirs, grown) > 0.1
    assert error(our_clipped(linear, grown, loads=True, weight_clip_average=1.0), theirs) < 1e-6
    assert error(our_clipped(linear, grown, loads=True, weight_clip_average=1.001), theirs) > 1e-4
    assert float(theirs.abs().max()) == pytest.approx(float(grown.abs().amax(1).mean()), rel=1e-6)


# -- drift compensation through a noisy ADC ---------------------------------------------------------------------------

N_CHIPS = 40


def our_alphas(linear: nn.Linear, tile: TileSpec, t_inference: float, seed: int) -> Tensor:
    layer, generator, alphas = build_ours(linear, tile, 1.0), seeded(seed), []
    for _ in range(N_CHIPS):
        program_chip_(layer, generator)
        drift_chip_(layer, t_inference, generator)
        ((_, scale),) = layer.take_read().weights
        alphas.append(scale / linear.weight.detach().abs().amax(1))
    return torch.stack(alphas)


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Return whether means over chips and columns agree within 4 standard errors, and spreads over columns within 15 %."""
    standard_error = math.hypot(*(float(each.std()) / math.sqrt(each.numel()) for each in (ours, theirs)))
    assert standard_error < 2.5e-3 * float(theirs.mean())  # so the comparison has teeth
    same_mean = abs(float(ours.mean() - theirs.mean())) < 4 * standard_error
    return same_mean and abs(float(ours.std() / theirs.std()) - 1) < 0.15


@pytest.mark.parametrize("t_inference", [0.0, 3600.0, 365 * 86400.0])
def test_compensation_of_columns_read_with_noise(t_inference: float):
    linear = nn.Linear(128, 32, bias=False)
    linear.weight.data.normal_(0, 0.05, generator=seeded(83))
    config = configure(TorchInferenceRPUConfig)
    config.forward.out_noise = 0.06
    config.drift_compensation = PerColumnDriftCompensation()
    theirs, drawn = build_theirs(linear, config), []
    for _ in range(N_CHIPS):
        theirs.program_analog_weights()
        theirs.drift_analog_weights(t_inference)
        (tile,) = theirs.analog_tiles()
        drawn.append(tile.alpha.detach().flatten().clone())
    expected = torch.stack(drawn)
    assert expected.shape == (N_CHIPS, 32)
    spec = TileSpec(output_noise=0.06, drift_compensation="per_column")
    ours = our_alphas(linear, spec, t_inference, seed=89)
    assert close(ours, expected)
    assert not close(ours * 1.02, expected)
    assert not close(our_alphas(linear, spec.replace(drift_compensation="global"), t_inference, 97), expected)
    if t_inference > 0:
        quiet = our_alphas(linear, spec.replace(output_noise=0.0, adc_bits=None), t_inference, seed=97)
        assert not close(quiet, expected)  # noise makes weights look larger, so less is compensated
        assert not close(our_alphas(linear, spec, 3 * t_inference, seed=97), expected)
