"""Channel rescaling: outputs stay as they are to the last bit, and a large channel costs less signal on tiles."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import hf_models
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lionheart.analog import (
    analog_layers,
    calibrate_input_ranges_,
    convert_to_analog_,
    program_chip_,
    rescale_channels_,
)
from lionheart.devices import DeviceSpec, TileSpec
from lionheart.errors import ConfigError
from lionheart.mapping import LayerMapping, Placement
from lionheart.runs import ChannelRescaling
from lionheart.tasks.images.networks.resnet import ResNet8


def run(model: nn.Module, inputs: Any) -> list[Tensor]:
    with torch.no_grad():
        outputs = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return [each for each in tree_leaves(outputs) if isinstance(each, Tensor) and each.is_floating_point()]


def spread_(model: nn.Module) -> nn.Module:
    """Draw norms with channels of very different sizes, and weights with rows and columns of different sizes."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if parameter.ndim == 1 and parameter.is_floating_point():
                values = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.3 * values if "bias" in name or "mean" in name else values.exp())
            elif "emb" not in name and "wte" not in name and parameter.ndim >= 2:
                sizes = torch.randn(parameter.shape[:2], generator=generator).mean(0).mul(5).exp()
                parameter.mul_(sizes.reshape(1, -1, *[1] * (parameter.ndim - 2)))
    return model.eval()


def chain() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, groups=2, padding=1), nn.LeakyReLU(),
        nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.GroupNorm(4, 16), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 25, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 3),
    )  # fmt: skip
    return model, torch.randn(4, 2, 16, 16)


def residual() -> tuple[nn.Module, Tensor]:
    return ResNet8(), torch.randn(2, 3, 32, 32)


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "chain": chain, "resnet8": residual, "gpt2": hf_models.gpt2, "bert": hf_models.bert, "llama": hf_models.llama,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(11)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_outputs_stay_as_they_are(name: str, strength: float):
    if name in ("gpt2", "bert", "llama"):
        pytest.importorskip("transformers")
    model, inputs = NETWORKS[name]()
    spread_(model)
    twin = copy.deepcopy(model)
    found = rescale_channels_(twin, inputs, strength)
    assert found.folded
    assert sum(each.n_channels for each in found.folded) > 0
    before, after = run(model, inputs), run(twin, inputs)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5 * float(one.abs().max()))
        assert torch.equal(one.argmax(-1), other.argmax(-1))
    fresh = (
        {key: value.flip(0) for key, value in inputs.items()} if isinstance(inputs, dict) else torch.randn_like(inputs)
    )
    assert all(
        torch.allclose(p, q, rtol=1e-5, atol=1e-6) for p, q in zip(run(model, fresh), run(twin, fresh), strict=True)
    )
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, twin.state_dict()[k])]
    names = {name for each in found.folded for name in (each.producer, *each.consumers)}
    assert changed
    assert all(any(key.startswith(f"{name}.") for name in names) for key in changed)


def test_the_spread_of_inputs_falls():
    model, inputs = chain()
    found = rescale_channels_(spread_(model), inputs, 1.0)
    assert [each.producer for each in found.folded] == ["1", "4", "7", "10"]
    assert [each.consumers for each in found.folded] == [("4",), ("6",), ("10",), ("13",)]
    assert max(each.spread_after for each in found.folded) <= 2.0 + 1e-6  # one rounded factor up, another one down
    assert max(each.spread_before for each in found.folded) > 5
    assert found.left == {"0": "its inputs are inputs of the network"}


def test_readers_of_one_norm_share_its_factors():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x)
            return torch.sigmoid(self.q(x)) * torch.sigmoid(self.k(x)) * torch.sigmoid(self.v(x))

    model = Attention()
    with torch.no_grad():
        for each, size in ((model.q, 1.0), (model.k, 2.0), (model.v, 0.5)):
            each.weight.fill_(size)
        model.k.weight[:, 3] = 128.0  # the largest weight of all three readers decides
    x = torch.tensor([[3.0, -3.0, 3.0, -3.0], [-3.0, 3.0, -3.0, 3.0]])
    (folded,) = rescale_channels_(model, x, 0.5).folded
    assert folded.consumers == ("q", "k", "v")
    # log2 s = -1/2 log2 (2, 2, 2, 128) = (-0.5, -0.5, -0.5, -3.5), minus its mean of -1.25: (0.75, 0.75, 0.75, -2.25)
    assert folded.exponents == (1, 1, 1, -2)
    assert torch.equal(model.norm.weight, torch.tensor([0.5, 0.5, 0.5, 4.0]))
    assert model.k.weight[0].tolist() == [4.0, 4.0, 4.0, 32.0]
    assert model.q.weight[0].tolist() == [2.0, 2.0, 2.0, 0.25]


