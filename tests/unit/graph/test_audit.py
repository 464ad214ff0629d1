"""Every weight has a place in the audit: experts, quantised and computed weights, other uses, layers that do not run."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from lionheart.candidates import find_candidates, record_graph
from lionheart.devices import TileSpec
from lionheart.graph import LayerGraph, trace_graph
from lionheart.record import read_record, write_record
from lionheart.system.inspection import audit_coverage

TILE = TileSpec.ideal(16, 16)


def reasons(graph: LayerGraph) -> dict[str, str]:
    return {each.node.fqn: each.reason for each in find_candidates(graph, TILE)}


class Experts(nn.Module):
    """Three experts of 6 x 4 whose products are computed in one of several ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first = nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.randn(3, 6, 4))
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).flatten(0, -2)  # 8 tokens: 5 for the first, none for the second, 3 for the last
        out = {
            "grouped": self.grouped,
            "gathered": self.gathered,
            "selected": self.selected,
            "bmm": lambda x: torch.bmm(x.expand(3, *x.shape), self.weight.transpose(1, 2)).sum(0),
            "left bmm": lambda x: torch.bmm(self.weight, x.t().expand(3, *x.t().shape)).sum(0).t(),
            "matmul": lambda x: (x @ self.weight.mT).sum(0),
            "einsum": lambda x: torch.einsum("ti,eoi->teo", x, self.weight).sum(1),
        }[self.how](x)
        return self.last(out)

    def grouped(self, x: Tensor) -> Tensor:
        ends = torch.tensor([5, 5, 8], dtype=torch.int32)
        return torch._grouped_mm(x, self.weight.transpose(1, 2), offs=ends)

    def gathered(self, x: Tensor) -> Tensor:
        chosen = (x.sum(-1) > 1e9).long() + torch.tensor([0, 0, 0, 0, 0, 2, 2, 2])
        return torch.bmm(self.weight[chosen], x.unsqueeze(-1)).squeeze(-1)

    def selected(self, x: Tensor) -> Tensor:
        return torch.cat([F.linear(x[:5], self.weight[0]), F.linear(x[5:], self.weight[2])])


@pytest.mark.parametrize("how", ["grouped", "gathered", "selected"])
def test_each_expert_is_a_projection_with_the_tokens_that_reached_it(how: str):
    if how == "grouped" and not hasattr(torch, "_grouped_mm"):
        pytest.skip("this PyTorch has no grouped product")
    graph = trace_graph(Experts(how), torch.ones(1, 8, 4))
    experts = {node.fqn: (node.layer_type, node.rows, node.cols, node.n_mvms, node.macs) for node in graph.nodes[1:-1]}
    assert experts == {
        "weight.0": ("stacked", 4, 6, 5, 5 * 24),
        "weight.1": ("stacked", 4, 6, 0, 0),
        "weight.2": ("stacked", 4, 6, 3, 3 * 24),
    }
    assert all("Experts.forward multiplies the parameter directly" in reasons(graph)[fqn] for fqn in experts)
    assert sum(op.macs for op in graph.other_ops) == 0
    audit = audit_coverage(graph, "experts")
    assert audit.totals.is_complete
    assert audit.totals.macs_not_mappable == 8 * 24
    assert audit.totals.macs_mappable == 8 * (16 + 12)
    assert audit.projections[2].digital.latency_s == 0


