"""Tiny networks with their expected graphs. All counts are calculated by hand next to the layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """What the trace must say of one projection."""

    fqn: str
    kind: str
    rows: int
    cols: int
    n_mvms: int
    groups: int = 1
    n_calls: int = 1
    tied_to: str | None = None


@dataclass(frozen=True)
class Specimen:
    """A network, its example inputs, its projections, and the MACs of products outside them."""

    build: Callable[[], nn.Module]
    inputs: Any
    projections: tuple[Row, ...]
    hidden_macs: int = 0


class Branch(nn.Module):
    """Two layers read the same input; their outputs are joined."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(2, 4, 3, padding=1)
        self.narrow = nn.Conv2d(2, 3, 1, bias=False)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.wide(x), self.narrow(x)], dim=1).mean(dim=(2, 3)))


class Residual(nn.Module):
    """A sum of a layer's input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Shared(nn.Module):
    """One module that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.step(torch.relu(self.step(x))))


class Tied(nn.Module):
    """Two modules that share one weight, each with a bias of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


class OneAndThreeDimensions(nn.Module):
    """A Conv1d whose 4 x 6 outputs are read as 2 x 3 x 4 by a Conv3d."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Conv1d(3, 4, 5, stride=2)
        self.volume = nn.Conv3d(1, 2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.volume(self.line(x).reshape(1, 1, 2, 3, 4))


class BareParameter(nn.Module):
    """A product with a parameter that no module owns as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 4))
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.linear(x, self.weight))


class ScaledLinear(nn.Linear):
    """A user's own kind of linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(2 * x)


class Attention(nn.Module):
    """Two heads over five tokens; the fused kernel hides two products."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(1, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).reshape(1, 5, 8))


class Packed(nn.Module):
    """Attention whose three projections share one parameter, and a cross-attention with keys of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.MultiheadAttention(8, 2, batch_first=True)
        self.other = nn.MultiheadAttention(8, 2, kdim=3, vdim=6, batch_first=True)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        y, _ = self.own(x, x, x, need_weights=False)
        return self.other(y, key, value)[0]


class Recurrent(nn.Module):
    """A bidirectional LSTM, a GRU, and a cell after them."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(8, 3, batch_first=True)
        self.cell = nn.RNNCell(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.gru(self.lstm(x)[0])[0][:, -1])


class Upsampling(nn.Module):
    """Transposed convolutions: in one dimension, grouped and with output padding in two."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.line = nn.ConvTranspose1d(3, 2, 4, stride=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.plane(x).reshape(1, 3, -1))


class TiedHead(nn.Module):
    """A language model in small: the head has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)
        self.block = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.block(self.tokens(tokens))))


class Borrowed(nn.Module):
    """A layer whose weight is also multiplied outside of it, as in an autoencoder with tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(self.code(x)), self.code.weight.T)


