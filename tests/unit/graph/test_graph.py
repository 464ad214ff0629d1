"""The trace: every projection with its counts, every hidden product, and a model left as it was."""

import json

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zoo import DIGITAL, ZOO, Row, Specimen

from lionheart.data import call_model
from lionheart.errors import ConfigError, GraphError
from lionheart.graph import DigitalOp, LayerGraph, trace_graph
from lionheart.record import read_record, write_record
from lionheart.tasks.images.networks.resnet import ResNet8

HIDDEN = "dynamic product"


@pytest.fixture(scope="module")
def resnet8() -> LayerGraph:
    return trace_graph(ResNet8(), torch.zeros(1, 3, 32, 32))


def find_op(graph: LayerGraph, name: str) -> DigitalOp:
    return next(op for op in graph.ops_by_name if op.name == name)


def test_resnet8_has_the_papers_size(resnet8: LayerGraph):
    # Lammie et al., arXiv:2401.09420v3, Table I: 77,360 weights and 12.50 M MACs; 9 convolutions and 1 linear layer.
    assert len(resnet8.nodes) == 10
    assert resnet8.weights == 77_360
    assert resnet8.macs == 12_501_632


def test_resnet8_layers_by_hand(resnet8: LayerGraph):
    assert resnet8.fqns == (
        "conv",
        *("stack1.conv1", "stack1.conv2"),
        *("stack2.conv1", "stack2.conv2", "stack2.shortcut.0"),
        *("stack3.conv1", "stack3.conv2", "stack3.shortcut.0"),
        "fc",
    )
    first, strided, last = resnet8["conv"], resnet8["stack3.conv1"], resnet8["fc"]
    assert (first.rows, first.cols, first.n_mvms) == (27, 16, 1024)
    assert (first.n_inputs, first.n_outputs, first.has_bias) == (3 * 1024, 16 * 1024, False)
    assert (strided.rows, strided.cols, strided.n_mvms, strided.n_inputs) == (288, 64, 64, 32 * 256)
    assert (last.rows, last.cols, last.n_mvms, last.has_bias) == (64, 10, 1, True)


def test_resnet8_digital_operations(resnet8: LayerGraph):
    ops = {op.name: op for op in resnet8.ops_by_name}
    assert HIDDEN not in ops
    outputs = 16_384 * 3 + 8_192 * 2 + 4_096 * 2  # elements after stem and stack 1, stack 2, stack 3
    assert (ops["relu"].n_calls, ops["relu"].n_elements) == (7, outputs)
    assert ops["batch_norm"].n_calls == 9
    assert (ops["add"].n_calls, ops["add"].n_elements) == (3, 16_384 + 8_192 + 4_096)
    assert (ops["avg_pool"].n_elements, ops["avg_pool"].n_operands) == (64, 4_096)


def test_operations_follow_the_projection_whose_output_they_read_last(resnet8: LayerGraph):
    relus = {op.scheduled_after: op.n_elements for op in resnet8.other_ops if op.name == "relu"}
    blocks = {f"stack{n}.conv{k}": 2 ** (15 - n) for n in (1, 2, 3) for k in (1, 2)}
    # after the addition of a block both branches are there; a convolution of the shortcut runs last
    blocks["stack2.shortcut.0"], blocks["stack3.shortcut.0"] = blocks.pop("stack2.conv2"), blocks.pop("stack3.conv2")
    assert relus == {"conv": 16_384, **blocks}
    (pool,) = [op for op in resnet8.other_ops if op.name == "avg_pool"]
    assert pool.scheduled_after == "stack3.shortcut.0"
    assert read_record(LayerGraph, write_record(resnet8), "graph") == resnet8
    old = write_record(resnet8)
    for row in old["other_ops"]:
        del row["scheduled_after"]  # graphs written before the field was there
    assert read_record(LayerGraph, old, "graph").ops_by_name == resnet8.ops_by_name


def test_what_runs_before_the_first_projection_follows_none():
    graph = trace_graph(nn.Sequential(nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.ReLU()), torch.ones(1, 4))
    assert [(op.name, op.scheduled_after, op.n_calls) for op in graph.other_ops] == [("relu", "", 1), ("relu", "1", 2)]
    assert [(op.name, op.scheduled_after, op.n_calls) for op in graph.ops_by_name] == [("relu", "", 3)]


@pytest.mark.parametrize("specimen", ZOO.values(), ids=ZOO)
def test_zoo_projections(specimen: Specimen):
    graph = trace_graph(specimen.build(), specimen.inputs)
    found = tuple(
        Row(n.fqn, n.layer_type, n.rows, n.cols, n.n_mvms, n.groups, n.n_calls, n.tied_to) for n in graph.nodes
    )
    assert found == specimen.projections
    assert sum(op.macs for op in graph.other_ops) == specimen.hidden_macs
    assert (HIDDEN in {op.name for op in graph.other_ops}) == (specimen.hidden_macs > 0)


@pytest.mark.parametrize("name", ZOO)
def test_zoo_says_what_must_stay_digital_and_why(name: str):
    graph = trace_graph(ZOO[name].build(), ZOO[name].inputs)
    found = {node.fqn: node.unsupported_reason for node in graph.nodes if node.unsupported_reason}
    expected = DIGITAL.get(name, {})
    assert found.keys() == expected.keys()
    assert all(reason in found[fqn] for fqn, reason in expected.items())


