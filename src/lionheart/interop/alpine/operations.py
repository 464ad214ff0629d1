"""Data classes for the floating-point operations of a network that is exported to the ALPINE simulator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Shape:
    """Shape of one sample of a layer input or output, represented as an image.

    A vector is an image with one pixel, and a sequence is an image of height 1.
    """

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """Number of elements of one sample."""
        return self.height * self.width * self.channels


@final
@dataclass(frozen=True)
class Window:
    """Geometry of a window that slides over an image, as in a convolution. All pairs have the order (height, width).

    Args:
        source: Shape of the image.
        kernel: Size of the window [pixels].
        stride: Distance between neighbouring window positions [pixels].
        padding: Number of padding rows above the image and of padding columns to the left of the image.
        dilation: Distance between neighbouring elements of the window [pixels].
        out: Number of window positions.
    """

    source: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    out: tuple[int, int]

    @property
    def is_pixel(self) -> bool:
        """Whether the window has one pixel and moves over the image pixel by pixel, without padding."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of an exported network.

    Args:
        name: Name of the output, unique within the network.
        inputs: Names of the inputs, each of which is the output of an earlier operation or the input of the network.
        module: Name of the innermost module that contains the operation; empty if this module is the network itself.
        shape: Shape of the output.
    """

    name: str
    inputs: tuple[str, ...]
    module: str
    shape: Shape


@final
@dataclass(frozen=True, kw_only=True)
class Product(Operation):
    """Convolution, linear layer or separate batch norm.

    A batch norm and an activation that directly follow the convolution or linear layer are merged into this operation.

    Args:
        fqn: Fully qualified name of the projection (weight matrix); empty for a separate batch norm.
        window: Geometry of the input patches; a linear layer has windows of one pixel.
        weight: Weights ``(out, kernel_h, kernel_w, in / groups)``, which include the factors of a merged batch norm.
        bias: Bias ``(out,)``, which includes the offset of a merged batch norm.
        groups: Number of channel groups, each with its own matrix.
        bounds: Lower and upper bound to which the outputs are clamped.
        pixels: Height and width of the image whose flattened pixels and channels are the inputs of a linear layer; None = the
            inputs are not a flattened image.
    """

    fqn: str
    window: Window
    weight: Floats
    bias: Floats
    groups: int = 1
    bounds: tuple[float, float] = (-math.inf, math.inf)
    pixels: tuple[int, int] | None = None

    @property
    def own_rows(self) -> NDArray[np.int64]:
        """Index of each input in the weight matrix of the network, where the channel comes before the pixel, ``(rows,)``."""
        height, width = self.pixels or self.window.kernel
        return np.arange(self.rows).reshape(-1, height, width).transpose(1, 2, 0).ravel()

    @property
    def rows(self) -> int:
        """Number of inputs of each group's matrix."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def cols(self) -> int:
        """Number of outputs of each group's matrix."""
        return len(self.weight) // self.groups

    @property
    def is_depthwise(self) -> bool:
        """Whether each input channel is a group of its own with exactly one output."""
        return self.groups == self.window.source.channels == len(self.weight)

    @property
    def macs(self) -> int:
        """Number of multiply-accumulate operations per inference."""
        return self.weight.size * self.shape.height * self.shape.width


@final
@dataclass(frozen=True, kw_only=True)
class Add(Operation):
    """Sum of two inputs of equal shape, clamped to the lower and upper bound in `bounds`."""

    bounds: tuple[float, float] = (-math.inf, math.inf)


@final
@dataclass(frozen=True, kw_only=True)
class Clamp(Operation):
    """Activation that clamps each element of its input to the lower and upper bound in `bounds`."""

    bounds: tuple[float, float]


@final
@dataclass(frozen=True, kw_only=True)
class Pool(Operation):
    """Maximum (if `is_max` is True) or mean of each window of an image.

    The mean is the sum divided by the number of window elements, including those in the padding.
    """

    window: Window
    is_max: bool


@final
@dataclass(frozen=True, kw_only=True)
class Place(Operation):
    """Copy of every `step`-th pixel of an image into an image that is otherwise zero.

    Args:
        source: Shape of the input image.
        step: Distance between copied pixels in the input image, as (height, width).
        corner: Row, column and first channel of the first copied pixel in the output image.
    """

    source: Shape
    step: tuple[int, int] = (1, 1)
    corner: tuple[int, int, int] = (0, 0, 0)


@final
@dataclass(frozen=True)
class Program:
    """A network as a list of floating-point operations.

    Args:
        source: Name of the network input.
        shapes: Shapes of the network input and of the output of each operation, by name.
        operations: Operations in execution order.
        result: Name of the network output, which is the output of one of the operations.
        ranges: Largest magnitudes of the network input and of the output of each operation over the calibration samples, by
            name.
        samples: Calibration samples ``(n, height, width, channels)``, from which `ranges` was computed.
        output_dims: Shape of one sample of the network output, in the layout of the network.
    """

    source: str
    shapes: Mapping[str, Shape]
    operations: tuple[Operation, ...]
    result: str
    ranges: Mapping[str, float]
    samples: NDArray[np.float32] = field(repr=False)
    output_dims: tuple[int, ...]