@pytest.mark.parametrize("how", ["bmm", "left bmm", "matmul", "einsum"])
def test_each_matrix_of_a_stack_is_a_projection(how: str):
    graph = trace_graph(Experts(how), torch.ones(1, 8, 4))
    assert [(n.fqn, n.layer_type, n.rows, n.cols, n.n_mvms) for n in graph.nodes[1:-1]] == [
        (f"weight.{index}", "stacked", 4, 6, 8) for index in range(3)
    ]
    assert graph.other_weights == ()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_experts_of_a_mixtral_are_listed(device: str):
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_local_experts=4, vocab_size=100,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    with torch.device(device):
        model = transformers.MixtralForCausalLM(config)
        tokens = torch.ones(1, 8, dtype=torch.long)
    graph = trace_graph(model, {"input_ids": tokens})
    experts = [node for node in graph.nodes if node.layer_type == "stacked"]
    assert [node.fqn.partition("experts.")[2] for node in experts] == [
        f"{name}.{index}" for name in ("gate_up_proj", "down_proj") for index in range(4)
    ]
    assert sum(node.macs for node in experts) == 8 * 2 * (64 * 128 + 64 * 64)  # 8 tokens, two experts each
    totals = audit_coverage(graph, "mixtral").totals
    attention, head, gate = 2 * 64 * 64 + 2 * 64 * 32, 64 * 100, 64 * 4
    share = (attention + head) / (attention + head + gate + 2 * (64 * 128 + 64 * 64))
    assert totals.macs_mappable / totals.macs == pytest.approx(share)
    assert totals.is_complete


class Other(nn.Module):
    """A parameter that no layer multiplies."""

    def __init__(self, shape: tuple[int, ...], use: Any) -> None:
        super().__init__()
        self.layer, self.table, self.use = nn.Linear(4, 4), nn.Parameter(torch.randn(shape)), use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self.layer(x), self.table)


@pytest.mark.parametrize(
    ("use", "reason", "macs"),
    [
        (lambda x, table: x + table, "no product: Other.forward uses it in 'add'", 0),
        (lambda x, table: torch.cat([table, x[0]]), "no product: Other.forward uses it in 'cat'", 0),
        (lambda x, table: (x.unsqueeze(-2) * table).sum(-1), "multiplies it element by element", 16),
        (lambda x, table: torch.cdist(x, table[None]), "may contain a product", None),
        (lambda x, table: x, "not read on these inputs", 0),
    ],
    ids=["added", "joined", "spread and summed", "distance", "unread"],
)
def test_other_uses_have_a_line_and_the_totals_say_whether_they_are_known(use: Any, reason: str, macs: int | None):
    graph = trace_graph(Other((4, 4), use), torch.ones(1, 1, 4))
    (line,) = graph.other_weights
    assert (line.name, line.shape, line.weights, line.macs) == ("table", (4, 4), 16, macs)
    assert reason in line.reason
    totals = audit_coverage(graph, "other").totals
    assert totals.is_complete == (macs is not None)
    assert (totals.macs_other, totals.weights_other) == (macs or 0, 16)
    assert read_record(LayerGraph, write_record(graph), "graph") == graph


def test_embeddings_and_norms_need_no_line():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 6), nn.LayerNorm([5, 6]), nn.Linear(6, 2))
    graph = trace_graph(model, torch.ones(1, 5, dtype=torch.long))
    assert graph.other_weights == ()
    bag = nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, 2))
    assert trace_graph(bag, torch.ones(1, 3, dtype=torch.long)).other_weights == ()


class Quantised(Tensor):
    """Integers and a scale that look like a floating-point weight, as torchao has them."""

    @staticmethod
    def __new__(cls, integers: Tensor, scale: Tensor) -> Quantised:
        return Tensor._make_wrapper_subclass(cls, integers.shape, dtype=torch.float32)

    def __init__(self, integers: Tensor, scale: Tensor) -> None:
        self.integers, self.scale = integers, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["integers", "scale"], None

    def dequantize(self) -> Tensor:
        return self.integers.to(self.scale.dtype) * self.scale

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.linear:
            return F.linear(args[0], args[1].dequantize(), *args[2:])
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten.detach.default:
            return Quantised(args[0].integers, args[0].scale)
        raise AssertionError(f"a trace calls {function} on a quantised weight, expected only a detached view")


def quantised_by_torchao() -> nn.Module:
    layer = nn.Linear(4, 3)
    weight = Quantised(torch.ones(3, 4, dtype=torch.int8), torch.ones(3, 1))
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return nn.Sequential(layer, nn.ReLU(), nn.Linear(3, 2))