@pytest.mark.parametrize("specimen", ZOO.values(), ids=ZOO)
def test_total_macs_are_half_the_flops_that_torch_counts(specimen: Specimen):
    model = specimen.build().eval()
    # The unfused kernels, because torch counts no FLOPs for fused attention on a CPU and oneDNN's recurrent layers.
    torch._C._set_mkldnn_enabled(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call_model(model, specimen.inputs)
    torch._C._set_mkldnn_enabled(True)
    graph = trace_graph(model, specimen.inputs)
    assert 2 * (graph.macs + sum(op.macs for op in graph.other_ops)) == counter.get_total_flops()


def test_transformer_layer_hides_no_product():
    # Cause: in eval() torch fuses the whole attention into one operation for which no FLOPs are counted.
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    graph = trace_graph(layer, torch.ones(1, 5, 8))
    names = ("in_proj.q", "in_proj.k", "in_proj.v", "out_proj")
    assert graph.fqns == (*(f"self_attn.{name}" for name in names), "linear1", "linear2")
    assert find_op(graph, HIDDEN).macs == 2 * (2 * 5 * 5 * 4)  # scores and mixing
    assert find_op(graph, "softmax").n_elements == 2 * 5 * 5


def test_operands_of_a_join_are_counted():
    # Cause: the tensors of `torch.cat` come in a list, which was not looked into.
    join = find_op(trace_graph(ZOO["branch"].build(), ZOO["branch"].inputs), "cat")
    assert (join.n_calls, join.n_elements, join.n_operands) == (1, 7 * 36, 7 * 36)


def test_parametrised_weights_are_not_tied():
    # Cause: a parametrised weight is a new object at each access, and its freed id came back for the next layer.
    layers = [nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)) for _ in range(8)]
    graph = trace_graph(nn.Sequential(*layers), torch.ones(1, 4))
    assert [node.tied_to for node in graph.nodes] == [None] * 8
    assert graph.weights == 8 * 16


def test_tied_weight_counts_once_but_works_twice():
    graph = trace_graph(ZOO["tied"].build(), ZOO["tied"].inputs)
    assert (graph.weights, graph.macs) == (16, 32)


def test_sums_are_over_all_projections():
    graph = trace_graph(ZOO["grouped"].build(), ZOO["grouped"].inputs)
    assert (graph.nodes[0].weights, graph.nodes[1].weights) == (144, 72)
    assert graph.weights == 216
    assert graph.macs == 144 * 49 + 72 * 9


def test_shared_module_sums_sizes_over_its_calls():
    node = trace_graph(ZOO["shared"].build(), ZOO["shared"].inputs)["step"]
    assert (node.n_inputs, node.n_outputs) == (8, 8)


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(training: bool):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 2))
    model.train(training)
    model[1].train(not training)  # a frozen part must stay frozen
    calls = []
    model[4].register_forward_hook(lambda *_: calls.append(1))
    hooks = {name: dict(module._forward_hooks) for name, module in model.named_modules()}
    modes = {name: module.training for name, module in model.named_modules()}
    parameters = dict(model.named_parameters())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fastpath, random_state = torch.backends.mha.get_fastpath_enabled(), torch.get_rng_state()

    trace_graph(model, torch.ones(1, 3, 8, 8))

    assert calls == [1]
    assert {name: dict(module._forward_hooks) for name, module in model.named_modules()} == hooks
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled() == fastpath
    assert torch.equal(torch.get_rng_state(), random_state)


def test_failing_forward_says_why_and_cleans_up():
    model = nn.Sequential(nn.Linear(4, 3)).train()
    with pytest.raises(GraphError) as caught:
        trace_graph(model, torch.ones(1, 5))
    assert "Sequential: 0 (Linear): the forward pass failed" in caught.value.message
    assert "1x5 and 4x3" in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert model.training
    assert model[0].training
    assert not model[0]._forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()


def test_model_without_projection_is_an_error():
    with pytest.raises(GraphError, match="computed no projection"):
        trace_graph(nn.Sequential(nn.ReLU()), torch.ones(1, 5))


def test_layer_that_does_not_run_is_absent():
    model = nn.Sequential(nn.Linear(4, 3))
    model.add_module("unused", nn.Module())
    model.unused.layer = nn.Linear(3, 3)
    model.unused.forward = lambda x: x
    graph = trace_graph(model, torch.ones(1, 4))
    assert graph.fqns == ("0",)
    assert graph.unused == ("unused.layer",)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, left, right):
        return self.layer(left) + right


@pytest.mark.parametrize(
    "inputs",
    [(torch.ones(1, 2), torch.ones(1, 2)), {"right": torch.ones(1, 2), "left": torch.ones(1, 2)}],
    ids=["tuple", "dict"],
)
def test_several_inputs(inputs):
    graph = trace_graph(TwoInputs(), inputs)
    assert graph["layer"].n_mvms == 1
    assert find_op(graph, "add").n_operands == 4


def test_unknown_name_suggests_the_nearest(resnet8: LayerGraph):
    with pytest.raises(ConfigError, match=r"did you mean 'stack3.shortcut.0'"):
        resnet8["stack3.shortcut"]


def test_json_is_plain_and_complete(resnet8: LayerGraph):
    data = json.loads(json.dumps(write_record(resnet8)))
    assert data["totals"].items() >= {"macs": 12_501_632, "weights": 77_360, "is_complete": True}.items()
    assert [entry["fqn"] for entry in data["projections"]] == list(resnet8.fqns)
    assert sum(entry["macs"] for entry in data["projections"]) == 12_501_632
    assert {op["name"] for op in data["other_ops"]} == {op.name for op in resnet8.other_ops}
