"""Weights that are computed from parameters: the layer stays digital with a reason, and computing the weight costs nothing.

A run with a hook-style weight norm was refused, because ``_weight_norm_interface`` has no cost on any platform; spectral norm
and orthogonal weights failed alike. A weight is the same in every inference, so its computation is no work of an inference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from lionheart.graph import trace_graph
from lionheart.mapping import LayerMapping
from lionheart.system import estimate_system, load_platform


class Double(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


class OrthogonalForward(nn.Linear):
    """Computes its weight in its own forward, by an operation that no platform prices."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, torch.linalg.qr(self.weight)[0], self.bias)


class StandardisedConv(nn.Conv2d):
    """Standardises its weight, as in ResNets without batch norm."""

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True)
        return F.conv2d(input, (self.weight - mean) / (variance + 1e-5).sqrt(), self.bias, padding=self.padding)


def _pruned(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 0.5)


def _registered(layer: nn.Module) -> nn.Module:
    nn.utils.parametrize.register_parametrization(layer, "weight", Double())
    return layer


COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm hook": nn.utils.weight_norm,
    "spectral norm hook": nn.utils.spectral_norm,
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "pruned": _pruned,
    "registered": _registered,
}
LAYERS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "linear": (lambda: nn.Linear(6, 6), torch.randn(1, 6)),
    "conv": (lambda: nn.Conv2d(3, 4, 3), torch.randn(1, 3, 6, 6)),
    "transposed": (lambda: nn.ConvTranspose1d(3, 4, 3), torch.randn(1, 3, 6)),
}


def check_costs_nothing(layer: nn.Module, plain: nn.Module, x: Tensor) -> None:
    layer(x).sum().backward()  # after a pass, a computed weight holds a graph
    graph = trace_graph(nn.Sequential(layer, nn.ReLU()), x)
    expected = trace_graph(nn.Sequential(plain, nn.ReLU()), x)
    (node,) = graph.nodes
    assert "computed from" in node.unsupported_reason
    assert node.n_mvms == expected.nodes[0].n_mvms
    assert graph.other_ops == expected.other_ops
    found, wanted = (
        estimate_system(each, LayerMapping.all_digital(each), load_platform("alpine-high-power"))
        for each in (graph, expected)
    )
    assert found == wanted


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_costs_nothing(name: str, layer: str):
    make, x = LAYERS[layer]
    check_costs_nothing(COMPUTED[name](make()), make(), x)


def test_an_orthogonal_weight_costs_nothing():
    check_costs_nothing(parametrizations.orthogonal(nn.Linear(6, 6)), nn.Linear(6, 6), torch.randn(1, 6))


def test_a_weight_computed_in_the_own_forward_costs_nothing():
    graph = trace_graph(nn.Sequential(OrthogonalForward(6, 6), nn.ReLU()), torch.randn(1, 6))
    assert [op.name for op in graph.other_ops] == ["relu"]
    assert graph.nodes[0].unsupported_reason
    graph = trace_graph(nn.Sequential(StandardisedConv(3, 4, 3, padding=1), nn.ReLU()), torch.randn(1, 3, 6, 6))
    assert [op.name for op in graph.other_ops] == ["relu"]
    assert graph.nodes[0].unsupported_reason


def test_work_on_parameters_that_is_no_weight_still_counts():
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shift, self.fc = nn.Parameter(torch.randn(6)), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + torch.tanh(self.shift)

    graph = trace_graph(Shifted(), torch.randn(1, 6))
    assert {op.name for op in graph.other_ops} == {"add", "tanh"}
