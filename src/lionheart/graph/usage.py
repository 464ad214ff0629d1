"""The digital product of a projection, as computed by its module's forward."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.graph.convolutions import CONVOLVE, is_convolution
from lionheart.graph.layer_types import Projection
from lionheart.graph.proxy import Geometry, Multiply


def multiply_digitally(module: nn.Module, projection: Projection, weight: Tensor) -> tuple[Multiply, Geometry | None]:
    """Return a function that multiplies inputs with a weight, and the geometry if the module is a convolution.

    Args:
        module: Module of the projection.
        projection: Layout of the projection.
        weight: Whole parameter that contains the weight of the projection.

    Returns:
        Function from inputs to their product without bias; stride, padding, dilation and groups, or None.
    """
    if is_convolution(module):
        padding = module.padding if isinstance(module.padding, str) else tuple(module.padding)
        geometry: Geometry = (tuple(module.stride), padding, tuple(module.dilation), module.groups)
        convolution = CONVOLVE[weight.ndim - 2]
        return lambda x: cast(Tensor, convolution(x, weight, None, *geometry)), geometry
    matrix = weight.t() if projection.inputs_first else weight
    return lambda x: F.linear(x, matrix), None
