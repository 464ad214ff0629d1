"""Attention around given products equals `nn.MultiheadAttention`: outputs, weights, gradients, in every option."""

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog.layers.attention import AttentionInputs, attend
from lionheart.errors import ConfigError, UnsupportedLayerError

EMBED, HEADS, BATCH, QUERIES, KEYS = 12, 3, 2, 4, 5
NAMES = ("in_proj.q", "in_proj.k", "in_proj.v", "out_proj")
LAYOUTS = ("sequence first", "batch first", "unbatched", "unbatched batch first")
MASKS = ("none", "bool", "float", "bool per head", "float per head")
PADDINGS = ("none", "bool", "float")
OUTPUTS: dict[str, dict[str, Any]] = {
    "no weights": {"need_weights": False},
    "mean weights": {},
    "weights per head": {"average_attn_weights": False},
}
OWN_WIDTHS = {"kdim": 7, "vdim": 10}
#: Every setting on and off, every pair of them together.
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False, "add_bias_kv": True, **OWN_WIDTHS},
    {"add_zero_attn": True, **OWN_WIDTHS},
    {"bias": False, "add_bias_kv": True, "add_zero_attn": True},
)


@pytest.fixture(autouse=True)
def _fixed_random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def products_of(attention: nn.MultiheadAttention) -> Callable[[str, Tensor], Tensor]:
    """The four products with the weights of PyTorch's module."""
    if attention.in_proj_weight is None:
        inner = [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
    else:
        inner = list(attention.in_proj_weight.chunk(3))
    biases = [None] * 3 if attention.in_proj_bias is None else list(attention.in_proj_bias.chunk(3))
    weights = dict(zip(NAMES, [*inner, attention.out_proj.weight], strict=True))
    bias = dict(zip(NAMES, [*biases, attention.out_proj.bias], strict=True))
    return lambda name, x: F.linear(x, weights[name], bias[name])


def without_weights(attention: nn.MultiheadAttention) -> nn.MultiheadAttention:
    """The same settings; whoever reads a weight gets NaN."""
    blind = copy.deepcopy(attention)
    for parameter in blind.parameters():
        parameter.data.fill_(math.nan)
    blind.bias_k, blind.bias_v = attention.bias_k, attention.bias_v
    return blind


def module(layout: str = "batch first", dtype: torch.dtype = torch.float64, **settings: Any) -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(EMBED, HEADS, batch_first="batch first" in layout, dtype=dtype, **settings)
    for name, parameter in attention.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)  # PyTorch starts from zero
    return attention


def inputs_of(attention: nn.MultiheadAttention, layout: str = "batch first") -> list[Tensor]:
    dtype = attention.out_proj.weight.dtype
    shapes = ((QUERIES, attention.embed_dim), (KEYS, attention.kdim), (KEYS, attention.vdim))
    inputs = [torch.randn(BATCH, *shape, dtype=dtype) for shape in shapes]
    if layout == "sequence first":
        inputs = [each.transpose(0, 1).contiguous() for each in inputs]
    return [(each[0] if "unbatched" in layout else each).requires_grad_() for each in inputs]


def mask_of(kind: str, per_batch: tuple[int, ...], per_head: int, dtype: torch.dtype = torch.float64) -> Tensor | None:
    if kind == "none":
        return None
    shape = (per_head, *per_batch) if "per head" in kind else per_batch
    if "float" in kind:
        return torch.randn(shape, dtype=dtype)
    mask = torch.rand(shape) < 0.4
    mask[..., 0] = False
    return mask


def masks_of(layout: str, mask: str, padding: str) -> dict[str, Tensor | None]:
    n = 1 if "unbatched" in layout else BATCH
    return {
        "attn_mask": mask_of(mask, (QUERIES, KEYS), n * HEADS),
        "key_padding_mask": mask_of(padding, (KEYS,) if "unbatched" in layout else (n, KEYS), 0),
    }


def gradients(results: tuple[Tensor, Tensor | None], attention: nn.Module, inputs: list[Tensor]) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros((), dtype=torch.float64)
    for result in results:
        if result is not None:
            total = total + (result * torch.randn(result.shape, generator=generator, dtype=result.dtype)).sum()
    return list(torch.autograd.grad(total, [*inputs, *attention.parameters()], allow_unused=True))


