"""Floating-point operations of a program for the ALPINE simulator, as plain data."""

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
    """Shape of one sample as an image, channels last; a vector has one pixel, a sequence has height 1."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.height * self.width * self.channels


@final
@dataclass(frozen=True)
class Window:
    """Geometry of a window that slides over an image; all pairs are (height, width).

    Args:
        source: Shape of the image.
        kernel: Pixels of the window.
        stride: Steps between windows.
        padding: Pixels before the first row and column; pixels outside the image are zero.
        dilation: Distance between pixels of the window.
        out: Number of windows.
    """

    source: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    out: tuple[int, int]

    @property
    def is_pixel(self) -> bool:
        """Whether the windows are exactly the pixels of the image."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a program.

    Args:
        name: Name of the output value, unique in the program.
        inputs: Names of the input values.
        module: Name of the module that contains the operation; empty for the network itself.
        shape: Shape of the output value.
    """

    name: str
    inputs: tuple[str, ...]
    module: str
    shape: Shape


@final
@dataclass(frozen=True, kw_only=True)
class Product(Operation):
    """A convolution or linear layer, with the batch norm and the activation that follow.

    Args:
        fqn: Name of the projection; empty for products without a projection, such as a separate batch norm.
        window: Geometry of the patches; a linear layer has windows of one pixel.
        weight: Weights ``(out, kernel_h, kernel_w, in / groups)``.
        bias: Bias ``(out,)``.
        groups: Number of channel groups with independent products.
        bounds: Lower and upper bound of the outputs.
    """

    fqn: str
    window: Window
    weight: Floats
    bias: Floats
    groups: int = 1
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def rows(self) -> int:
        """Inputs of the matrix of one group."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def cols(self) -> int:
        """Outputs of the matrix of one group."""
        return len(self.weight) // self.groups

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is a group with one output."""
        return self.groups == self.window.source.channels == len(self.weight)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations per inference."""
        return self.weight.size * self.shape.height * self.shape.width


@final
@dataclass(frozen=True, kw_only=True)
class Add(Operation):
    """The sum of two values of equal shape, clamped to `bounds`."""

    bounds: tuple[float, float] = (-math.inf, math.inf)


@final
@dataclass(frozen=True, kw_only=True)
class Clamp(Operation):
    """An activation that clamps the value to `bounds`."""

    bounds: tuple[float, float]


@final
@dataclass(frozen=True, kw_only=True)
class Pool(Operation):
    """Maximum or mean of each window; the mean divides by the whole window size."""

    window: Window
    is_max: bool


@final
@dataclass(frozen=True, kw_only=True)
class Place(Operation):
    """Every `step`-th pixel of an image, copied into an image of zeros.

    Args:
        source: Shape of the input image.
        step: Distance between copied pixels (height, width).
        corner: Row, column and channel of the first copied pixel in the output.
    """

    source: Shape
    step: tuple[int, int] = (1, 1)
    corner: tuple[int, int, int] = (0, 0, 0)


@final
@dataclass(frozen=True)
class Program:
    """A network as a list of operations.

    Args:
        source: Name of the input value.
        shapes: Shape of every value.
        operations: Operations in execution order.
        result: Name of the output value.
        ranges: Largest magnitude of every value over the calibration samples.
        samples: The calibration samples, channels last: ``(n, height, width, channels)``.
    """

    source: str
    shapes: Mapping[str, Shape]
    operations: tuple[Operation, ...]
    result: str
    ranges: Mapping[str, float]
    samples: NDArray[np.float32] = field(repr=False)