class Packed8(nn.Module):
    """Integers and a scale as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("qweight", torch.ones(3, 4, dtype=torch.int8))
        self.register_buffer("scales", torch.ones(3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.qweight.float() * self.scales)


def quantised_by_pytorch(model: nn.Module, types: set[type]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, types)


@pytest.mark.parametrize(
    ("build", "inputs", "expected", "type_name"),
    [
        (quantised_by_torchao, torch.ones(1, 4), {"0": 12, "2": 6}, "Quantised"),
        (
            lambda: nn.Sequential(Packed8(), nn.Linear(3, 2)),
            torch.ones(1, 4),
            {"0.qweight * 0.scales": 12, "1": 6},
            "torch.int8",
        ),
        (
            lambda: nn.Sequential(quantised_by_pytorch(nn.Sequential(nn.Linear(4, 3)), {nn.Linear}), nn.Linear(3, 2)),
            torch.ones(1, 5, 4),
            {"0.0": 60, "1": 30},
            "torch.qint8",
        ),
        (
            lambda: quantised_by_pytorch(nn.Sequential(nn.LSTM(4, 3)), {nn.LSTM}),
            torch.ones(5, 1, 4),
            {"0.ih_l0": 5 * 4 * 12, "0.hh_l0": 5 * 3 * 12},
            "torch.qint8",
        ),
    ],
    ids=["tensor subclass", "buffers", "quantize_dynamic linear", "quantize_dynamic LSTM"],
)
def test_quantised_layers_are_listed(build: Any, inputs: Tensor, expected: dict[str, int], type_name: str):
    graph = trace_graph(build(), inputs)
    assert {node.fqn: node.macs for node in graph.nodes} == expected
    first = next(iter(expected))
    assert f"its weight is quantised ({type_name}); give the floating-point network" in reasons(graph)[first]
    assert graph.unused == ()
    assert sum(op.macs for op in graph.other_ops) == 0
    assert audit_coverage(graph, "quantised").totals.macs_not_mappable >= expected[first]


@pytest.mark.parametrize("how", ["hook", "weight_norm", "spectral_norm", "orthogonal", "old spectral_norm", "pruned"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated:FutureWarning")
def test_computed_weights_are_named_and_their_computation_is_no_work(how: str):
    change: dict[str, Any] = {
        "hook": weight_norm,
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "orthogonal": parametrizations.orthogonal,
        "old spectral_norm": spectral_norm,
        "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    }
    model = nn.Sequential(change[how](nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(1, 8)
    wanted = model(x)
    graph = trace_graph(model, x)
    assert [node.fqn for node in graph.nodes] == ["0", "2"]
    assert "weight is computed" in reasons(graph)["0"]
    assert reasons(graph)["2"] == ""
    assert [op.name for op in graph.other_ops] == ["relu"]
    assert graph.other_weights == ()
    assert audit_coverage(graph, "computed").unpriced_ops == ()
    assert torch.equal(copy.deepcopy(model)(x) if how != "hook" else model(x), wanted)


class Odd(nn.Module):
    """Weights outside layers, a layer of every kind that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.code = nn.Linear(12, 6, bias=False)
        self.bilinear = nn.Bilinear(6, 6, 4)
        self.unused = nn.Linear(12, 3)
        self.recurrent = nn.LSTM(3, 2)
        self.table = nn.Embedding(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        code = self.code(x)
        back = F.linear(code, self.code.weight.t())
        return self.bilinear(code, torch.tanh(back[:, :6]))


def test_layers_that_do_not_run_are_named_and_change_no_total():
    graph = trace_graph(Odd(), torch.ones(1, 12))
    assert graph.unused == ("unused", "recurrent.ih_l0", "recurrent.hh_l0")
    assert reasons(graph)["unused"] == "it did not run on the example inputs"
    assert [(each.name, each.reason) for each in graph.other_weights] == [("table.weight", "not read on these inputs")]
    assert not set(graph.unused) & set(graph.fqns)
    assert graph.weights == 72 + 4 * 36
    record = record_graph(graph, find_candidates(graph, TILE))
    assert [each.fqn for each in record.candidates] == list(graph.fqns)
    audit = audit_coverage(graph, "odd")
    assert [node.fqn for node in audit.unused_projections] == list(audit.unused)


def test_a_product_that_a_kernel_hides_is_counted_by_the_outputs():
    class Hidden(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.from_numpy(x.numpy() @ self.weight.detach().numpy().T)

    graph = trace_graph(nn.Sequential(nn.Linear(4, 4), Hidden(4, 3)), torch.ones(1, 5, 4))
    assert (graph["1"].macs, graph["1"].n_mvms) == (60, 5)
    assert "Hidden ran, but the trace shows no product with its weight" in reasons(graph)["1"]


@pytest.mark.parametrize(
    ("shape", "use", "inputs"),
    [
        ((4, 3, 5), lambda x, kernel: F.conv1d(x, kernel), torch.ones(1, 3, 9)),
        ((2, 4, 3), lambda x, weight: F.bilinear(x[..., :4], x[..., 4:7], weight), torch.ones(1, 1, 9)),
    ],
    ids=["kernel", "bilinear"],
)
def test_a_kernel_is_no_stack_of_matrices(shape: tuple[int, ...], use: Any, inputs: Tensor):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(shape))

        def forward(self, x: Tensor) -> Tensor:
            return use(x, self.table)

    (node,) = trace_graph(Net(), inputs).nodes
    assert (node.fqn, node.layer_type, node.weights) == ("table", "functional", shape[0] * shape[1] * shape[2])


class Use(nn.Module):
    """A linear layer, and other weights that a function uses on its outputs of shape (1, 5, 6)."""

    def __init__(self, use: Any, **members: Any) -> None:
        super().__init__()
        self.fc, self.use = nn.Linear(6, 6), use
        for name, member in members.items():
            setattr(self, name, nn.Parameter(torch.randn(member)) if isinstance(member, tuple) else member)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, self.fc(x))


