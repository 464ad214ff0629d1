"""Any model: graphs that agree with PyTorch's FLOP counter, conversion of everything and back, training, compiling, copies."""

from __future__ import annotations

import copy
import gc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hf_models import MODELS, TOKENS
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from zoo import ZOO

from lionheart.analog import (
    analog_layers,
    calibrate_input_ranges_,
    clip_weights_,
    compile_model_,
    convert_to_analog_,
    convert_to_digital_,
    drift_chip_,
    program_chip_,
    seed_noise_,
)
from lionheart.candidates import find_candidates
from lionheart.data import LoaderBatches, call_model
from lionheart.devices import HWASpec, TileSpec
from lionheart.errors import ConfigError, GraphError, UnsupportedLayerError
from lionheart.evaluation import ChipEnsemble
from lionheart.graph import LayerGraph, Projection, register_layer_type, trace_graph, unregister_layer_type
from lionheart.graph.blocks import make_pattern, make_unit_pattern, name_units
from lionheart.graph.convolutions import CONVOLVE, is_convolution, is_transposed_convolution
from lionheart.graph.hf import load_structure
from lionheart.mapping import LayerMapping
from lionheart.rng import RandomStreams
from lionheart.tasks.images.networks.resnet import ResNet8

DAY = 86_400.0
SMALL = TileSpec.ideal(rows=7, cols=5)
QUIET = TileSpec.pcm(rows=16, cols=16, output_noise=0.0, hwa=HWASpec(weight_noise=0.0))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first_tensor(output: Any) -> Tensor:
    """Return the first tensor of what a model returns."""
    if isinstance(output, Tensor):
        return output
    return first_tensor(next(iter(output.values())) if hasattr(output, "values") else output[0])


def run(model: nn.Module, inputs: Any) -> Tensor:
    return first_tensor(call_model(model, inputs))


def build(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    if name in MODELS:
        pytest.importorskip("transformers")
        model, inputs = MODELS[name]()
    else:
        model, inputs = ZOO[name].build(), ZOO[name].inputs
    return model.eval(), inputs


def mappable(graph: LayerGraph) -> list[str]:
    return [c.node.fqn for c in find_candidates(graph, SMALL) if c.is_mappable]


def all_analog(model: nn.Module, inputs: Any, tile: TileSpec) -> LayerGraph:
    graph = trace_graph(model, inputs)
    convert_to_analog_(model, LayerMapping.from_analog(graph, mappable(graph)), tile)
    return graph


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1e-12))


EVERY = [*ZOO, *MODELS]
FEATURES = ["packed attention", "recurrent", "transposed", "tied", "tied head", "subclass", "grouped", "shared"]


# -- Hugging Face ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_that_is_multiplied_is_listed_once(name: str):
    model, inputs = build(name)
    graph = trace_graph(model, inputs)
    lookups = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    multiplied = {
        fqn.rpartition(".")[0]: id(weight)
        for fqn, weight in model.named_parameters()
        if weight.ndim >= 2 and not fqn.endswith(("cls_token", "position_embeddings", "embed_positions.weight"))
    }
    names = [name for node in graph.nodes for name in (node.fqn, *node.aliases)]
    assert len(names) == len(set(names))
    for fqn, weight in multiplied.items():
        assert (fqn in names) or weight in lookups, fqn
    assert not any(node.unsupported_reason for node in graph.nodes)
    assert not graph.unused


@pytest.mark.parametrize("name", MODELS)
def test_macs_are_half_of_what_the_flop_counter_counts(name: str):
    model, inputs = build(name)
    graph = trace_graph(model, inputs)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call_model(model, inputs)
    assert 2 * (graph.macs + sum(op.macs for op in graph.other_ops)) == counter.get_total_flops()


@pytest.mark.parametrize("name", MODELS)
def test_the_meta_device_gives_the_same_graph(name: str):
    model, inputs = build(name)
    inputs.pop("attention_mask", None)  # transformers looks at its values
    graph = trace_graph(model, inputs)
    with torch.device("meta"):
        hollow = MODELS[name]()[0]
    hollow.config.pad_token_id = None  # so that transformers does not look for padding among values
    assert trace_graph(hollow, {key: value.to("meta") for key, value in inputs.items()}).nodes == graph.nodes


