"""Models on tiles that compute exactly, and inputs for them. The inputs do not depend on the order in which tests are read."""

import copy

import torch
from torch import nn

from lionheart.analog import AnalogLayer, convert_to_analog_
from lionheart.analog.noise import NoiseSource
from lionheart.devices import HWASpec, TileSpec
from lionheart.graph.layer_types import find_projections
from lionheart.mapping import LayerMapping, Placement

#: Exact products on several tiles in both directions, even for small layers.
EXACT = TileSpec.ideal(16, 16).replace(
    hwa=HWASpec(weight_noise=0, weight_clip=None, output_noise=False, converters=False)
)
_inputs = torch.Generator().manual_seed(12)
X = torch.randn(4, 8, generator=_inputs)
IMAGES = torch.randn(2, 3, 6, 6, generator=_inputs)
SERIES = torch.randn(5, 2, 8, generator=_inputs)


def convert_all_(model: nn.Module, tile: TileSpec) -> nn.Module:
    """Convert all projections of a model to analog layers, in place."""
    fqns = [each.fqn for each in find_projections(model)]
    return convert_to_analog_(model, LayerMapping(dict.fromkeys(fqns, Placement.ANALOG)), tile)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_layer(digital: nn.Module, tile: TileSpec, input_range: float = 1.0) -> AnalogLayer:
    """Return a copy of `digital` on tiles, in ``eval()``, with noise drawn for every output, not from the pool."""
    model = nn.Sequential(copy.deepcopy(digital))
    convert_to_analog_(model, LayerMapping({"0": Placement.ANALOG}), tile)
    layer = model[0]
    assert isinstance(layer, AnalogLayer)
    layer.noise = NoiseSource(seeded(77), pool_size=0)
    layer.analog_input_range.detach().fill_(input_range)
    return layer.eval()