def test_a_norm_before_a_sum_is_left_with_the_reason():
    pytest.importorskip("transformers")
    model, inputs = hf_models.bert()
    found = rescale_channels_(model, inputs)
    producers = [each.producer for each in found.folded]
    # the norms of BERT feed the residual connections too; only the values of the attention reach a single projection
    assert producers == [f"encoder.layer.{layer}.attention.self.value" for layer in (0, 1)]
    for layer in (0, 1):
        for name in ("query", "key", "value"):
            assert found.left[f"encoder.layer.{layer}.attention.self.{name}"] == "'add' joins it with other values"
        assert found.left[f"encoder.layer.{layer}.output.dense"] == "its inputs come from 'gelu'"


def test_norms_before_attention_and_feed_forward_are_rescaled():
    pytest.importorskip("transformers")
    model, inputs = hf_models.gpt2()
    found = rescale_channels_(spread_(model), inputs)
    consumers = {each.producer.removeprefix("transformer."): each.consumers for each in found.folded}
    assert consumers["h.0.ln_1"] == ("transformer.h.0.attn.c_attn",)
    assert consumers["h.1.ln_2"] == ("transformer.h.1.mlp.c_fc",)
    assert "transformer.ln_f" not in [
        each.producer for each in found.folded
    ]  # its reader shares the embedding's weight


def test_a_large_channel_costs_less_signal_on_tiles():
    """One channel 100 times as large sets the input range: output noise then hides the others."""
    generator = torch.Generator().manual_seed(2)
    model = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 32))
    with torch.no_grad():
        model[0].weight[7] = 100.0
        model[1].weight.copy_(torch.randn(32, 64, generator=generator) / 8)
        model[1].weight[:, 7] /= 100.0
    x = torch.randn(256, 64, generator=generator)
    scaled = copy.deepcopy(model)
    (folded,) = rescale_channels_(scaled, x).folded
    assert folded.spread_before > 50
    assert folded.spread_after < 5
    errors = []
    for each in (model, scaled):
        with torch.no_grad():
            digital = each(x)
            convert_to_analog_(
                each, LayerMapping({"1": Placement.ANALOG}), TileSpec.pcm().replace(device=DeviceSpec.ideal())
            )
            calibrate_input_ranges_(each, lambda net: net(x))
            program_chip_(each, torch.Generator().manual_seed(3))
            errors.append(float((each.eval()(x) - digital).square().mean() / digital.square().mean()))
    assert errors[1] < errors[0] / 10


def test_factors_are_used_again():
    model, inputs = chain()
    twin = copy.deepcopy(spread_(model))
    found = rescale_channels_(model, inputs)
    stored = ChannelRescaling.from_json(found.to_json(), "record")
    again = rescale_channels_(twin, torch.randn(2, 2, 16, 16), stored=stored)
    assert [each.exponents for each in again.folded] == [each.exponents for each in found.folded]
    assert all(torch.equal(one, twin.state_dict()[name]) for name, one in model.state_dict().items())
    with pytest.raises(ConfigError, match="is no layer of Sequential"):
        rescale_channels_(nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3), stored=stored)


def test_a_layer_whose_rescaling_changes_outputs_is_restored():
    class Remembers(nn.Module):
        """Reads its channels outside of tensor operations that a forward pass shows."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu(self.first(x))
            largest = float(hidden.numpy().max())  # not an operation of PyTorch
            return self.third(torch.relu(self.second(hidden))) + largest

    model = Remembers()
    with torch.no_grad():
        model.first.weight[0] *= 40
        model.second.weight[0] *= 40
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(8, 4)
    expected = run(model, x)
    found = rescale_channels_(model, x)
    assert [each.producer for each in found.folded] == ["second"]
    assert found.left["second"] == "rescaling changes the outputs of the network"
    assert torch.equal(model.first.weight, before["first.weight"])
    assert torch.equal(run(model, x)[0], expected[0])


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), True, "half"])
def test_a_wrong_strength_is_refused(strength: Any):
    with pytest.raises(ConfigError, match="expected a number from 0 to 1"):
        rescale_channels_(nn.Linear(2, 2), torch.zeros(1, 2), strength)


def test_an_analog_model_is_refused():
    model = convert_to_analog_(nn.Sequential(nn.Linear(2, 2)), LayerMapping({"0": Placement.ANALOG}), TileSpec.pcm())
    assert analog_layers(model)
    with pytest.raises(ConfigError, match="1 analog layers, expected a digital model"):
        rescale_channels_(model, torch.zeros(1, 2))
