"""What users attach to layers outside of hooks: references, replaced calls, attributes whose names clash, computed weights.

Each of these was dropped by conversion without a word, and the digital layer went on computing or its changes had no effect.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from exact_tiles import EXACT, IMAGES, SERIES, X, convert_all_
from torch import Tensor, nn
from torch.nn.utils import prune

from lionheart.analog import AnalogLayer, calibrate_input_ranges_, convert_to_digital_
from lionheart.data import call_model
from lionheart.devices import TileSpec
from lionheart.errors import UnsupportedLayerError
from lionheart.graph import trace_graph

pytestmark = pytest.mark.usefixtures("small_noise_pool", "fixed_weights")


def place_(model: nn.Module, inputs: Any = X, tile: TileSpec = EXACT) -> nn.Module:
    convert_all_(model.eval(), tile)
    calibrate_input_ranges_(model, lambda net: call_model(net, inputs))
    return model


class Holder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any) -> Any:
        return self.layer(*args)


class References(nn.Module):
    """Calls its layers by other references than the registered ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.fourth = (nn.Linear(8, 8) for _ in range(4))
        self.kept: list[Any] = [self.first]
        self.named = {"second": (self.second, 1)}
        self.method = self.third.__call__
        self.part = functools.partial(self.fourth)

    def forward(self, x: Tensor) -> Any:
        return self.part(self.method(self.named["second"][0](self.kept[0](x))))

    def owners(self) -> list[Any]:
        return [self.kept[0], self.named["second"][0], self.method.__self__, self.part.func]


def test_references_outside_of_the_registered_names_follow_conversion():
    model = References().eval()
    expected = model(X)
    place_(model)
    assert all(type(each).__name__ == "AnalogLinear" for each in model.owners())
    torch.testing.assert_close(model(X), expected)
    convert_to_digital_(model)
    assert model.owners() == [model.first, model.second, model.third, model.fourth]
    assert all(type(each) is nn.Linear for each in model.owners())
    assert torch.equal(model(X), expected)


# -- calls and forwards that were replaced ----------------------------------------------------------------------------------


class Doubled(nn.Linear):
    def __call__(self, *args: Any) -> Any:
        return 2 * super().__call__(*args)


class DoubledLSTM(nn.LSTM):
    def __call__(self, *args: Any) -> Any:
        out, state = super().__call__(*args)
        return 2 * out, state


@pytest.mark.parametrize(("layer", "x"), [(Doubled(8, 3), X), (DoubledLSTM(8, 3), SERIES)], ids=["linear", "lstm"])
def test_an_overridden_call_is_refused(layer: nn.Module, x: Tensor):
    with pytest.raises(UnsupportedLayerError, match="overrides __call__"):
        place_(Holder(layer), x)
    assert all("overrides __call__" in node.unsupported_reason for node in trace_graph(Holder(layer), x).nodes)


@pytest.mark.parametrize("wraps", [False, True])
@pytest.mark.parametrize(
    ("make", "x"), [(lambda: nn.Linear(8, 3), X), (lambda: nn.Conv2d(3, 4, 3), IMAGES)], ids=["linear", "conv"]
)
def test_a_forward_replaced_on_the_class_runs_on_tiles(
    make: Callable[[], nn.Module], x: Tensor, wraps: bool, monkeypatch: pytest.MonkeyPatch
):
    layer = make()
    kind = type(layer)
    before = kind.forward

    def twice(self: nn.Module, input: Tensor) -> Tensor:
        return 2 * before(self, input)

    monkeypatch.setattr(kind, "forward", functools.wraps(before)(twice) if wraps else twice)
    model = Holder(layer).eval()
    expected = model(x)
    torch.testing.assert_close(place_(model, x)(x), expected, atol=1e-5, rtol=1e-4)


def test_a_forward_replaced_on_the_class_of_a_wrapped_layer_is_refused(monkeypatch: pytest.MonkeyPatch):
    before = nn.LSTM.forward
    monkeypatch.setattr(nn.LSTM, "forward", lambda self, input, hx=None: before(self, 2 * input, hx))
    with pytest.raises(UnsupportedLayerError, match="LSTM overrides forward"):
        place_(Holder(nn.LSTM(8, 3)), SERIES)