def torch_result(attention: nn.MultiheadAttention, inputs: list[Tensor], options: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Support for mismatched")
        return attention(*inputs, **options)


def assert_as_torch(attention: nn.MultiheadAttention, inputs: list[Tensor], **options: Any) -> None:
    state = torch.get_rng_state()
    expected = torch_result(attention, inputs, options)
    torch.set_rng_state(state)
    got = attend(without_weights(attention), products_of(attention), AttentionInputs(*inputs, **options))
    close = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}
    torch.testing.assert_close(got, expected, **close)
    for ours, theirs in zip(gradients(got, attention, inputs), gradients(expected, attention, inputs), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, **close)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_act_as_in_torch(layout: str, mask: str, padding: str, output: str) -> None:
    for settings in SETTINGS:
        attention = module(layout, **settings)
        assert_as_torch(attention, inputs_of(attention, layout), **masks_of(layout, mask, padding), **OUTPUTS[output])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("widths", [{}, OWN_WIDTHS, {"kdim": 7}], ids=["same", "own", "own keys"])
def test_every_combination_of_settings(layout: str, widths: dict[str, int]) -> None:
    for bias, bias_kv, zero, output in itertools.product([False, True], [False, True], [False, True], OUTPUTS):
        attention = module(layout, bias=bias, add_bias_kv=bias_kv, add_zero_attn=zero, **widths)
        options = masks_of(layout, "float per head", "bool") | OUTPUTS[output]
        assert_as_torch(attention, inputs_of(attention, layout), **options)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_causal_hint(layout: str, padding: str, output: str) -> None:
    for settings in ({}, {"add_bias_kv": True}, {"add_zero_attn": True}):
        attention = module(layout, **settings)
        tokens = inputs_of(attention, layout)[1]
        options = {"is_causal": True, **masks_of(layout, "none", padding), **OUTPUTS[output]}
        options["attn_mask"] = nn.Transformer.generate_square_subsequent_mask(KEYS, dtype=torch.float64)
        assert_as_torch(attention, [tokens, tokens, tokens], **options)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_causal_hint_replaces_the_mask_where_it_does_in_torch(output: str) -> None:
    # PyTorch trusts the hint where it returns no weights, even if the mask says otherwise
    attention = module()
    mask = torch.zeros(QUERIES, KEYS, dtype=torch.float64)
    assert_as_torch(attention, inputs_of(attention), is_causal=True, attn_mask=mask, **OUTPUTS[output])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_draws_the_same_numbers(layout: str, output: str) -> None:
    attention = module(layout, dropout=0.4)
    inputs = inputs_of(attention, layout)
    assert_as_torch(attention, inputs, **masks_of(layout, "bool", "bool"), **OUTPUTS[output])
    first, _ = attention(*inputs)
    second, _ = attention(*inputs)
    assert not torch.equal(first, second)
    assert_as_torch(attention.eval(), inputs, **OUTPUTS[output])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(("mask", "padding"), [("none", "none"), ("bool", "none"), ("none", "bool"), ("bool", "bool")])
def test_the_fast_path_of_torch_gives_the_same(mask: str, padding: str, output: str) -> None:
    attention = nn.MultiheadAttention(EMBED, 2, batch_first=True, dtype=torch.float64).eval()
    x = torch.randn(BATCH, KEYS, EMBED, dtype=torch.float64)
    options = {
        "attn_mask": mask_of(mask, (KEYS, KEYS), 0),
        "key_padding_mask": mask_of(padding, (BATCH, KEYS), 0),
        **OUTPUTS[output],
    }
    with torch.no_grad():
        expected = attention(x, x, x, **options)
        got = attend(without_weights(attention), products_of(attention), AttentionInputs(x, x, x, **options))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("output", OUTPUTS)
def test_queries_that_may_see_no_key(output: str) -> None:
    attention = module()
    mask = torch.zeros(QUERIES, KEYS, dtype=torch.bool)
    mask[1] = True
    inputs = inputs_of(attention)
    expected = torch_result(attention, inputs, {"attn_mask": mask, **OUTPUTS[output]})
    got = attend(attention, products_of(attention), AttentionInputs(*inputs, attn_mask=mask, **OUTPUTS[output]))
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_float32_and_one_head() -> None:
    attention = nn.MultiheadAttention(EMBED, 1)
    x = torch.randn(KEYS, 1, EMBED)
    padding = torch.tensor([[False, True, False, False, True]])
    for output in OUTPUTS.values():
        for layout in (x, x.squeeze(1)):
            mask = padding if layout.ndim == 3 else padding[0]
            expected = attention(layout, layout, layout, key_padding_mask=mask, **output)
            got = attend(attention, products_of(attention), AttentionInputs(layout, layout, layout, mask, **output))
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", OUTPUTS)
def test_autocast(output: str) -> None:
    attention = module(dtype=torch.float32, add_bias_kv=True)
    inputs = inputs_of(attention)
    options = {"attn_mask": mask_of("float", (QUERIES, KEYS), 0, torch.float32), **OUTPUTS[output]}
    with torch.autocast("cpu", torch.bfloat16):
        expected = attention(*inputs, **options)
        got = attend(attention, products_of(attention), AttentionInputs(*inputs, **options))
    assert got[0].dtype == expected[0].dtype
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.05)