class Normed(nn.Linear):
    """A linear layer whose forward computes another weight from its own."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / self.weight.norm(), self.bias)


ZOO: dict[str, Specimen] = {
    "branch": Specimen(
        Branch,
        torch.ones(1, 2, 6, 6),
        (
            Row("wide", "conv2d", rows=2 * 9, cols=4, n_mvms=36),
            Row("narrow", "conv2d", rows=2, cols=3, n_mvms=36),
            Row("head", "linear", rows=7, cols=5, n_mvms=1),
        ),
    ),
    "residual": Specimen(
        Residual,
        torch.ones(1, 6),
        (
            Row("block.0", "linear", rows=6, cols=9, n_mvms=1),
            Row("block.2", "linear", rows=9, cols=6, n_mvms=1),
        ),
    ),
    "grouped": Specimen(
        lambda: nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.Conv2d(8, 8, 3, stride=2, groups=8)),
        torch.ones(1, 4, 7, 7),
        (
            Row("0", "conv2d", rows=2 * 9, cols=4, groups=2, n_mvms=49),
            Row("1", "conv2d", rows=9, cols=1, groups=8, n_mvms=9),  # (7 - 3) / 2 + 1 = 3 in each direction
        ),
    ),
    "shared": Specimen(
        Shared,
        torch.ones(1, 4),
        (
            Row("step", "linear", rows=4, cols=4, n_mvms=2, n_calls=2),
            Row("out", "linear", rows=4, cols=2, n_mvms=1),
        ),
    ),
    "tied": Specimen(
        Tied,
        torch.ones(1, 4),
        (Row("first", "linear", rows=4, cols=4, n_mvms=2, n_calls=2, tied_to="second"),),
    ),
    "token-wise": Specimen(
        lambda: nn.Sequential(nn.Linear(8, 3), nn.GELU(), nn.Linear(3, 8, bias=False)),
        torch.ones(1, 5, 8),
        (
            Row("0", "linear", rows=8, cols=3, n_mvms=5),
            Row("2", "linear", rows=3, cols=8, n_mvms=5),
        ),
    ),
    "conv1d and conv3d": Specimen(
        OneAndThreeDimensions,
        torch.ones(1, 3, 16),
        (
            Row("line", "conv1d", rows=3 * 5, cols=4, n_mvms=6),  # (16 - 5) // 2 + 1
            Row("volume", "conv3d", rows=8, cols=2, n_mvms=1 * 2 * 3),
        ),
    ),
    "bare parameter": Specimen(
        BareParameter,
        torch.ones(1, 3, 4),
        (
            Row("weight", "functional", rows=4, cols=5, n_mvms=3),
            Row("out", "linear", rows=5, cols=2, n_mvms=3),
        ),
    ),
    "subclass": Specimen(
        lambda: nn.Sequential(ScaledLinear(3, 2)),
        torch.ones(1, 3),
        (Row("0", "linear", rows=3, cols=2, n_mvms=1),),
    ),
    "attention": Specimen(
        Attention,
        torch.ones(1, 5, 8),
        (
            Row("qkv", "linear", rows=8, cols=24, n_mvms=5),
            Row("out", "linear", rows=8, cols=8, n_mvms=5),
        ),
        hidden_macs=2 * (2 * 5 * 5 * 4),  # scores and mixing, each 2 heads x 5 x 5 tokens x 4 channels
    ),
    "packed attention": Specimen(
        Packed,
        (torch.ones(1, 5, 8), torch.ones(1, 7, 3), torch.ones(1, 7, 6)),
        (
            *(Row(f"own.in_proj.{name}", "mha", rows=8, cols=8, n_mvms=5) for name in "qkv"),
            Row("own.out_proj", "mha", rows=8, cols=8, n_mvms=5),
            Row("other.in_proj.q", "mha", rows=8, cols=8, n_mvms=5),
            Row("other.in_proj.k", "mha", rows=3, cols=8, n_mvms=7),
            Row("other.in_proj.v", "mha", rows=6, cols=8, n_mvms=7),
            Row("other.out_proj", "mha", rows=8, cols=8, n_mvms=5),
        ),
        hidden_macs=2 * (2 * 5 * 5 * 4) + 2 * (2 * 5 * 7 * 4),
    ),
    "recurrent": Specimen(
        Recurrent,
        torch.ones(1, 3, 5),
        (
            Row("lstm.ih_l0", "lstm", rows=5, cols=16, n_mvms=3),  # four gates of 4
            Row("lstm.hh_l0", "lstm", rows=4, cols=16, n_mvms=3, n_calls=3),
            Row("lstm.ih_l0_reverse", "lstm", rows=5, cols=16, n_mvms=3),
            Row("lstm.hh_l0_reverse", "lstm", rows=4, cols=16, n_mvms=3, n_calls=3),
            Row("gru.ih_l0", "gru", rows=8, cols=9, n_mvms=3),
            Row("gru.hh_l0", "gru", rows=3, cols=9, n_mvms=3, n_calls=3),
            Row("cell.hh", "rnn", rows=2, cols=2, n_mvms=1),
            Row("cell.ih", "rnn", rows=3, cols=2, n_mvms=1),
        ),
    ),
    "transposed": Specimen(
        Upsampling,
        torch.ones(1, 4, 3, 3),
        (
            Row("plane", "conv_transpose2d", rows=2, cols=3 * 9, groups=2, n_mvms=9),
            Row("line", "conv_transpose1d", rows=3, cols=2 * 4, n_mvms=72),  # 6 channels of 6 x 6 as 3 of 72
        ),
    ),
    "tied head": Specimen(
        TiedHead,
        torch.ones(1, 5, dtype=torch.long),
        (
            Row("block", "linear", rows=4, cols=4, n_mvms=5),
            Row("head", "linear", rows=4, cols=7, n_mvms=5, tied_to="tokens"),
        ),
    ),
    "borrowed": Specimen(
        Borrowed,
        torch.ones(1, 4),
        (Row("code", "linear", rows=4, cols=3, n_mvms=2, n_calls=2),),
    ),
    "own weight": Specimen(
        lambda: nn.Sequential(Normed(3, 2)),
        torch.ones(1, 3),
        (Row("0", "linear", rows=3, cols=2, n_mvms=1),),
    ),
}
#: Projections that must stay digital, and a part of the reason.
DIGITAL: dict[str, dict[str, str]] = {
    "bare parameter": {"weight": "BareParameter.forward multiplies the parameter directly"},
    "borrowed": {"code": "the weight is multiplied outside its layer, in Borrowed"},
    "own weight": {"0": "Normed overrides forward and uses the weight in 'norm'"},
}
