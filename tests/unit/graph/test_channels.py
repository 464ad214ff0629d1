"""Which channels of a network are free to be rescaled, and why others are not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.errors import GraphError
from lionheart.graph.channels import find_channels


def reasons_of(model: nn.Module, x: Tensor) -> dict[str, set[str]]:
    """Return the reasons of the channels of each layer; a free channel has an empty reason."""
    found = find_channels(model, x)
    return {each.name: set(found.reasons[each.first : each.first + each.n_channels]) for each in found.producers}


class Net(nn.Module):
    """Two layers of eight channels with something between them."""

    def __init__(self, between) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(6, 8), nn.Linear(8, 3), nn.LayerNorm(8)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self, self.first(x)))


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))

FREE = {
    "nothing": lambda net, x: x,
    "relu": lambda net, x: F.relu(x),
    "relu in place": lambda net, x: F.relu_(x),
    "leaky relu": lambda net, x: F.leaky_relu(x, 0.1),
    "dropout": lambda net, x: F.dropout(x, training=net.training),
    "a number": lambda net, x: 2.5 * x / 3,
    "a mask": lambda net, x: x * (torch.arange(5) > 1).float().unsqueeze(1).expand(5, 8),
    "views": lambda net, x: x.t().reshape(2, 4, 5).permute(2, 0, 1).flatten(1).unsqueeze(0).squeeze(0),
    "permuted channels": lambda net, x: torch.cat([x[:, 4:], x[:, :4]], 1),
    "a pool over samples": lambda net, x: F.avg_pool1d(x.t(), 5).t(),
}


@pytest.mark.parametrize("name", FREE)
def test_channels_are_free(name: str):
    assert reasons_of(Net(FREE[name]).eval(), X)["first"] == {""}


BLOCKED = {
    "gelu": (lambda net, x: F.gelu(x), "'gelu' follows"),
    "sigmoid gate": (lambda net, x: x * torch.sigmoid(x), "'sigmoid' follows"),
    "relu6": (lambda net, x: F.relu6(x), "'hardtanh' follows"),
    "softmax": (lambda net, x: F.softmax(x, -1), "'softmax' follows"),
    "norm": (lambda net, x: net.norm(x), "'layer_norm' follows, whose factors are rescaled instead"),
    "sum with another": (lambda net, x: x + X.sum(1, keepdim=True), "'add' joins it"),
    "constant": (lambda net, x: x + 1, "'add' follows"),
    "pool over channels": (lambda net, x: F.max_pool1d(x, 3, 1, 1), "'max_pool' follows"),
    "mean over channels": (lambda net, x: x.mean(1, keepdim=True).expand(5, 8), "'avg_pool' follows"),
    "square": (lambda net, x: x * x, "'mul' joins it"),
    "padding with ones": (lambda net, x: F.pad(x, (0, 0, 1, 0), value=1.0), "'constant_pad_nd' follows"),
    "other numbers": (lambda net, x: x.view(torch.int32).float(), "'view' follows"),
    "later write": (lambda net, x: x.view(5, 8) if x.add_(1) is x else x, "'add' follows"),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_channels_keep_their_factor(name: str):
    between, reason = BLOCKED[name]
    (found,) = reasons_of(Net(between).eval(), X)["first"]
    assert found.startswith(reason)


def test_only_the_channels_with_another_use_keep_their_factor():
    found = find_channels(Net(lambda net, x: torch.cat([F.gelu(x[:, :3]), x[:, 3:]], 1)).eval(), X)
    first = found.producers[0].first
    assert [bool(reason) for reason in found.reasons[first : first + 8]] == [True] * 3 + [False] * 5


def test_a_later_reader_and_the_output_keep_the_factor():
    class TwoReaders(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.first(x)
            return self.second(F.relu(hidden)), F.relu(hidden)

    assert reasons_of(TwoReaders(None).eval(), X)["first"] == {"the network returns it"}
    assert reasons_of(nn.Sequential(nn.Linear(6, 2)), X)["0"] == {"the network returns it"}


def test_shared_frozen_parametrised_and_hooked_layers_keep_their_factor():
    def plain(net: Net, x: Tensor) -> Tensor:
        return x

    tied = Net(plain).eval()
    tied.third = nn.Linear(8, 3)
    tied.third.weight = tied.second.weight
    assert reasons_of(tied, X)["first"] == {"the parameter second.weight is used under another name too"}

    frozen = Net(plain).eval()
    frozen.second.weight.requires_grad_(False)
    assert reasons_of(frozen, X)["first"] == {"the parameter second.weight is frozen"}

    computed = Net(plain).eval()
    nn.utils.parametrizations.weight_norm(computed.second)
    assert reasons_of(computed, X)["first"] == {"'addmm' joins it with other values"}

    hooked = Net(plain).eval()
    hooked.second.register_forward_hook(lambda module, args, output: None)
    assert reasons_of(hooked, X)["first"] == {"Linear has a hook, which may read it"}
    assert len(hooked.second._forward_hooks) == 1


def test_a_layer_that_runs_on_different_channels_keeps_them():
    class Twice(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.relu(self.first(x))) + self.second(X[:, :1].expand(5, 8))

    assert reasons_of(Twice(None).eval(), X)["first"] == {"second runs more than once, on different channels"}


def test_a_weight_with_another_use_keeps_its_channels():
    class Penalised(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.second(F.relu(self.first(x))) + self.second.weight.norm()

    (reason,) = reasons_of(Penalised(None).eval(), X)["first"]
    assert reason.endswith("reads it too")


def test_a_forward_that_fails_is_an_error():
    with pytest.raises(GraphError, match="the forward pass failed"):
        find_channels(Net(FREE["relu"]), torch.zeros(2, 5))