@pytest.mark.parametrize(
    ("use", "members", "expected"),
    [
        (lambda s, x: torch.stack([s.w @ row for row in x[0]]), {"w": (4, 6)}, {"w": (6, 4, 1, 5)}),
        (lambda s, x: F.conv1d(x.mT, s.w), {"w": (4, 6, 3)}, {"w": (18, 4, 1, 3)}),
        (lambda s, x: F.conv1d(x.mT, s.w, groups=2), {"w": (4, 3, 3)}, {"w": (9, 2, 2, 3)}),
        (lambda s, x: F.conv_transpose1d(x.mT, s.w), {"w": (6, 4, 3)}, {"w": (6, 12, 1, 5)}),
        (lambda s, x: F.linear(x, s.w[torch.tensor([0, 2, 1])]), {"w": (4, 6)}, {"w": (6, 3, 1, 5)}),
        (lambda s, x: x @ s.w, {"w": torch.ones(6, 4)}, {"w": (6, 4, 1, 5)}),
        (lambda s, x: x @ s.w[1], {"w": [0, torch.ones(6, 4)]}, {"w.1": (6, 4, 1, 5)}),
        (
            lambda s, x: torch.func.functional_call(s.w, {"weight": s.v, "bias": s.w.bias}, (x,)),
            {"w": nn.Linear(6, 4), "v": (4, 6)},
            {"v": (6, 4, 1, 5)},
        ),
    ],
    ids=["matvec", "conv", "groups", "transposed", "chosen rows", "tensor", "list", "functional call"],
)
def test_weights_outside_layers_have_the_sizes_of_their_products(use: Any, members: Any, expected: Any):
    # Tensors that are no parameter counted as activations, and a call with other weights counted twice.
    graph = trace_graph(Use(use, **members), torch.ones(1, 5, 6))
    found = {node.fqn: (node.rows, node.cols, node.groups, node.n_mvms) for node in graph.nodes if node.fqn != "fc"}
    assert found == expected
    assert sum(op.macs for op in graph.other_ops) == 0
    assert graph.is_complete


