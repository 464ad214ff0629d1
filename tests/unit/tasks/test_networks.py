"""The networks of the built-in tasks against the counts that the paper prints, and what works without trained weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recipes import put_recipe
from torch import nn
from typer.testing import CliRunner

from lionheart.candidates import find_candidates
from lionheart.cli import app
from lionheart.data import TensorBatches
from lionheart.devices import TileSpec
from lionheart.errors import ArtifactError, ConfigError
from lionheart.graph import LayerGraph, trace_graph
from lionheart.tasks import build_task, task_names
from lionheart.tasks import registry as registry_module
from lionheart.tasks.images.networks.alexnet import AlexNet
from lionheart.tasks.images.networks.lenet import LeNet5
from lionheart.tasks.images.networks.mobilenet import MobileNet, MobileNetV2
from lionheart.tasks.images.networks.resnet import ResNet8, ResNetCifar
from lionheart.tasks.images.networks.vgg import Vgg16
from lionheart.tasks.registry import build_example, build_untrained, checkpoint_path, find_recipe, find_weights
from lionheart.training import save_weights


def graph_of(model: nn.Module) -> LayerGraph:
    return trace_graph(model.eval(), torch.zeros(1, 3, 32, 32))


# ------------------------------------------------------------------------------- Lammie et al., arXiv:2401.09420v3, Table I


@pytest.mark.parametrize(
    ("build", "n_classes", "n_layers", "n_weights", "macs"),
    [
        (ResNet8, 10, 10, 77_360, 12_501_632),
        (ResNetCifar, 10, 20, 268_336, 40_551_040),
        (Vgg16, 10, 14, 14_715_584, 313_201_664),
        (Vgg16, 100, 14, 14_761_664, 313_247_744),
        (AlexNet, 10, 7, 15_378_112, 273_940_480),
        (AlexNet, 100, 7, 15_562_432, 274_124_800),
    ],
)
def test_counts_are_the_papers(build: type[nn.Module], n_classes: int, n_layers: int, n_weights: int, macs: int):
    """Layers and weights are printed; so are the 313.2 M MACs of VGG-16. Those of AlexNet follow from the paddings chosen."""
    graph = graph_of(build(n_classes=n_classes))
    assert len(graph.nodes) == n_layers
    assert sum(node.weights for node in graph.nodes) == n_weights
    assert graph.macs == macs


def test_mobilenet_has_the_papers_counts():
    """The paper counts the weights of the depthwise convolutions, but neither their MACs nor them as layers."""
    graph = graph_of(MobileNet())
    mappable = [node for node in graph.nodes if node.groups == 1]
    assert (len(mappable), len(graph.nodes)) == (15, 28)
    assert sum(node.weights for node in graph.nodes) == 3_195_328
    assert sum(node.macs for node in mappable) == 44_935_168
    assert sum(node.weights for node in mappable) == 3_150_688
    candidates = find_candidates(graph, TileSpec(), exclude=["*.depthwise"])
    assert [c.node.fqn for c in candidates if c.is_mappable] == [node.fqn for node in mappable]


def test_mobilenets_printed_count_for_100_classes_is_that_of_10_with_biases():
    graph, model = graph_of(MobileNet(100)), MobileNet(10)
    assert sum(node.weights for node in graph.nodes) == 3_195_328 + 90 * 1_024 == 3_287_488
    channels = sum(module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert 3_195_328 + channels + 10 == 3_206_282  # as printed


@pytest.mark.parametrize(
    ("model", "n_layers", "n_weights", "printed"),
    [
        (ResNet8(100), 10, 77_360 + 5_760, 77_968),
        (ResNetCifar(3, 100), 20, 268_336 + 5_760, 270_522),
        (ResNetCifar(5, 100), 32, 461_872 + 5_760, None),
        (ResNetCifar(9, 100), 56, 848_944 + 5_760, None),
    ],
    ids=["resnet8", "resnet20", "resnet32", "resnet56"],
)
def test_residual_networks_of_100_classes(model: nn.Module, n_layers: int, n_weights: int, printed: int | None):
    """90 more outputs of 64 inputs are 5,760 more weights; what the paper prints leaves no room for them."""
    graph = graph_of(model)
    assert len(graph.nodes) == n_layers
    assert sum(node.weights for node in graph.nodes) == n_weights
    assert printed is None or printed < n_weights


@pytest.mark.parametrize(
    ("blocks", "n_parameters"), [(3, 269_722), (5, 464_154), (9, 853_018)], ids=["resnet20", "resnet32", "resnet56"]
)
def test_resnets_have_the_parameters_of_their_authors(blocks: int, n_parameters: int):
    """He et al., arXiv:1512.03385, Table 6: 0.27 M, 0.46 M and 0.85 M."""
    assert sum(p.numel() for p in ResNetCifar(blocks).parameters()) == n_parameters


def test_alexnets_last_pooling_leaves_5x5():
    model = AlexNet().eval()
    assert model.features(torch.zeros(1, 3, 32, 32)).shape == (1, 256, 5, 5)
    assert model.fc1.in_features == 6_400


def test_mobilenetv2_is_the_authors_network():
    """2,236,682 parameters: torchvision's mobilenet_v2 with 10 classes; strides have none. 4x4 pixels are left at the end."""
    model = MobileNetV2().eval()
    graph = graph_of(model)
    depthwise = [node for node in graph.nodes if node.groups > 1]
    assert sum(p.numel() for p in model.parameters()) == 2_236_682
    assert (len(graph.nodes), len(depthwise)) == (53, 17)
    assert sum(node.weights for node in graph.nodes) == 2_202_560
    assert sum(node.weights for node in depthwise) == 64_224
    assert (graph.macs, sum(node.macs for node in depthwise)) == (87_976_448, 5_879_808)
    assert model.blocks(torch.zeros(1, 32, 32, 32)).shape == (1, 320, 4, 4)
    # Identities where neither shape changes: 10 of 17 blocks, Sandler et al., section 3.3.
    assert sum(block.is_residual for block in model.blocks) == 10
    hundred = graph_of(MobileNetV2(100))
    assert sum(node.weights for node in hundred.nodes) == 2_202_560 + 90 * 1_280 == 2_317_760
    assert hundred.macs == 88_091_648