def test_gpt2_small_has_49_projections_and_its_head_is_tied():
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
        graph = trace_graph(model, {"input_ids": torch.ones(1, 16, dtype=torch.long)})
    assert len(graph.nodes) == 49
    assert {node.layer_type for node in graph.nodes} == {"hf_conv1d", "linear"}
    assert graph["lm_head"].tied_to == "transformer.wte"
    assert graph.weights == 12 * 12 * 768**2 + 768 * 50_257


def trace_mobilebert() -> LayerGraph:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.MobileBertModel(transformers.MobileBertConfig(), add_pooling_layer=False)
        return trace_graph(model, {"input_ids": torch.ones(1, 16, dtype=torch.long)})


def test_mobilebert_has_361_projections_in_its_encoder():
    graph = trace_mobilebert()
    assert len(graph.nodes) == 361 == 24 * 15 + 1
    kinds = {".".join(p for p in node.fqn.split(".") if not p.isdigit()) for node in graph.nodes}
    assert len(kinds) == 15 - 4 + 1  # the four feed-forward networks of a block: three of the same names


# -- Mapping units --------------------------------------------------------------------------------------------------------


def test_mobilebert_has_169_units_as_in_the_paper():
    graph = trace_mobilebert()
    units = name_units(graph.fqns)
    assert list(units) == list(graph.fqns)
    assert len(set(units.values())) == 169 == 7 * 24 + 1  # the paper prints 169
    sizes = Counter(make_unit_pattern(unit) for unit in units.values())
    assert set(Counter(make_unit_pattern(unit) for unit in set(units.values())).values()) == {24, 1}
    assert {part.removeprefix("encoder.layer.*."): n // 24 for part, n in sizes.items() if n > 1} == {
        "bottleneck": 2,
        "attention": 4,
        "ffn.0": 2,
        "ffn.1": 2,
        "ffn.2": 2,
        "intermediate": 1,
        "output": 2,
    }
    assert [unit for unit in units.values() if ".layer." not in unit] == ["embeddings.embedding_transformation"]


@pytest.mark.parametrize(
    ("kind", "n_units", "one_of_them", "n_inside"),
    [
        ("bert", 12 * 3 + 1, "encoder.layer.*.attention", 4),
        ("gpt2", 12 * 2 + 1, "transformer.h.*.attn", 2),
        ("llama", 32 * 2 + 1, "model.layers.*.mlp", 3),
        ("t5", 6 * 2 + 6 * 3 + 1, "decoder.block.*.layer.*.EncDecAttention", 4),
        ("resnet", 54, "resnet.encoder.stages.*.layers.*.shortcut.convolution", 1),
    ],
)
def test_units_of_other_networks(kind: str, n_units: int, one_of_them: str, n_inside: int):
    pytest.importorskip("transformers")
    units = name_units(trace_graph(*load_structure(kind)).fqns)
    sizes = Counter(units.values())
    assert len(sizes) == n_units
    assert {sizes[unit] for unit in sizes if make_pattern(unit) == one_of_them} == {n_inside}


def test_stages_hold_blocks_and_are_none():
    pytest.importorskip("transformers")
    sizes = Counter(name_units(trace_graph(*load_structure("swin")).fqns).values())
    attention = [unit for unit in sizes if make_pattern(unit) == "swin.encoder.layers.*.blocks.*.attention"]
    assert len(attention) == sum((2, 2, 6, 2))
    assert {sizes[unit] for unit in attention} == {4} == {max(sizes.values())}
    assert sizes["swin.encoder.layers.1.downsample.reduction"] == 1


def test_each_layer_of_a_residual_network_is_a_unit():
    units = name_units(trace_graph(ResNet8(), torch.ones(1, 3, 32, 32)).fqns)
    assert len(units) == 10  # the paper's number of mappable layers
    assert all(unit == fqn for fqn, unit in units.items() if "shortcut" not in fqn)
    assert len(set(units.values())) == 10


