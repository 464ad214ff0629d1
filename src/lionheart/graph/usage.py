"""The digital product of a projection, as its module's forward would compute it."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.graph.kinds import Projection
from lionheart.graph.standin import Geometry, Multiply

_CONVOLUTIONS: dict[int, Any] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def multiply_digitally(module: nn.Module, projection: Projection, weight: Tensor) -> tuple[Multiply, Geometry | None]:
    """Return the product with the whole of a parameter, and a convolution's geometry."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        conv = cast(nn.Conv2d, module)
        padding = conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
        geometry: Geometry = (tuple(conv.stride), padding, tuple(conv.dilation), conv.groups)
        convolution = _CONVOLUTIONS[weight.ndim]
        return lambda x: cast(Tensor, convolution(x, weight, None, *geometry)), geometry
    matrix = weight.t() if projection.inputs_first else weight
    return lambda x: F.linear(x, matrix), None