def test_each_product_is_asked_for_once() -> None:
    attention, calls = module(**OWN_WIDTHS), []
    products = products_of(attention)

    def project(name: str, x: Tensor) -> Tensor:
        calls.append((name, tuple(x.shape)))
        return products(name, x)

    attend(attention, project, AttentionInputs(*inputs_of(attention)))
    assert calls == [
        ("in_proj.q", (BATCH, QUERIES, EMBED)),
        ("in_proj.k", (BATCH, KEYS, 7)),
        ("in_proj.v", (BATCH, KEYS, 10)),
        ("out_proj", (BATCH, QUERIES, EMBED)),
    ]


def test_no_keys_but_the_added_ones() -> None:
    attention = module(add_bias_kv=True, add_zero_attn=True)
    query, empty = torch.randn(BATCH, QUERIES, EMBED, dtype=torch.float64), torch.zeros(BATCH, 0, EMBED).double()
    assert_as_torch(attention, [query.requires_grad_(), empty.requires_grad_(), empty])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("output", OUTPUTS)
def test_compiles_in_one_graph(output: str) -> None:
    attention = module(add_zero_attn=True)
    inputs = inputs_of(attention)
    options = {**masks_of("batch first", "bool", "bool"), **OUTPUTS[output]}

    @torch.compile(backend="aot_eager", fullgraph=True)
    def compiled(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
        return attend(attention, products_of(attention), AttentionInputs(query, key, value, **options))

    expected, got = torch_result(attention, inputs, options), compiled(*inputs, **options)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        gradients(got, attention, inputs), gradients(expected, attention, inputs), rtol=1e-9, atol=1e-9
    )


X = torch.zeros(BATCH, KEYS, EMBED)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([X[0, 0]] * 3, {}, r"query \(12,\).*expected three 3-D tensors, or three 2-D"),
        ([X, X[0], X[0]], {}, r"key \(5, 12\).*expected three 3-D tensors"),
        ([X, X, X[..., 1:]], {}, r"value \(2, 5, 11\), expected \(12, 12, 12\) as the sizes"),
        ([X, X, X[:, 1:]], {}, "expected a value for every key"),
        ([X, X[1:], X[1:]], {}, "expected the same size in dimension 0, the batch"),
        ([X] * 3, {"is_causal": True}, "is_causal=True without attn_mask"),
        ([X] * 3, {"attn_mask": X[0]}, r"attn_mask: got the shape \(5, 12\), expected \(5, 5\) or \(6, 5, 5\)"),
        ([X] * 3, {"attn_mask": torch.zeros(2, 5, 5)}, r"attn_mask: got the shape \(2, 5, 5\)"),
        (
            [X] * 3,
            {"key_padding_mask": torch.zeros(2, 4)},
            r"key_padding_mask: got the shape \(2, 4\), expected \(2, 5\)",
        ),
        (
            [X] * 3,
            {"attn_mask": torch.zeros(5, 5, dtype=torch.int64)},
            "attn_mask: got a mask of type torch.int64, expected torch.bool",
        ),
    ],
)
def test_inputs_that_do_not_fit(inputs: list[Tensor], options: dict[str, Any], message: str) -> None:
    attention = module(dtype=torch.float32)
    with pytest.raises(ConfigError, match=message):
        attend(attention, products_of(attention), AttentionInputs(*inputs, **options))
    with pytest.raises((RuntimeError, AssertionError)):
        attention(*inputs, **options)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused() -> None:
    attention = module(dtype=torch.float32)
    nested = torch.nested.nested_tensor([X[0], X[0, :2]])
    with pytest.raises(UnsupportedLayerError, match="key_padding_mask"):
        attend(attention, products_of(attention), AttentionInputs(nested, nested, nested))