@pytest.mark.parametrize(
    ("names", "units"),
    [
        ("fc head.0", "fc head.0"),  # nothing repeats
        ("features.0 features.3 fc.1", "features.0 features.3 fc.1"),  # a list of layers, not of modules
        ("0.0 0.2 1.0 1.2", "0.0 0.2 1.0 1.2"),
        ("h.0.attn.q h.0.attn.k h.0.mlp.0 h.0.mlp.2", "h.0.attn h.0.attn h.0.mlp h.0.mlp"),
        ("h.0.attn h.0.mlp.0 h.0.mlp.2", "h.0.attn h.0.mlp h.0.mlp"),
        ("0.net.h.0.attn.q 0.net.h.0.attn.k 0.net.pool.fc", "0.net.h.0.attn 0.net.h.0.attn 0.net.pool.fc"),  # wrapped
        ("h.0.a.q h.0.b.0.x h.0.b.0.y h.0.c", "h.0.a h.0.b.0 h.0.b.0 h.0.c"),  # half in a list inside: still a block
        ("s.0.h.0.a.q s.0.h.0.a.k s.0.down", "s.0.h.0.a s.0.h.0.a s.0.down"),  # most in a list inside: a stage
        ("h.0.0.a.q h.0.0.a.k h.0.1.a.q", "h.0.0.a h.0.0.a h.0.1.a"),  # a list of lists
        ("", ""),
    ],
)
def test_units_by_names(names: str, units: str):
    assert list(name_units(names.split()).values()) == units.split()


