"""Tables of the convolutions in PyTorch.

Each entry contains the layer type, the number of spatial dimensions, the module class and the function of a convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard, final

import torch.nn.functional as F
from torch import nn


@final
@dataclass(frozen=True)
class Convolution:
    """One kind of convolution in PyTorch, for example 2-D convolution.

    Args:
        layer_type: Name of the layer type in graphs, for example ``conv2d``.
        n_spatial_dims: Number of spatial dimensions, 1 to 3.
        module_type: Module class, for example `nn.Conv2d`.
        function: Function that computes the convolution, for example `F.conv2d`.
    """

    layer_type: str
    n_spatial_dims: int
    module_type: type[nn.Module]
    function: Callable[..., Any]


#: Convolutions. The weight matrix multiplies one im2col vector for each output position.
CONVOLUTIONS = (
    Convolution("conv1d", 1, nn.Conv1d, F.conv1d),
    Convolution("conv2d", 2, nn.Conv2d, F.conv2d),
    Convolution("conv3d", 3, nn.Conv3d, F.conv3d),
)
#: Transposed convolutions. The weight matrix multiplies one vector for each input position; overlapping products are added
#: digitally.
TRANSPOSED_CONVOLUTIONS = (
    Convolution("conv_transpose1d", 1, nn.ConvTranspose1d, F.conv_transpose1d),
    Convolution("conv_transpose2d", 2, nn.ConvTranspose2d, F.conv_transpose2d),
    Convolution("conv_transpose3d", 3, nn.ConvTranspose3d, F.conv_transpose3d),
)
#: Layer types of convolutions, without transposed convolutions.
CONVOLUTION_TYPES = frozenset(each.layer_type for each in CONVOLUTIONS)
#: Functions that compute a convolution, by number of spatial dimensions.
CONVOLVE = {each.n_spatial_dims: each.function for each in CONVOLUTIONS}
CONVOLVE_TRANSPOSED = {each.n_spatial_dims: each.function for each in TRANSPOSED_CONVOLUTIONS}
_MODULES = tuple(each.module_type for each in CONVOLUTIONS)
_TRANSPOSED_MODULES = tuple(each.module_type for each in TRANSPOSED_CONVOLUTIONS)


def is_convolution(module: object) -> TypeGuard[nn.Conv2d]:
    """Return whether a module is a 1-D, 2-D or 3-D convolution, but not a transposed convolution."""
    return isinstance(module, _MODULES)


def is_transposed_convolution(module: object) -> TypeGuard[nn.ConvTranspose2d]:
    """Return whether a module is a 1-D, 2-D or 3-D transposed convolution."""
    return isinstance(module, _TRANSPOSED_MODULES)