def test_mobilenetv2_projects_without_relu():
    block = MobileNetV2().blocks[0].eval()
    assert (block(torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(0))) < 0).any()


@pytest.mark.parametrize(
    ("model", "n_layers", "n_weights", "macs"),
    [(LeNet5(), 5, 61_470, 416_520), (ResNet8(in_channels=1), 10, 77_072, 12_206_720)],
    ids=["lenet5", "resnet8"],
)
def test_networks_for_grey_images(model: nn.Module, n_layers: int, n_weights: int, macs: int):
    graph = trace_graph(model.eval(), torch.zeros(1, 1, 32, 32))
    assert (len(graph.nodes), sum(node.weights for node in graph.nodes), graph.macs) == (n_layers, n_weights, macs)


@pytest.mark.parametrize("build", [Vgg16, MobileNet, MobileNetV2, AlexNet])
def test_fresh_networks_pass_signals_and_gradients(build: type[nn.Module]):
    # With the usual starting weights a deep network without care makes all images alike, and learns nothing.
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(n_classes=100)
    logits = model(torch.randn(4, 3, 32, 32, generator=generator))
    assert logits.shape == (4, 100)
    assert logits.std(dim=0).mean() > 0.05
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters() if p.dim() > 1)


# ---------------------------------------------------------------------------------------------------- tasks and weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIONHEART_CACHE", str(tmp_path))
    return tmp_path


def test_every_network_is_there_for_both_sets():
    networks = ("alexnet", "mobilenet", "mobilenetv2", "resnet20", "resnet32", "resnet56", "resnet8", "vgg16")
    expected = [f"{data}/{network}" for data in ("cifar10", "cifar100") for network in networks]
    assert [name for name in task_names() if name.startswith("cifar")] == sorted([*expected, "cifar10/resnet8-mlperf"])
    assert [name for name in task_names() if name.startswith("fashion")] == [
        "fashion-mnist/lenet5",
        "fashion-mnist/resnet8",
    ]


@pytest.mark.parametrize("name", [name for name in task_names() if name.startswith(("cifar", "fashion"))])
def test_tasks_build_networks_of_their_classes(name: str):
    model, inputs = build_example(name) or pytest.fail("no example")
    assert not model.training
    with torch.no_grad():
        assert model(inputs).shape == (1, 100 if name.startswith("cifar100") else 10)


def test_example_of_a_task_that_needs_its_data_is_none():
    assert build_example("reviews/minilm") is None
    with pytest.raises(ConfigError, match="got 'cifar10/vgg61'"):
        build_example("cifar10/vgg61")


def test_inspect_takes_neither_weights_nor_data(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registry_module, "load_weights", None)
    result = CliRunner().invoke(app, ["inspect", "cifar10/vgg16"], env={"COLUMNS": "100", "TERM": "dumb"})
    assert result.exit_code == 0, result.stderr
    words = " ".join(result.stderr.split())
    assert "313.20 MMACs and 14,715,584 weights in 14 projections" in words
    assert list(cache.iterdir()) == []


def test_map_without_weights_says_how_to_have_them(cache: Path):
    result = CliRunner().invoke(app, ["map", "cifar100/resnet56", "--out", str(cache / "run")])
    assert result.exit_code == 2
    place = cache / "checkpoints" / "cifar100_resnet56.safetensors"
    words = " ".join(result.stderr.split())
    assert f"cifar100/resnet56: no weights in the package, and {place} does not exist" in words
    assert f"lionheart train cifar100/resnet56 --out {place}" in words
    assert "build_task('cifar100/resnet56', weights=...)" in words
    assert not (cache / "run").exists()


def test_weights_of_ones_own_are_found(cache: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ArtifactError, match="no weights in the package"):
        find_weights("cifar100/resnet8")
    model = build_untrained("cifar100/resnet8", seed=5)
    save_weights(cache / "checkpoints" / "cifar100_resnet8.safetensors", model)
    batches = TensorBatches(
        torch.zeros(1, 3, 32, 32, dtype=torch.uint8), torch.zeros(1).long(), batch_size=1, mean=(0.5,), std=(1.0,)
    )
    recipe = replace(find_recipe("cifar100/resnet8"), build_data=lambda **kwargs: (batches, batches, batches))
    put_recipe(monkeypatch, "cifar100/resnet8", recipe)
    found = build_task("cifar100/resnet8").model
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), model.parameters(), strict=True))


def test_shipped_weights_come_first(cache: Path):
    (cache / "checkpoints").mkdir()
    (cache / "checkpoints" / "cifar10_resnet8.safetensors").write_bytes(b"")
    assert find_weights("cifar10/resnet8") == checkpoint_path("cifar10/resnet8")