# -- conversion -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_everything_on_ideal_tiles_gives_the_same_outputs_and_goes_back_exactly(name: str):
    model, inputs = build(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modules = {fqn: type(module) for fqn, module in model.named_modules()}
    with torch.no_grad():
        expected = run(model, inputs)
        graph = all_analog(model, inputs, SMALL)
        assert set(analog_layers(model)) >= set(mappable(graph))
        assert relative_error(run(model, inputs), expected) < 1e-4
    assert before.keys() <= model.state_dict().keys()
    model.load_state_dict(before)  # keys of the digital model stay loadable
    convert_to_digital_(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert {fqn: type(module) for fqn, module in model.named_modules()} == modules


@pytest.mark.parametrize("name", EVERY)
def test_any_half_of_the_projections_can_be_analog(name: str):
    model, inputs = build(name)
    names = mappable(trace_graph(model, inputs))
    graph = trace_graph(model, inputs)
    with torch.no_grad():
        expected = run(model, inputs)
        for chosen in (names[::2], names[1::2], names[::3]):  # from one mapping to another, not from scratch
            convert_to_analog_(model, LayerMapping.from_analog(graph, chosen), SMALL)
            present = set(analog_layers(model))
            aliases = {alias for fqn in chosen for alias in graph[fqn].aliases}
            assert set(chosen) <= present <= {*chosen, *aliases}
            assert relative_error(run(model, inputs), expected) < 1e-4


@pytest.mark.parametrize("name", FEATURES)
def test_gradients_are_those_of_the_digital_model(name: str):
    model, inputs = build(name)
    twin = copy.deepcopy(model)
    run(twin, inputs).square().sum().backward()
    all_analog(model, inputs, SMALL)
    model.train()
    run(model, inputs).square().sum().backward()
    convert_to_digital_(model)
    for (fqn, got), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert got.grad is not None, fqn
        assert (got.grad - expected.grad).norm() <= 1e-4 * expected.grad.norm() + 1e-6, fqn


@pytest.mark.parametrize("name", FEATURES)
def test_noisy_chips_age_and_training_steps_move_weights(name: str):
    model, inputs = build(name)
    tile = TileSpec.pcm(rows=16, cols=16)
    all_analog(model, inputs, tile)
    calibrate_input_ranges_(model, lambda each: call_model(each, inputs))
    outputs = []
    with torch.no_grad():
        for seed in (0, 0, 1):
            seed_noise_(model, seeded(5))
            program_chip_(model, seeded(seed))
            drift_chip_(model, DAY, seeded(seed))
            outputs.append(run(model, inputs))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {fqn: parameter.detach().clone() for fqn, parameter in model.named_parameters()}
    run(model, inputs).square().sum().backward()
    optimizer.step()
    clip_weights_(model)
    moved = [fqn for fqn, parameter in model.named_parameters() if not torch.equal(parameter, before[fqn])]
    assert len(moved) > len(before) // 2


@pytest.mark.parametrize("name", FEATURES)
def test_copies_are_independent(name: str):
    model, inputs = build(name)
    all_analog(model, inputs, SMALL)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        expected = run(model, inputs)
        assert torch.equal(run(twin, inputs), expected)
        for parameter in twin.parameters():
            parameter.mul_(0.5)
        assert torch.equal(run(model, inputs), expected)
        assert not torch.equal(run(twin, inputs), expected)
    convert_to_digital_(twin)
    assert not analog_layers(twin)
    assert analog_layers(model)


@pytest.mark.parametrize("name", FEATURES)
def test_autocast_is_close_to_single_precision(name: str):
    model, inputs = build(name)
    all_analog(model, inputs, QUIET)
    calibrate_input_ranges_(model, lambda each: call_model(each, inputs))
    for training in (True, False):
        model.train(training)
        expected = run(model, inputs)
        with torch.autocast("cpu", torch.bfloat16):
            got = run(model, inputs)
        assert (got.float() - expected).norm() < 0.1 * expected.norm() + 1e-2


@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("name", FEATURES)
def test_a_compiled_model_equals_the_eager_one(name: str):
    torch.compiler.reset()
    model, inputs = build(name)
    all_analog(model, inputs, QUIET)
    calibrate_input_ranges_(model, lambda each: call_model(each, inputs))
    for training in (True, False):
        model.train(training)
        expected = run(model, inputs)
        compile_model_(model, backend="aot_eager")
        try:
            torch.testing.assert_close(run(model, inputs), expected, rtol=1e-4, atol=1e-5)
        finally:
            model._compiled_call_impl = None
    torch.compiler.reset()


def test_layers_that_share_a_weight_share_its_crossbars():
    model, inputs = build("tied")
    all_analog(model, inputs, TileSpec.pcm(rows=16, cols=16))
    first, second = analog_layers(model).values()
    program_chip_(model, seeded())
    drift_chip_(model, DAY, seeded())
    assert torch.equal(first.take_read().weights[0][0], second.take_read().weights[0][0])
    assert model.first.bias is not model.second.bias


def test_mapping_by_another_name_of_a_shared_weight():
    model, _ = build("tied")
    convert_to_analog_(model, LayerMapping({"second": "analog", "first": "digital"}), SMALL)
    assert set(analog_layers(model)) == {"first", "second"}  # one placement for all


# -- training --------------------------------------------------------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))
        self.head = nn.Linear(6, 2)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return self.head(self.body(x))
        return self.head(checkpoint(self.body, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", ["additive", "multiplicative", "device"])
def test_gradient_checkpointing_sees_the_noise_of_the_first_pass(kind: str, reentrant: bool):
    gradients = []
    tile = TileSpec.pcm(rows=16, cols=16, hwa=HWASpec(weight_noise_kind=kind, drop_connect=0.1))
    for mode in (None, reentrant):
        torch.manual_seed(0)
        model = Checkpointed(mode).eval()
        x = torch.randn(5, 6, requires_grad=True)
        all_analog(model, x, tile)
        calibrate_input_ranges_(model, lambda each, x=x: each(x))
        seed_noise_(model, seeded(3))
        model.train()
        for _ in range(2):  # the second step has a pool
            model.zero_grad()
            model(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()] + [x.grad])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain)


def test_a_training_step_of_a_recurrent_layer_sees_one_chip():
    model, inputs = build("recurrent")
    tile = TileSpec.ideal(16, 16).replace(hwa=HWASpec(weight_noise=0.3, weight_clip=None))
    all_analog(model, inputs, tile)
    model.train()
    layer = analog_layers(model)["lstm.hh_l0"]
    used: list[Tensor] = []
    layer.register_forward_hook(lambda module, args, out: used.append(module._step_weights[0]))
    run(model, inputs)
    assert len(used) == 3
    assert all(each is used[0] for each in used)
    run(model, inputs)
    assert not torch.equal(used[3], used[0])
    assert layer._step_weights is None


# -- fused kernels ---------------------------------------------------------------------------------------------------------


class Sentence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=padding)


@pytest.mark.parametrize("names", ["encoder.layers.1.linear1", "encoder.layers.0.self_attn.in_proj.k"])
def test_pytorchs_fused_encoder_does_not_bypass_tiles(names: str):
    torch.manual_seed(0)
    model = Sentence().eval()
    inputs = (torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2]))
    graph = trace_graph(model, inputs)
    fused = model.encoder.layers[1].activation_relu_or_gelu, model.encoder.use_nested_tensor
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        expected = model(*inputs)
    convert_to_analog_(model, LayerMapping.from_analog(graph, [names]), SMALL)
    calls = []
    analog_layers(model)[names].register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        kept = ~inputs[1]
        assert relative_error(model(*inputs)[kept], expected[:, : kept.shape[1]][kept]) < 1e-4
    assert calls
    convert_to_digital_(model)
    assert (model.encoder.layers[1].activation_relu_or_gelu, model.encoder.use_nested_tensor) == fused