@pytest.mark.parametrize(
    ("layer", "x"), [(nn.LSTM(8, 3), SERIES), (nn.ConvTranspose2d(3, 4, 3), IMAGES)], ids=["lstm", "transposed"]
)
def test_global_hooks_see_the_modules_of_the_digital_network(layer: nn.Module, x: Tensor):
    model, seen = Holder(layer).eval(), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: seen.append(module.__class__))
    try:
        model(x)
        expected = seen.copy()
        place_(model, x)
        seen.clear()
        model(x)
    finally:
        handle.remove()
    assert seen == expected


def test_a_lazy_layer_is_refused():
    with pytest.raises(UnsupportedLayerError, match="lazy layer"):
        place_(Holder(nn.LazyLinear(3)))


# -- attributes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach", [setattr, lambda layer, name, _: layer.register_buffer(name, torch.zeros(2))])
@pytest.mark.parametrize("name", ["tile", "noise", "digital", "matrix", "kernel"])
def test_an_attribute_whose_name_is_taken_is_refused(name: str, attach: Callable[..., Any]):
    model = Holder(nn.Linear(8, 3))
    attach(model.layer, name, "mine")
    with pytest.raises(UnsupportedLayerError, match=f"the layer's attribute '{name}'"):
        place_(model)
    assert type(model.layer) is nn.Linear
    analog = place_(Holder(nn.Linear(8, 3)))
    with pytest.raises(UnsupportedLayerError, match=f"got the attribute '{name}'"):
        setattr(analog.layer, name, "mine")


def test_a_child_whose_name_is_taken_is_refused():
    layer = nn.LSTM(8, 3)
    layer.add_module("analog", nn.Linear(2, 2))
    with pytest.raises(UnsupportedLayerError, match="attribute 'analog'"):
        place_(Holder(layer), SERIES)


@pytest.mark.parametrize(("layer", "x"), [(nn.Linear(8, 3), X), (nn.GRU(8, 3), SERIES)], ids=["linear", "gru"])
def test_a_layer_of_two_models_is_converted_in_one(layer: nn.Module, x: Tensor):
    first, second = Holder(layer), Holder(layer)
    place_(first, x)
    with pytest.raises(UnsupportedLayerError, match="on tiles in another model"):
        place_(second, x)
    convert_to_digital_(first)
    place_(second, x)


def test_an_attribute_that_is_deleted_on_tiles_stays_deleted():
    model = Holder(nn.Linear(8, 3))
    model.layer.tag = 3
    del place_(model).layer.tag
    assert not hasattr(model.layer, "tag")
    assert not hasattr(convert_to_digital_(model).layer, "tag")


def test_the_mode_that_is_set_on_a_layer_alone_reaches_its_own_forward():
    class Dropping(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return F.linear(F.dropout(input, 0.5, self.training), self.weight, self.bias)

    model = place_(Holder(Dropping(8, 3)))
    assert torch.equal(model(X), model(X))
    model.layer.training = True
    assert not torch.equal(model(X), model(X))
    model.eval()
    assert torch.equal(model(X), model(X))


# -- weights --------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    ("make", "x", "name"), [(nn.Linear, X, "weight"), (nn.LSTM, SERIES, "weight_hh_l0")], ids=["linear", "lstm"]
)
@pytest.mark.parametrize(
    "change",
    [
        lambda layer, name: prune.l1_unstructured(layer, name, 0.5),
        lambda layer, name: nn.utils.weight_norm(layer, name),
    ],
    ids=["prune", "weight norm"],
)
def test_a_weight_that_becomes_computed_on_tiles_is_refused(
    make: Callable[..., nn.Module], x: Tensor, name: str, change: Callable[[nn.Module, str], Any]
):
    model = place_(Holder(make(8, 3)), x)
    with pytest.raises(UnsupportedLayerError, match=f"got a tensor as '{name}'"):
        change(model.layer, name)


def test_a_weight_that_is_replaced_has_limits_of_its_own():
    layer: Any = place_(Holder(nn.Linear(8, 3))).layer
    assert isinstance(layer, AnalogLayer)
    layer.weight = nn.Parameter(torch.full((3, 8), 7.0))
    assert layer.analog_weight_bound.tolist() == [7.0] * 3
    torch.testing.assert_close(layer(X), 7 * X.sum(dim=1, keepdim=True) + layer.bias)
    with pytest.raises(UnsupportedLayerError, match=r"got a weight of shape \(5, 8\), expected \(3, 8\)"):
        layer.weight = nn.Parameter(torch.ones(5, 8))
