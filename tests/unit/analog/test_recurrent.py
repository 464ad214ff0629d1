"""Recurrent layers and cells around given products equal PyTorch's: outputs, states, gradients, in every option."""

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence
from torch.utils import _pytree as pytree

from lionheart.analog.layers.recurrent import run_cell, run_recurrent
from lionheart.errors import ConfigError, UnsupportedLayerError

IN, HIDDEN, STEPS, BATCH = 5, 4, 6, 3
KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "projected lstm": (nn.LSTM, {"proj_size": 3}),
    "gru": (nn.GRU, {}),
}
CELLS: dict[str, tuple[type[nn.RNNCellBase], dict[str, Any]]] = {
    "tanh": (nn.RNNCell, {}),
    "relu": (nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTMCell, {}),
    "gru": (nn.GRUCell, {}),
}
LAYOUTS = ("sequence first", "batch first", "unbatched", "unbatched batch first")
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(autouse=True)
def _fixed_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        yield


class SettingsOnly(nn.Module):
    """The settings of a layer in a class that Dynamo traces."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        names = (
            "mode",
            "input_size",
            "hidden_size",
            "num_layers",
            "batch_first",
            "dropout",
            "bidirectional",
            "proj_size",
        )
        for name in names:
            setattr(self, name, getattr(rnn, name))
        self.train(rnn.training)


def products_of(module: nn.Module) -> Callable[[str, Tensor], Tensor]:
    """The products with the weights of PyTorch's module."""

    def project(name: str, x: Tensor) -> Tensor:
        kind, dash, rest = name.partition("_")
        return F.linear(x, getattr(module, f"weight_{name}"), getattr(module, f"bias_{kind}{dash}{rest}", None))

    return project


def without_weights(module: Any) -> Any:
    """The same settings; whoever reads a weight gets NaN."""
    blind = copy.deepcopy(module)
    for parameter in blind.parameters():
        parameter.data.fill_(math.nan)
    return blind


def layer(kind: str, dtype: torch.dtype = torch.float64, **settings: Any) -> nn.RNNBase:
    cls, own = KINDS[kind]
    return cls(IN, HIDDEN, dtype=dtype, **own, **settings)


def inputs_of(layout: str) -> Tensor:
    shape = {"sequence first": (STEPS, BATCH), "batch first": (BATCH, STEPS)}.get(layout, (STEPS,))
    return torch.randn(*shape, IN, dtype=torch.float64).requires_grad_()