def test_text_is_generated_with_analog_layers():
    model, inputs = build("gpt2")
    options = {"max_new_tokens": 5, "do_sample": False}
    attended = torch.ones_like(TOKENS)
    expected = model.generate(TOKENS, attention_mask=attended, **options)
    all_analog(model, inputs, SMALL)
    assert torch.equal(model.generate(TOKENS, attention_mask=attended, **options), expected)


# -- chips -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["packed attention", "recurrent", "transposed", "tied"])
def test_an_ensemble_scores_the_chips_that_separate_programming_gives(name: str):
    model, inputs = build(name)
    all_analog(model, inputs, TileSpec.pcm(rows=16, cols=16))
    calibrate_input_ranges_(model, lambda each: call_model(each, inputs))
    batches = LoaderBatches([(inputs, torch.zeros(1))])
    metric = lambda outputs, targets: first_tensor(outputs).reshape(1, -1).sum(1)  # noqa: E731
    ensemble = ChipEnsemble(model, n_chips=3, times=[1.0, DAY], streams=RandomStreams(0))
    scores = ensemble.evaluate(batches, metric).chips
    assert scores.shape == (2, 3)
    assert len(scores.unique()) == 6
    again = ChipEnsemble(model, n_chips=3, times=[1.0, DAY], streams=RandomStreams(0), memory_bytes=1)
    assert torch.equal(again.evaluate(batches, metric).chips, scores)


# -- kinds of one's own ----------------------------------------------------------------------------------------------------


