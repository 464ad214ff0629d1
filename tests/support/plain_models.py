"""Networks whose inspection takes milliseconds, for tests that call the command line."""

import torch
from torch import nn


def tiny() -> tuple[nn.Module, torch.Tensor]:
    """Return two linear layers, one with a name on which bad regular expressions take exponential time, and an input."""
    net = nn.Sequential()
    net.add_module("a" * 30 + "b", nn.Linear(12, 8))
    net.add_module("relu", nn.ReLU())
    net.add_module("fc", nn.Linear(8, 3))
    return net, torch.zeros(1, 12)
