"""Models on tiles that compute exactly, and inputs for them. The inputs do not depend on the order in which tests are read."""

import torch
from torch import nn

from lionheart.analog import convert_to_analog_
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