def test_a_weight_that_leaves_pytorch_makes_the_audit_incomplete():
    # A forward that multiplies in NumPy was said not to read the weight.
    def use(self: Use, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() @ self.w.detach().numpy())

    graph = trace_graph(Use(use, w=(6, 4)), torch.ones(1, 5, 6))
    (line,) = graph.other_weights
    assert (line.name, line.macs) == ("w", None)
    assert "outside of the operations that the trace shows" in line.reason
    assert not graph.is_complete


def test_parameters_that_are_inputs_of_a_layer_are_read():
    graph = trace_graph(Use(lambda s, x: x @ s.h(s.z).view(6, 4), h=nn.Linear(3, 24), z=(1, 3)), torch.ones(1, 5, 6))
    assert graph["h"].macs == 72
    (line,) = graph.other_weights
    assert (line.name, line.macs) == ("z", 0)
    assert "'input of a product'" in line.reason


def test_weights_joined_with_others_are_named_at_their_layers():
    model = Use(lambda s, x: F.linear(x, torch.cat([s.a.weight, s.b.weight])), a=nn.Linear(6, 4), b=nn.Linear(6, 2))
    graph = trace_graph(model, torch.ones(1, 5, 6))
    assert graph["a.weight * b.weight"].macs == 180
    assert reasons(graph)["a"] == "it did not run on the example inputs; its weight is part of another product"


def test_positions_that_an_embedding_looks_up_need_no_line():
    model = Use(lambda s, x: x + s.positions(torch.arange(5)), positions=nn.Embedding(9, 6))
    assert trace_graph(model, torch.ones(1, 5, 6)).other_weights == ()


@pytest.mark.parametrize("family", ["qwen2_moe", "gpt_oss", "llama4_text", "qwen3_moe"])
def test_the_experts_of_other_families_are_listed(family: str):
    transformers = pytest.importorskip("transformers")
    changes = dict(
        hidden_size=64, intermediate_size=64, moe_intermediate_size=32, shared_expert_intermediate_size=48, head_dim=16,
        num_hidden_layers=1, num_experts=4, num_local_experts=4, num_experts_per_tok=2,
        vocab_size=100, num_attention_heads=4, num_key_value_heads=4, intermediate_size_mlp=64,
        interleave_moe_layer_step=1, pad_token_id=0,
    )  # fmt: skip
    config = transformers.CONFIG_MAPPING[family].from_dict(changes)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
        tokens = torch.ones(1, 8, dtype=torch.long)
    graph = trace_graph(model, {"input_ids": tokens})
    experts = [node for node in graph.nodes if node.layer_type == "stacked"]
    width = 64 if family in ("gpt_oss", "llama4_text") else 32
    n_tokens = 8 * (4 if family == "llama4_text" else 2)  # Llama 4 computes every expert for every token
    assert len(experts) == 8
    assert sum(node.weights for node in experts) == 4 * 3 * 64 * width
    assert sum(node.macs for node in experts) == n_tokens * 3 * 64 * width
    assert graph.is_complete


@pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:DeprecationWarning")
def test_weights_of_a_scripted_module_are_listed():
    # The trace failed, because a scripted module supports no hooks.
    model = Use(lambda s, x: s.w(x), w=torch.jit.script(nn.Linear(6, 4)))
    graph = trace_graph(model, torch.ones(1, 5, 6))
    assert [(node.fqn, node.macs) for node in graph.nodes] == [("fc", 180), ("w.weight", 120)]
    assert "multiplies the parameter directly" in reasons(graph)["w.weight"]


def test_the_trace_of_a_decoder_with_a_cache_is_the_same_each_time():
    # Empty tensors of the cache had the producers of tensors whose memory they reused, so that edges changed between traces.
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config)
    tokens = torch.ones(1, 6, dtype=torch.long)
    edges = trace_graph(model, {"input_ids": tokens, "decoder_input_ids": tokens}).edges
    crossing = {last for first, last in edges if first.startswith("encoder") and last.startswith("decoder")}
    assert crossing == {f"decoder.block.{block}.layer.1.EncDecAttention.{name}" for block in (0, 1) for name in "kv"}
