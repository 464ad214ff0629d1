"""Counts are of one inference, whatever the batch of the example inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hf_models import MODELS
from torch import Tensor, nn
from zoo import Attention

from lionheart.graph import trace_graph
from lionheart.system.inspection import audit_coverage


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
        return self.layer(x) * scale


class Words(nn.Module):
    """Attention over tokens, without a reshape that needs a batch."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def repeat(x: Tensor, n: int, dim: int = 0) -> Tensor:
    return torch.cat([x] * n, dim)


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 3)), lambda n: torch.ones(n, 4)),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), lambda n: torch.ones(n, 3, 8, 8)),
        (Two, lambda n: {"x": torch.ones(n, 4), "scale": torch.ones(())}),
        (Two, lambda n: {"x": torch.ones(n, 4), "scale": torch.ones(3)}),
        (lambda: nn.Bilinear(4, 3, 2), lambda n: (torch.ones(n, 4), torch.ones(n, 3))),
        (lambda: nn.LSTM(4, 3, batch_first=True), lambda n: torch.ones(n, 7, 4)),
        (lambda: nn.LSTM(4, 3), lambda n: torch.ones(7, n, 4)),
        (
            lambda: nn.GRU(4, 3, num_layers=6, batch_first=True),
            lambda n: {"input": torch.ones(n, 7, 4), "hx": torch.ones(6, n, 3)},
        ),
        (lambda: nn.LSTM(4, 3), lambda n: (torch.ones(7, n, 4), (torch.ones(1, n, 3), torch.ones(1, n, 3)))),
        (lambda: nn.RNNCell(4, 3), lambda n: (torch.ones(n, 4), torch.ones(n, 3))),
        (lambda: Words(batch_first=True), lambda n: torch.ones(n, 7, 8)),
        (lambda: Words(batch_first=False), lambda n: torch.ones(7, n, 8)),
    ],
    ids=[
        "linear",
        "conv",
        "dict",
        "dict and vector",
        "tuple",
        "lstm",
        "time first",
        "gru with state",
        "lstm with state",
        "cell",
        "words",
        "words first",
    ],
)
def test_a_batch_counts_as_one_sample(build: Callable[[], nn.Module], inputs: Callable[[int], Any], n: int):
    model = build()
    one, several = trace_graph(model, inputs(1)), trace_graph(model, inputs(n))
    assert several == one
    assert not several.notes


def test_times_and_energies_are_of_one_inference():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    one, two = (audit_coverage(trace_graph(model, torch.ones(n, 3, 8, 8)), "net") for n in (1, 2))
    assert two == one


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_a_batch_of_a_hugging_face_model(name: str):
    pytest.importorskip("transformers")
    model, inputs = MODELS[name]()
    two = {key: repeat(value, 2) for key, value in inputs.items()}
    assert trace_graph(model, two) == trace_graph(model, inputs)


@pytest.mark.parametrize(
    ("build", "inputs", "macs"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), torch.ones(3, 8, 8), 27 * 4 * 36),
        (lambda: nn.Sequential(nn.Conv1d(2, 4, 1)), torch.ones(2, 6), 2 * 4 * 6),
        (lambda: Words(batch_first=True), torch.ones(7, 8), 7 * (4 * 64 + 2 * 128)),
        (lambda: nn.LSTM(4, 3), torch.ones(7, 4), 7 * 12 * (4 + 3)),
        (lambda: nn.Sequential(nn.Linear(4, 3)), torch.ones(4), 12),
    ],
    ids=["image", "line", "words", "lstm", "vector"],
)
def test_inputs_without_a_batch_stay_whole(build: Callable[[], nn.Module], inputs: Tensor, macs: int):
    graph = trace_graph(build(), inputs)
    assert graph.macs == macs
    (note,) = graph.notes
    assert note.startswith("no batch dimension was found in the example inputs")


def test_a_model_that_insists_on_its_batch_is_said_to():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.reshape(2, 4))

    (note,) = trace_graph(Fixed(), torch.ones(2, 4)).notes
    assert "(first dimension: 2); all inputs count as one inference" in note


def test_tokens_of_one_sample_are_no_batch():
    graph = trace_graph(Attention(), torch.ones(1, 5, 8))
    assert graph["qkv"].n_mvms == 5
    assert not graph.notes
