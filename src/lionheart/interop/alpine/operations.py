"""The operations that a program for the ALPINE simulator is made of: plain data, in floating point."""

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
    """An image of one sample, channels last; a vector is an image of one pixel, a sequence one of height 1."""

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
    """How a window slides over an image; all pairs are (height, width).

    Args:
        source: The image.
        kernel: Pixels of the window.
        stride: Steps between windows.
        padding: Pixels before the first row and column; what lies outside the image is zero.
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
        """Whether the windows are exactly the image's pixels."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a program.

    Args:
        name: Of the value it makes, unique in the program.
        inputs: Names of the values it reads.
        module: The module that asked for it; empty for the network itself.
        shape: Of the value it makes.
    """

    name: str
    inputs: tuple[str, ...]
    module: str
    shape: Shape


@final
@dataclass(frozen=True, kw_only=True)
class Product(Operation):
    """A convolution or linear layer, with batch norm and the activation behind it.

    Args:
        fqn: Name of the projection; empty where the network has none, such as a batch norm on its own.
        window: Its patches; a linear layer sees pixels.
        weight: ``(out, kernel_h, kernel_w, in / groups)``.
        bias: ``(out,)``.
        groups: Channels are split into so many independent products.
        bounds: Outputs are clamped to these.
    """

    fqn: str
    window: Window
    weight: Floats
    bias: Floats
    groups: int = 1
    bounds: tuple[float, float] = (-math.inf, math.inf)

    @property
    def rows(self) -> int:
        """Inputs of one group's matrix."""
        return int(np.prod(self.weight.shape[1:]))

    @property
    def cols(self) -> int:
        """Outputs of one group's matrix."""
        return len(self.weight) // self.groups

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has one output of its own."""
        return self.groups == self.window.source.channels == len(self.weight)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations per inference."""
        return self.weight.size * self.shape.height * self.shape.width


@final
@dataclass(frozen=True, kw_only=True)
class Add(Operation):
    """The sum of two values of one shape, clamped to `bounds`."""

    bounds: tuple[float, float] = (-math.inf, math.inf)


@final
@dataclass(frozen=True, kw_only=True)
class Clamp(Operation):
    """An activation: the value clamped to `bounds`."""

    bounds: tuple[float, float]


@final
@dataclass(frozen=True, kw_only=True)
class Pool(Operation):
    """The largest value of each window, or the mean over its whole size."""

    window: Window
    is_max: bool


@final
@dataclass(frozen=True, kw_only=True)
class Place(Operation):
    """Every step-th pixel, placed into zeros.

    Args:
        source: The image.
        step: (height, width).
        corner: Row, column and channel where the copy begins.
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
        shapes: Of every value.
        operations: In the order in which they run.
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