class Gated(nn.Module):
    """Two weights of its own, stored inputs first, multiplied by functions; one parameter holds both projections."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.randn(10, 4))
        self.mix = nn.Parameter(torch.randn(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        value, gate = F.linear(x, self.gates).chunk(2, dim=-1)
        return (value * gate.sigmoid()) @ self.mix


@pytest.fixture
def gated_kind() -> Iterator[None]:
    @register_layer_type(Gated)
    def describe(module: Gated) -> list[Projection]:
        return [
            Projection("gated", rows=4, cols=5, name="value", weight="gates", outputs=(0, 5)),
            Projection("gated", rows=4, cols=5, name="gate", weight="gates", outputs=(5, 10)),
            Projection("gated", rows=5, cols=3, name="mix", weight="mix", inputs_first=True),
        ]

    yield
    unregister_layer_type(Gated)


def test_a_module_of_unknown_kind_is_listed_but_stays_digital():
    graph = trace_graph(nn.Sequential(Gated()), torch.randn(1, 4))
    assert [(node.fqn, node.layer_type) for node in graph.nodes] == [("0.gates", "functional"), ("0.mix", "functional")]
    assert all("Gated.forward multiplies the parameter directly" in node.unsupported_reason for node in graph.nodes)
    assert (graph.weights, graph.macs) == (55, 55)


@pytest.mark.usefixtures("gated_kind")
def test_one_function_makes_a_kind_known_and_mappable():
    torch.manual_seed(0)
    model, x = nn.Sequential(Gated()).eval(), torch.randn(3, 4)
    graph = trace_graph(model, x[:1])
    assert graph.fqns == ("0.value", "0.gate", "0.mix")
    assert not any(node.unsupported_reason for node in graph.nodes)
    with torch.no_grad():
        expected = model(x)
        for chosen in (["0.gate"], ["0.value", "0.mix"], graph.fqns):
            convert_to_analog_(model, LayerMapping.from_analog(graph, chosen), SMALL)
            assert set(analog_layers(model)) == set(chosen)
            assert relative_error(model(x), expected) < 1e-4
    convert_to_digital_(model)
    assert type(model[0]) is Gated


def test_a_kind_is_registered_once():
    with pytest.raises(ConfigError, match="already registered"):
        register_layer_type(nn.Linear)(lambda module: [])


def test_a_class_that_is_defined_again_takes_its_place():
    """A cell of a notebook runs twice; classes are known by their dotted names."""

    def define() -> type[nn.Module]:
        class Again(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.randn(3, 4))

            def forward(self, x: Tensor) -> Tensor:
                return F.linear(x, self.weight)

        register_layer_type(Again)(lambda module: [Projection("again", rows=4, cols=3, is_module=True)])
        return Again

    define()
    kind = define()
    try:
        assert trace_graph(nn.Sequential(kind()), torch.randn(1, 4)).nodes[0].layer_type == "again"
        with pytest.raises(ConfigError, match="already registered"):
            register_layer_type(kind)(lambda module: [])
    finally:
        unregister_layer_type(kind)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_what_a_convolution_is_has_one_answer(n: int):
    plain, transposed = (getattr(nn, f"{name}{n}d") for name in ("Conv", "ConvTranspose"))
    x = torch.randn(1, 2, *[4] * n)
    model = nn.Sequential(plain(2, 3, 2), transposed(3, 2, 2), type("Own", (plain,), {})(2, 2, 1))
    nodes = trace_graph(model, x).nodes
    assert [(node.layer_type, node.is_convolution) for node in nodes] == [
        (f"conv{n}d", True),
        (f"conv_transpose{n}d", False),
        (f"conv{n}d", True),
    ]
    assert [is_convolution(each) for each in model] == [True, False, True]
    assert [is_transposed_convolution(each) for each in model] == [False, True, False]
    assert CONVOLVE[n](x, model[0].weight, model[0].bias).equal(model[0](x))


def test_edges_come_in_the_order_in_which_projections_ran():
    attention = nn.MultiheadAttention(4, 2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    edges = trace_graph(Model(), torch.randn(3, 1, 4)).edges
    assert [first.rpartition(".")[2] for first, _ in edges] == ["q", "k", "v"]


# -- errors ----------------------------------------------------------------------------------------------------------------


def test_inputs_of_wrong_shape_name_the_module():
    model, _ = build("bert")
    with pytest.raises(GraphError, match=r"BertModel: embeddings\.word_embeddings \(Embedding\)"):
        trace_graph(model, {"input_ids": torch.full((1, 4), 1_000)})


def test_a_forward_that_depends_on_values_cannot_be_traced_without_weights():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return y if y.sum() > 0 else -y

    with torch.device("meta"), pytest.raises(GraphError) as caught:
        trace_graph(Branching(), torch.ones(1, 2))
    assert "meta device" in caught.value.hint


def test_a_stand_in_refuses_what_is_no_product():
    class Late(nn.Linear):
        square = False

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight**2 if self.square else self.weight, self.bias)

    model = nn.Sequential(Late(3, 2)).eval()
    all_analog(model, torch.ones(1, 3), SMALL)
    model[0].digital.square = True
    with pytest.raises(UnsupportedLayerError, match="pow"):
        model(torch.ones(1, 3))


def test_tracing_leaves_no_trace():
    build_model: Callable[[], nn.Module] = ZOO["subclass"].build
    model = build_model()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    trace_graph(model, ZOO["subclass"].inputs)
    gc.collect()
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert type(module.weight if name else None) in (nn.Parameter, type(None))