def hx_of(rnn: nn.RNNBase, is_batched: bool = True) -> Any:
    n_runs = rnn.num_layers * (2 if rnn.bidirectional else 1)
    shape = (n_runs, BATCH) if is_batched else (n_runs,)
    hidden, cell = (
        torch.randn(*shape, width, dtype=torch.float64).requires_grad_() for width in (rnn.proj_size or HIDDEN, HIDDEN)
    )
    return (hidden, cell) if rnn.mode == "LSTM" else hidden


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def gradients(results: Any, wanted: list[Tensor]) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(3)
    floats = [each for each in tensors_in(results) if each.is_floating_point()]
    total = sum((x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum() for x in floats)
    return list(torch.autograd.grad(total, wanted, allow_unused=True, retain_graph=True))


def assert_same(got: Any, expected: Any, wanted: list[Tensor]) -> None:
    assert pytree.tree_structure(got) == pytree.tree_structure(expected)
    for ours, theirs in zip(tensors_in(got), tensors_in(expected), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    for ours, theirs in zip(gradients(got, wanted), gradients(expected, wanted), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, **CLOSE)


def assert_as_torch(rnn: nn.RNNBase, inputs: Tensor | PackedSequence, hx: Any, leaves: list[Tensor]) -> None:
    state = torch.get_rng_state()
    expected = rnn(inputs, hx)
    torch.set_rng_state(state)
    got = run_recurrent(without_weights(rnn), products_of(rnn), inputs, hx)
    assert_same(got, expected, [*leaves, *tensors_in(hx), *rnn.parameters()])


def packed(order: str, leaf: Tensor) -> PackedSequence:
    """Sequences of several lengths from ``(BATCH, STEPS, IN)``."""
    if order == "sorted":
        return pack_padded_sequence(leaf, torch.tensor([6, 4, 1]), batch_first=True)
    if order == "unsorted":
        return pack_padded_sequence(leaf, torch.tensor([2, 6, 3]), batch_first=True, enforce_sorted=False)
    if order == "equal":
        return pack_padded_sequence(leaf, torch.tensor([6, 6, 6]), batch_first=True, enforce_sorted=False)
    return pack_sequence([leaf[0, :5], leaf[1, :5], leaf[2, :2]])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_equal_torch(kind: str, layout: str, bidirectional: bool) -> None:
    for bias, n_layers, has_hx in itertools.product([False, True], [1, 2], [False, True]):
        rnn = layer(
            kind, bidirectional=bidirectional, bias=bias, num_layers=n_layers, batch_first="batch first" in layout
        )
        inputs = inputs_of(layout)
        hx = hx_of(rnn, "unbatched" not in layout) if has_hx else None
        assert_as_torch(rnn, inputs, hx, [inputs])
        assert_as_torch(rnn.eval(), inputs, hx, [inputs])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_between_layers_draws_the_same_numbers(kind: str, layout: str) -> None:
    rnn = layer(kind, num_layers=3, dropout=0.4, bidirectional=True, batch_first="batch first" in layout)
    inputs = inputs_of(layout)
    assert_as_torch(rnn, inputs, None, [inputs])
    assert not torch.equal(rnn(inputs)[0], rnn(inputs)[0])
    assert_as_torch(rnn.eval(), inputs, None, [inputs])


@pytest.mark.parametrize("order", ["sorted", "unsorted", "equal", "from a list"])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_equal_torch(kind: str, order: str) -> None:
    for bidirectional, n_layers, has_hx in itertools.product([False, True], [1, 2], [False, True]):
        for batch_first in (False, True):  # means nothing to a packed sequence
            rnn = layer(kind, bidirectional=bidirectional, num_layers=n_layers, batch_first=batch_first)
            leaf = inputs_of("batch first")
            assert_as_torch(rnn, packed(order, leaf), hx_of(rnn) if has_hx else None, [leaf])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_of_packed_sequences(kind: str) -> None:
    # PyTorch draws for the packed data, we for the padded: other numbers of the same law
    rnn = layer(kind, num_layers=2, dropout=0.25, bidirectional=True)
    sequences = packed("unsorted", torch.randn(40, 50, IN, dtype=torch.float64)[:3].clone())
    seen: list[Tensor] = []
    products = products_of(rnn)

    def project(name: str, x: Tensor) -> Tensor:
        if name == "ih_l1":
            seen.append(x.detach())
        return products(name, x)

    for _ in range(200):
        run_recurrent(rnn, project, sequences)
    run_recurrent(rnn.eval(), project, sequences)
    exact, dropped = seen[-1], torch.stack(seen[:-1])
    exists = (exact != 0).expand_as(dropped)
    kept = dropped[exists] != 0
    torch.testing.assert_close(dropped[exists][kept], (exact.expand_as(dropped) / 0.75)[exists][kept], **CLOSE)
    assert abs(kept.double().mean() - 0.75) < 4 * math.sqrt(0.25 * 0.75 / len(kept))


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_all_steps_together_and_of_each_step(kind: str) -> None:
    rnn, calls = layer(kind, num_layers=2, bidirectional=True), []
    products = products_of(rnn)

    def project(name: str, x: Tensor) -> Tensor:
        calls.append((name, tuple(x.shape)))
        return products(name, x)

    run_recurrent(rnn, project, inputs_of("sequence first"))
    width = rnn.proj_size or HIDDEN
    for name in ("l0", "l0_reverse", "l1", "l1_reverse"):
        n_in = IN if "l0" in name else 2 * width
        assert [shape for called, shape in calls if called == f"ih_{name}"] == [(STEPS, BATCH, n_in)]
        assert [shape for called, shape in calls if called == f"hh_{name}"] == [(BATCH, width)] * STEPS
        n_projections = STEPS if rnn.proj_size else 0
        assert [shape for called, shape in calls if called == f"hr_{name}"] == [(BATCH, HIDDEN)] * n_projections


def test_padding_is_zero_in_every_layer() -> None:
    rnn, seen = layer("gru", num_layers=2), {}
    products = products_of(rnn)

    def project(name: str, x: Tensor) -> Tensor:
        seen[name] = x
        return products(name, x)

    run_recurrent(rnn, project, packed("sorted", inputs_of("batch first")), hx_of(rnn))
    for name in ("ih_l0", "ih_l1"):
        is_zero = (seen[name] == 0).all(dim=-1).T
        assert is_zero.tolist() == [[t >= length for t in range(STEPS)] for length in (6, 4, 1)]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", KINDS)
def test_float32_and_autocast(kind: str) -> None:
    rnn = layer(kind, torch.float32, num_layers=2, bidirectional=True)
    inputs = inputs_of("sequence first").detach().float()
    expected = rnn(inputs)
    got = run_recurrent(rnn, products_of(rnn), inputs)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        rough = run_recurrent(rnn, products_of(rnn), inputs)
    for ours, theirs in zip(tensors_in(rough), tensors_in(expected), strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("is_batched", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_equal_torch(kind: str, is_batched: bool) -> None:
    cls, own = CELLS[kind]
    for bias, has_hx in itertools.product([False, True], [False, True]):
        cell = cls(IN, HIDDEN, bias=bias, dtype=torch.float64, **own)
        shape = (BATCH,) if is_batched else ()
        inputs = torch.randn(*shape, IN, dtype=torch.float64).requires_grad_()
        states = [torch.randn(*shape, HIDDEN, dtype=torch.float64).requires_grad_() for _ in range(2)]
        hx = None if not has_hx else tuple(states) if kind == "lstm" else states[0]
        expected = cell(inputs, hx)
        got = run_cell(without_weights(cell), products_of(cell), inputs, hx)
        assert_same(got, expected, [inputs, *tensors_in(hx), *cell.parameters()])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["projected lstm", "gru"])
def test_layers_compile_in_one_graph(kind: str) -> None:
    rnn = layer(kind, num_layers=2, bidirectional=True)
    inputs, hx, settings, products = (
        torch.randn(3, BATCH, IN, dtype=torch.float64).requires_grad_(),
        hx_of(rnn),
        SettingsOnly(rnn),
        dict(rnn.named_parameters()),
    )

    def project(name: str, x: Tensor) -> Tensor:
        return F.linear(x, products[f"weight_{name}"], products.get(f"bias_{name}"))

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(inputs: Tensor, hx: Any) -> Any:
        return run_recurrent(settings, project, inputs, hx)

    assert_same(compiled(inputs, hx), rnn(inputs, hx), [inputs, *tensors_in(hx), *rnn.parameters()])


@pytest.mark.filterwarnings("default")
def test_a_cell_compiles_in_one_graph() -> None:
    cell = nn.LSTMCell(IN, HIDDEN, dtype=torch.float64)
    inputs = torch.randn(BATCH, IN, dtype=torch.float64).requires_grad_()

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(inputs: Tensor) -> Any:
        return run_cell(cell, products_of(cell), inputs)

    assert_same(compiled(inputs), cell(inputs), [inputs, *cell.parameters()])


X = torch.zeros(STEPS, BATCH, IN)
H = torch.zeros(1, BATCH, HIDDEN)


@pytest.mark.parametrize(
    ("kind", "inputs", "hx", "message"),
    [
        ("gru", X[0, 0], None, r"inputs: got a tensor of shape \(5,\), expected a 2-D or 3-D tensor"),
        ("gru", X[..., 1:], None, r"inputs: got shape \(6, 3, 4\), expected the size 5"),
        ("gru", X[:0], None, "got 0 time steps"),
        ("gru", X, H[0], r"hx: got states of the shapes \(3, 4\), expected \(1, 3, 4\)"),
        ("gru", X[:, 0], H, r"hx: got states of the shapes \(1, 3, 4\), expected \(1, 4\)"),
        ("gru", X, (H, H), r"hx: got states of the shapes \(1, 3, 4\), \(1, 3, 4\), expected \(1, 3, 4\)"),
        ("lstm", X, H, r"hx: got states of the shapes \(1, 3, 4\), expected \(1, 3, 4\), \(1, 3, 4\)"),
        ("projected lstm", X, (H, H), r"expected \(1, 3, 3\), \(1, 3, 4\)"),
        ("gru", pack_sequence([X[:, 0, 1:]]), None, r"data of the packed inputs: got shape \(6, 4\)"),
        ("gru", pack_sequence([X[:, 0]]), H, r"hx: got states of the shapes \(1, 3, 4\), expected \(1, 1, 4\)"),
    ],
)
def test_inputs_that_do_not_fit(kind: str, inputs: Any, hx: Any, message: str) -> None:
    rnn = layer(kind, torch.float32)
    with pytest.raises(ConfigError, match=message):
        run_recurrent(rnn, products_of(rnn), inputs, hx)
    with pytest.raises(Exception, match=r"."):
        rnn(inputs, hx)


def test_cells_refuse_what_does_not_fit() -> None:
    cell = nn.GRUCell(IN, HIDDEN)
    for inputs, hx, message in (
        (X, None, "expected a 1-D or 2-D tensor"),
        (X[0, :, 1:], None, "expected the size 5"),
        (X[0], H[0, 0], r"hx: got states of the shapes \(4,\), expected \(3, 4\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            run_cell(cell, products_of(cell), inputs, hx)
    with pytest.raises(UnsupportedLayerError, match="RNNCellBase"):
        run_cell(nn.RNNCellBase(IN, HIDDEN, True, 1), products_of(cell), X[0])
    settings = SettingsOnly(layer("gru"))
    settings.mode = "SRU"
    with pytest.raises(UnsupportedLayerError, match="unknown mode 'SRU'"):
        run_recurrent(settings, products_of(settings), X)
