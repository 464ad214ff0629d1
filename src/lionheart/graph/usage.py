"""Compute the product of inputs with a weight digitally, with the same operation as the forward of the module."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.graph.convolutions import CONVOLVE, is_convolution
from lionheart.graph.layer_types import Projection
from lionheart.graph.proxy import Geometry, Multiply


def multiply_digitally(module: nn.Module, projection: Projection, weight: Tensor) -> tuple[Multiply, Geometry | None]:
    """Return a function that multiplies inputs digitally with a weight, and the geometry of a convolution.

    Args:
        module: Module that contains the projection (weight matrix).
        projection: Layout of the projection in the parameters of the module.
        weight: Parameter that stores the projection. The parameter is used as a whole, even if it stores several projections.

    Returns:
        A pair. The first value is a function that maps inputs to their product with `weight`, without bias. The second value is
        the tuple of stride, padding, dilation and groups of a convolution, or None for other modules.
    """
    if is_convolution(module):
        padding = module.padding if isinstance(module.padding, str) else tuple(module.padding)
        geometry: Geometry = (tuple(module.stride), padding, tuple(module.dilation), module.groups)
        convolution = CONVOLVE[weight.ndim - 2]
        return lambda x: cast(Tensor, convolution(x, weight, None, *geometry)), geometry
    matrix = weight.t() if projection.inputs_first else weight
    return lambda x: F.linear(x, matrix), None
