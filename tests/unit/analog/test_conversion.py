"""Conversion keeps what users attach to layers and how they call them, both ways, or refuses with the reason."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from exact_tiles import EXACT, IMAGES, SERIES, X, convert_all_
from torch import Tensor, nn
from torch.nn.utils import prune

from lionheart.analog import (
    analog_layers,
    calibrate_input_ranges_,
    convert_to_analog_,
    convert_to_digital_,
    drift_chip_,
    program_chip_,
)
from lionheart.analog.columns import ColumnCalibration
from lionheart.data import call_model
from lionheart.devices import TileSpec
from lionheart.errors import UnsupportedLayerError
from lionheart.graph.layer_types import find_projections
from lionheart.mapping import LayerMapping, Placement

PCM = TileSpec.pcm(rows=32, cols=32)

pytestmark = pytest.mark.usefixtures("small_noise_pool", "fixed_weights")


def on_tiles(model: nn.Module, inputs: Any, tile: TileSpec = EXACT) -> nn.Module:
    """Put a copy on tiles, everything that is known, with input ranges."""
    clone = convert_all_(copy.deepcopy(model), tile)
    calibrate_input_ranges_(clone, lambda net: call_model(net, inputs))
    return clone


def first(out: Any) -> Tensor:
    return out if isinstance(out, Tensor) else first(out[0])


def assert_same(model: nn.Module, inputs: Any, *, gradients: bool = True) -> nn.Module:
    """Check that a model on exact tiles computes what it computes digitally, there and back; return it on tiles."""
    model = model.eval()
    analog = on_tiles(model, inputs)
    expected, got = first(call_model(model, inputs)), first(call_model(analog, inputs))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    if gradients and expected.numel():
        for net in (model, analog):
            net.zero_grad()
            first(call_model(net, inputs)).square().sum().backward()
        of_analog = dict(analog.named_parameters())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(of_analog[name].grad, parameter.grad, atol=1e-3, rtol=1e-3)
    back = convert_to_digital_(copy.deepcopy(analog))
    assert list(back.state_dict()) == list(model.state_dict())
    torch.testing.assert_close(first(call_model(back, inputs)), expected, atol=0, rtol=0)
    return analog


# -- hooks: bug case 08, pytorch #37151: hooks were lost with the layers that were replaced ---------------------------------

LAYERS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "linear": (lambda: nn.Linear(8, 8), X),
    "conv": (lambda: nn.Conv2d(3, 4, 3), IMAGES),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3), IMAGES),
    "attention": (lambda: nn.MultiheadAttention(8, 2), (SERIES, SERIES, SERIES)),
    "lstm": (lambda: nn.LSTM(8, 6), SERIES),
    "cell": (lambda: nn.GRUCell(8, 6), X),
}


def _map(out: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(out, Tensor):
        return change(out)
    return tuple(_map(each, change) for each in out) if isinstance(out, tuple) else out


def _double(module: nn.Module, args: Any, out: Any) -> Any:
    return _map(out, lambda each: 2 * each)


def _double_with_kwargs(module: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
    return _double(module, args, out)


def _shift(module: nn.Module, args: Any) -> Any:
    return _map(args, lambda each: each - 1)


def _shift_with_kwargs(module: nn.Module, args: Any, kwargs: Any) -> Any:
    return _shift(module, args), kwargs


HOOKS: dict[str, Callable[[nn.Module], Any]] = {
    "hook": lambda layer: layer.register_forward_hook(_double),
    "hook with kwargs": lambda layer: layer.register_forward_hook(_double_with_kwargs, with_kwargs=True),
    "pre-hook": lambda layer: layer.register_forward_pre_hook(_shift),
    "pre-hook with kwargs": lambda layer: layer.register_forward_pre_hook(_shift_with_kwargs, with_kwargs=True),
    "both": lambda layer: (layer.register_forward_pre_hook(_shift), layer.register_forward_hook(_double)),
}


class Holder(nn.Module):
    def __init__(self, layer: nn.Module, call: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, *args: Any) -> Any:
        return self.layer(*args) if self.call is None else self.call(self.layer, *args)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("name", LAYERS)
def test_forward_hooks_run_on_tiles_and_come_back(name: str, hook: str):
    build, inputs = LAYERS[name]
    layer = build()
    plain = first(call_model(layer.eval(), inputs))
    HOOKS[hook](layer)
    model = Holder(layer)
    assert not torch.allclose(first(call_model(model, inputs)), plain)
    assert_same(model, inputs, gradients=False)


@pytest.mark.parametrize("name", ["linear", "conv", "transposed", "cell"])
def test_full_backward_hooks_run_on_tiles_and_come_back(name: str):
    build, inputs = LAYERS[name]
    layer, seen = build(), []
    layer.register_full_backward_pre_hook(lambda module, grads: _map(grads, lambda each: 3 * each))
    layer.register_full_backward_hook(lambda module, before, after: seen.append(type(module).__name__))
    model = assert_same(Holder(layer), inputs.clone().requires_grad_())
    assert len(seen) == 2  # digitally and on tiles
    back = convert_to_digital_(model)
    back(inputs.clone().requires_grad_()).sum().backward()
    assert len(seen) == 3


def test_a_handle_removes_its_hook_on_tiles_and_hooks_of_tiles_come_back():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))
    plain, handle = model(X), model[0].register_forward_hook(_double)
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG, "1": Placement.ANALOG}), EXACT)
    handle.remove()
    torch.testing.assert_close(model.eval()(X), plain)
    model[1].register_forward_hook(_double)
    convert_to_digital_(model)
    torch.testing.assert_close(model(X), 2 * plain)


def test_calibration_sees_what_hooks_give_and_runs_them_once():
    model, calls = nn.Sequential(nn.Linear(8, 8)), []
    model[0].register_forward_pre_hook(lambda module, args: (calls.append(1), (100 * args[0],))[1])
    analog = copy.deepcopy(model)
    convert_to_analog_(analog, LayerMapping({"0": Placement.ANALOG}), PCM)
    ranges = calibrate_input_ranges_(analog, lambda net: net(X))
    assert ranges["0"] > 10
    assert len(calls) == 1


def test_columns_are_corrected_before_hooks_change_outputs():
    """The correction is a linear map of what the columns give; a hook that squares is none."""
    model = nn.Sequential(nn.Linear(8, 8))
    expected = copy.deepcopy(model)(X).square().detach()
    model[0].register_forward_hook(lambda module, args, out: out.square())
    analog = on_tiles(model, X, PCM.replace(column_calibration="affine", output_noise=0.0))
    columns = ColumnCalibration(analog, lambda net: net(X))
    program_chip_(analog, torch.Generator().manual_seed(0))
    drift_chip_(analog, 1.0, torch.Generator().manual_seed(0))
    columns.calibrate_()
    assert float((analog(X).detach() - expected).norm() / expected.norm()) < 0.3


def test_hooks_of_saving_run_on_tiles():
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].register_state_dict_post_hook(lambda module, state, prefix, local: state.update({f"{prefix}extra": X}))
    analog = on_tiles(model, X)
    assert "0.extra" in analog.state_dict()
    assert "0.extra" in convert_to_digital_(analog).state_dict()


def test_buffers_parameters_and_children_of_a_layer_stay():
    model = nn.Sequential(nn.Linear(8, 8))
    model[0].scale = nn.Parameter(torch.tensor(3.0))
    model[0].register_buffer("shift", torch.tensor(1.0))
    model[0].act = nn.PReLU()
    model[0].register_forward_hook(lambda module, args, out: module.act(out * module.scale + module.shift))
    analog = assert_same(model, X)
    assert {"0.scale", "0.act.weight"} <= {name for name, _ in analog.named_parameters()}
    assert "0.shift" in analog.state_dict()


def test_a_pruned_bias_stays_pruned():
    model = nn.Sequential(nn.Linear(8, 8)).eval()
    prune.l1_unstructured(model[0], "bias", amount=4)
    expected = model(X)
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), EXACT)
    torch.testing.assert_close(model(X), expected)
    assert int((model[0].bias == 0).sum()) == 4
    assert {"0.bias_orig", "0.bias_mask"} <= set(model.state_dict())
    model(X).sum().backward()
    assert int((model[0].bias_orig.grad == 0).sum()) == 4
    assert torch.equal(convert_to_digital_(model)(X), expected)


# -- calls: bug case 10, peft #879 ----------------------------------------------------------------------------------------

CALLS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Any], Any]] = {
    "linear": (lambda: nn.Linear(8, 5), lambda layer, x: layer(input=x), X),
    "conv": (lambda: nn.Conv2d(3, 4, 3), lambda layer, x: layer(input=x), IMAGES),
    "transposed": (
        lambda: nn.ConvTranspose2d(3, 4, 3, stride=2),
        lambda layer, x: layer(input=x, output_size=[14, 14]),
        IMAGES,
    ),
    "lstm": (lambda: nn.LSTM(8, 6), lambda layer, x: layer(input=x), SERIES),
    "gru": (lambda: nn.GRU(8, 6), lambda layer, x: layer(hx=torch.zeros(1, 2, 6), input=x), SERIES),
    "rnn, state only": (lambda: nn.RNN(8, 6), lambda layer, x: layer(x, hx=torch.ones(1, 2, 6)), SERIES),
    "cell": (lambda: nn.LSTMCell(8, 6), lambda layer, x: layer(input=x, hx=None), X),
    "attention": (lambda: nn.MultiheadAttention(8, 2), lambda layer, x: layer(value=x, key=x, query=x), SERIES),
}


@pytest.mark.parametrize("name", CALLS)
def test_layers_take_keywords(name: str):
    build, call, inputs = CALLS[name]
    assert_same(Holder(build(), call), inputs)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(300, 5), torch.randn(300)),  # more inputs than samples that calibration keeps
        (nn.Conv1d(3, 4, 3), torch.randn(3, 9)),
        (nn.Conv2d(300, 4, 3), torch.randn(300, 5, 5)),
        (nn.Conv3d(2, 4, 2), torch.randn(2, 4, 4, 4)),
        (nn.ConvTranspose2d(3, 4, 3), torch.randn(3, 5, 5)),
        (nn.LSTM(8, 6), torch.randn(5, 8)),
        (nn.GRU(8, 6, bidirectional=True), torch.randn(5, 8)),
        (nn.RNNCell(8, 6), torch.randn(8)),
        (nn.MultiheadAttention(8, 2), (torch.randn(5, 8),) * 3),
    ],
    ids=lambda each: type(each).__name__,
)
def test_inputs_need_no_batch(layer: nn.Module, inputs: Any):
    assert_same(Holder(layer), inputs)
    pcm = on_tiles(Holder(layer), inputs, PCM)
    first(call_model(pcm.train(), inputs)).sum().backward()


# -- empty batches: bug case 11 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [EXACT, PCM, PCM.replace(input_range="dynamic")], ids=["exact", "pcm", "dynamic"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(8, 5), (0, 8)),
        (nn.Linear(8, 5), (3, 0, 8)),
        (nn.Conv1d(3, 4, 3), (0, 3, 6)),
        (nn.Conv2d(3, 4, 3), (0, 3, 6, 6)),
        (nn.ConvTranspose2d(3, 4, 3), (0, 3, 6, 6)),
        (nn.GRUCell(8, 6), (0, 8)),
        (nn.LSTM(8, 6), (5, 0, 8)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else str(each),
)
def test_nothing_gives_nothing(layer: nn.Module, shape: tuple[int, ...], tile: TileSpec):
    some = torch.randn([size or 2 for size in shape])
    expected = first(layer(torch.zeros(shape)))
    analog = on_tiles(Holder(layer), some, tile)
    ranges = {fqn: float(each.analog_input_range.detach()) for fqn, each in analog_layers(analog).items()}
    for mode in (True, False):
        out = first(analog.train(mode)(torch.zeros(shape)))
        assert out.shape == expected.shape
        if mode:
            out.sum().backward()
    assert ranges == {fqn: float(each.analog_input_range.detach()) for fqn, each in analog_layers(analog).items()}


def test_nothing_gives_no_input_range():
    model = nn.Sequential(nn.Linear(8, 5))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), PCM)
    assert model.eval()(torch.zeros(0, 8)).shape == (0, 5)
    assert calibrate_input_ranges_(model, lambda net: (net(torch.zeros(0, 8)), net(X)))["0"] > 0


# -- memory order: bug case 34 ----------------------------------------------------------------------------------------------

_LAST = torch.channels_last


def _views(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "contiguous", x
    if x.ndim >= 4:
        yield "channels last", x.contiguous(memory_format=_LAST if x.ndim == 4 else torch.channels_last_3d)
    yield "transposed", x.transpose(-1, -2).contiguous().transpose(-1, -2)
    yield "sliced", torch.cat([x, x], dim=-1)[..., ::2]
    yield "batch last", x.movedim(0, -1).contiguous().movedim(-1, 0)


@pytest.mark.parametrize("weights_last", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(8, 5), (4, 8)),
        (nn.Linear(8, 5), (4, 6, 8)),
        (nn.Conv1d(3, 8, 3), (2, 3, 6)),
        (nn.Conv2d(3, 8, 3), (2, 3, 6, 6)),
        (nn.Conv2d(1, 8, 3), (2, 1, 6, 6)),
        (nn.Conv2d(4, 8, 1, bias=False), (1, 4, 6, 6)),
        (nn.Conv2d(4, 4, 3, groups=4, padding="same"), (2, 4, 6, 6)),
        (nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect"), (2, 4, 6, 6)),
        (nn.Conv3d(3, 4, 2), (2, 3, 4, 4, 4)),
        (nn.ConvTranspose1d(3, 4, 3), (2, 3, 6)),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), (2, 3, 6, 6)),
        (nn.ConvTranspose3d(3, 4, 2), (2, 3, 4, 4, 4)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else str(each),
)
def test_outputs_have_the_strides_of_the_digital_layers(layer: nn.Module, shape: tuple[int, ...], weights_last: bool):
    model = nn.Sequential(layer).eval()
    if weights_last:
        model = model.to(memory_format=_LAST if len(shape) != 5 else torch.channels_last_3d)
    for tile in (EXACT, PCM, PCM.replace(input_range="dynamic")):
        analog = on_tiles(model, torch.randn(shape), tile)
        for order, x in _views(torch.randn(shape)):
            for training in (False, True):
                found, expected = analog.train(training)(x).stride(), model(x).stride()
                assert found == expected, f"{order}, training: {training}, {tile.input_range}"


def test_a_view_after_a_convolution():
    class LeNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8 * 16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.conv(x)).view(x.size(0), -1))

    assert_same(LeNet(), IMAGES)
    on_tiles(LeNet(), IMAGES, PCM).train()(IMAGES).sum().backward()


# -- what code asks of a layer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_on_tiles_is_what_it_stands_for(name: str):
    build, inputs = LAYERS[name]
    model = Holder(build())
    analog = on_tiles(model, inputs)
    kind = type(model.layer)
    assert isinstance(analog.layer, kind)
    assert type(analog.layer) is not kind
    assert type(analog.layer).__name__ in repr(analog)
    assert kind.__name__ not in repr(analog).replace(type(analog.layer).__name__, "").replace(
        f"for {kind.__name__}", ""
    )
    for each in (copy.deepcopy(analog), pickle.loads(pickle.dumps(analog))):  # noqa: S301
        assert type(each.layer) is type(analog.layer)
        assert isinstance(each.layer, kind)
        torch.testing.assert_close(first(call_model(each, inputs)), first(call_model(analog, inputs)), atol=0, rtol=0)


def test_a_subclass_is_still_one():
    class Mine(nn.Linear):
        flavour = "sweet"

    analog = on_tiles(nn.Sequential(Mine(8, 3)), X)
    assert isinstance(analog[0], Mine)
    assert analog[0].flavour == "sweet"
    assert (analog[0].in_features, analog[0].out_features) == (8, 3)
    assert analog[0].weight.shape == (3, 8)
    assert "tile" in analog[0].extra_repr()


def test_attributes_that_are_set_on_tiles_reach_the_digital_layer():
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    model[0].note, model[0]._private = "before", 1
    analog = on_tiles(model, IMAGES)
    assert (analog[0].note, analog[0]._private) == ("before", 1)
    analog[0].note, analog[0].added = "after", 2
    analog[0].padding = (1, 1)
    assert analog(IMAGES).shape == (2, 8, 6, 6)
    convert_to_digital_(analog)
    assert (analog[0].note, analog[0].added, analog[0].padding) == ("after", 2, (1, 1))
    assert not [name for name in vars(analog[0]) if name in ("tile", "partition", "noise", "_chip")]


def test_new_parameters_reach_the_digital_layer():
    model = nn.Sequential(nn.Linear(8, 3))
    analog = on_tiles(model, X)
    analog[0].weight = nn.Parameter(torch.ones(3, 8))
    torch.testing.assert_close(analog(X), F.linear(X, torch.ones(3, 8), model[0].bias))
    analog.load_state_dict({name: 2 * each for name, each in model.state_dict().items()}, assign=True)
    torch.testing.assert_close(analog(X), 2 * model(X))
    assert torch.equal(convert_to_digital_(analog)[0].weight, 2 * model[0].weight)


# -- forwards of the user's ------------------------------------------------------------------------------------------------


def _patch(layer: nn.Module) -> None:
    plain = layer.forward
    layer.forward = lambda x: 2 * plain(x + 1)


@pytest.mark.parametrize("layer", [nn.Linear(8, 3), nn.Conv1d(8, 3, 1)], ids=["linear", "conv"])
def test_a_replaced_forward_runs_on_tiles(layer: nn.Module):
    _patch(layer)
    x = X if isinstance(layer, nn.Linear) else X.unsqueeze(-1)
    analog = nn.Sequential(layer).eval()
    expected = analog(x)
    convert_to_analog_(analog, LayerMapping({"0": Placement.ANALOG}), EXACT)
    assert list(analog_layers(analog)) == ["0"]
    torch.testing.assert_close(analog(x), expected)
    convert_to_digital_(analog)
    assert analog[0] is layer
    torch.testing.assert_close(analog(x), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["attention", "lstm", "cell", "transposed"])
def test_a_replaced_forward_of_a_wrapped_layer_is_refused(name: str):
    model = Holder(LAYERS[name][0]())
    _patch(model.layer)
    fqn = next(find_projections(model)).fqn
    with pytest.raises(UnsupportedLayerError, match="overrides forward"):
        convert_to_analog_(model, LayerMapping({fqn: Placement.ANALOG}), EXACT)


def test_a_forward_that_is_replaced_on_tiles_is_not_lost_on_the_way_back():
    analog = on_tiles(nn.Sequential(nn.Linear(8, 3)), X)
    _patch(analog[0])
    twice = analog(X)
    calibrate_input_ranges_(analog, lambda net: net(X), ["0"])
    assert torch.equal(analog(X), twice)
    with pytest.raises(UnsupportedLayerError, match="layer '0': the attribute 'forward' was set"):
        convert_to_digital_(analog)
    del analog[0].forward
    assert type(convert_to_digital_(analog)[0]) is nn.Linear


def test_custom_gradients_of_a_weight_are_refused():
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            ctx.save_for_backward(x, weight)
            return x @ weight.t()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
            x, weight = ctx.saved_tensors
            return grad @ weight, 0.5 * grad.t() @ x

    class Custom(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return Scaled.apply(x, self.weight)

    model = nn.Sequential(Custom(8, 3, bias=False)).eval()
    expected = model(X)
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), EXACT)
    with pytest.raises(UnsupportedLayerError, match="Custom: its forward multiplies its weight without gradients"):
        model(X)
    assert torch.equal(convert_to_digital_(model)(X), expected)


def test_gradient_of_inputs_by_a_function_around_a_layer():
    class Reverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return -grad

    assert_same(Holder(nn.Linear(8, 3), lambda layer, x: Reverse.apply(layer(x))), X)


@pytest.mark.parametrize("layer", [nn.Linear(8, 3), nn.Conv1d(8, 3, 1)], ids=["linear", "conv"])
def test_second_derivatives_are_refused(layer: nn.Module):
    """They came out without the part of the weights, silently."""
    x = (X if isinstance(layer, nn.Linear) else X.unsqueeze(-1)).clone().requires_grad_()
    analog = on_tiles(nn.Sequential(layer), x, PCM).train()
    (slope,) = torch.autograd.grad(analog(x).square().sum(), x, create_graph=True)
    assert torch.isfinite(slope).all()  # as such it is right
    with pytest.raises(UnsupportedLayerError, match="second derivatives"):
        slope.square().sum().backward()
    (slope,) = torch.autograd.grad(analog(x).square().sum(), analog[0].weight, create_graph=True)
    with pytest.raises(UnsupportedLayerError, match="second derivatives"):
        slope.square().sum().backward()


# -- wrapped models ---------------------------------------------------------------------------------------------------------


def test_data_parallel_without_devices_works():
    assert_same(nn.DataParallel(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))), X)


def test_data_parallel_on_several_devices_is_refused():
    model = nn.DataParallel(nn.Sequential(nn.Linear(8, 3)))
    model.device_ids = [0, 1]
    with pytest.raises(UnsupportedLayerError, match="DataParallel runs the layer on 2 devices"):
        convert_to_analog_(model, LayerMapping({"module.0": Placement.ANALOG}), EXACT)


def test_a_compiled_layer_is_refused_and_a_compiled_model_works():
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    first, last = copy.deepcopy(net[0]), copy.deepcopy(net[2])  # a layer is on tiles in one model only
    alone = nn.Sequential(torch.compile(first, backend="eager"), last)
    with pytest.raises(
        UnsupportedLayerError, match="layer '0._orig_mod' cannot run on tiles: the layer is compiled by itself"
    ):
        convert_to_analog_(alone, LayerMapping({"0._orig_mod": Placement.ANALOG}), EXACT)
    convert_to_analog_(alone, LayerMapping({"1": Placement.ANALOG}), EXACT)
    expected, whole = net(X), torch.compile(copy.deepcopy(net), backend="eager")
    whole(X)
    fqns = ["_orig_mod.0", "_orig_mod.2"]
    convert_to_analog_(whole, LayerMapping(dict.fromkeys(fqns, Placement.ANALOG)), PCM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        got = whole(X)
    assert not torch.equal(got, expected)  # the tiles' converters are there
    torch.testing.assert_close(got, expected, atol=0.5, rtol=0.5)


def test_distributed_wrappers_are_refused():
    class DistributedDataParallel(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 3)))
    with pytest.raises(UnsupportedLayerError, match="DistributedDataParallel has registered the parameters"):
        convert_to_analog_(model, LayerMapping({"module.0": Placement.ANALOG}), EXACT)


def test_a_parametrisation_on_tiles_is_refused():
    class Half(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight / 2

    analog = on_tiles(nn.Sequential(nn.Linear(8, 3)), X)
    with pytest.raises(UnsupportedLayerError, match="the new class ParametrizedLinear"):
        nn.utils.parametrize.register_parametrization(analog[0], "weight", Half())


# -- saving: faults D6 ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_noise_pool")
def test_a_saved_model_holds_no_pool_and_computes_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lionheart.analog.convert.POOL_SIZE", 1 << 20)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(128, 3))
    analog = on_tiles(model, IMAGES, PCM)
    program_chip_(analog, torch.Generator().manual_seed(0))
    drift_chip_(analog, 86_400.0, torch.Generator().manual_seed(1))
    with torch.no_grad():
        analog.train()(IMAGES)  # remembers noise for checkpointing
        analog.eval()(IMAGES)
    file = io.BytesIO()
    torch.save(analog, file)
    assert file.tell() < 200_000  # the pool alone is 4 MB
    file.seek(0)
    twins = [torch.load(file, weights_only=False), pickle.loads(pickle.dumps(analog)), copy.deepcopy(analog)]  # noqa: S301
    expected = [analog(IMAGES) for _ in range(3)]
    for twin in twins:
        assert all(torch.equal(twin(IMAGES), each) for each in expected)


def test_an_unused_model_is_saved_too():
    analog = on_tiles(nn.Sequential(nn.Linear(8, 3)), X, PCM)
    twin = pickle.loads(pickle.dumps(analog))  # noqa: S301
    assert torch.equal(twin(X), analog(X))
