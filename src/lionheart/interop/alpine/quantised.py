"""Quantised reference for emitted programs, with int8 activations and weights, int32 sums, and tiles without noise.

Emitted programs must reproduce the outputs of this reference exactly. Each input and output of an operation has one
symmetric quantisation scale, which is computed from the calibration samples. Each output channel of a product has its own
weight scale. Products on tiles use the same int8 weights and inputs as digital products. The ADC of each tile scales the exact
sums, rounds the scaled sums and clamps the rounded sums to int8. Partial sums of several tiles are added digitally.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from lionheart.interop.alpine.fixed_point import (
    Int8s,
    Ints,
    gather_patches,
    multiply,
    quantise_input,
    saturate,
    scale_and_round,
    slide,
)
from lionheart.interop.alpine.operations import Add, Clamp, Place, Pool, Product, Program, Shape
from lionheart.interop.alpine.tiles import Tiles

CHUNK = 16  # number of samples that are computed together


@final
@dataclass(frozen=True)
class QuantisedProduct:
    """Quantised convolution, linear layer or batch norm.

    The int8 output is ``round((sum + bias) * multiplier / 2**shift)``, clamped to `bounds`. For digital products, ``sum`` is
    the sum of inputs times weights. For products on tiles, ``sum`` is the sum of the ADC outputs as in `Tiles.sum`.

    Args:
        operation: Floating-point operation that is quantised.
        weights: Int8 weights ``(groups, cols, rows)``, -127 to 127; products on tiles have the order of the rows of the tiles.
        bias: Int32 bias ``(out,)``, in the units of ``sum``.
        multiplier: Int32 multiplier of each output ``(out,)``.
        shift: Int32 shift of each output ``(out,)``.
        bounds: Lower and upper bound of the int8 outputs, both inclusive.
        tiles: Tiles that store the weights; None for digital products.
    """

    operation: Product
    weights: Int8s
    bias: Ints
    multiplier: Ints
    shift: Ints
    bounds: tuple[int, int]
    tiles: Tiles | None

    def run(self, x: Int8s) -> Int8s:
        """Return the int8 product of the images `x` and the weights, computed on tiles if `tiles` is given.

        Images and outputs have the shape ``(n, height, width, channels)``.
        """
        out = saturate(scale_and_round(self.sum(x), self.multiplier, self.shift), *self.bounds)
        return as_shape(out, self.operation.shape)

    def sum(self, x: Int8s) -> Ints:
        """Return the sums ``(n, pixels, out)`` of the images `x`, including the bias."""
        x = as_shape(x, self.operation.window.source)
        return np.concatenate([self._sum(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)]) + self.bias

    def _sum(self, x: Int8s) -> Ints:
        x = x if self.tiles is None else self.tiles.convert_inputs(x)
        patches = gather_patches(x, self.operation.window, self.operation.groups)
        sums = multiply(patches, self.weights) if self.tiles is None else self.tiles.sum(patches, self.weights)
        return sums.reshape(len(x), sums.shape[1], -1)


@final
@dataclass(frozen=True)
class QuantisedAdd:
    """Quantised sum of two inputs.

    The int8 output for the int8 inputs ``a`` and ``b`` is ``round((a * multipliers[0] + b * multipliers[1]) / 2**shift)``,
    clamped to `bounds`.
    """

    operation: Add
    multipliers: tuple[int, int]
    shift: int
    bounds: tuple[int, int]

    def run(self, a: Int8s, b: Int8s) -> Int8s:
        """Return the int8 sum ``(n, height, width, channels)`` of the int8 inputs `a` and `b`, each with its own scale."""
        left, right = (as_shape(x, self.operation.shape).astype(np.int64) for x in (a, b))
        total = left * self.multipliers[0] + right * self.multipliers[1]
        return saturate(scale_and_round(total, 1, self.shift), *self.bounds)


@final
@dataclass(frozen=True)
class QuantisedPool:
    """Quantised max or average pooling.

    The int8 output of average pooling is ``round(sum * multiplier / 2**shift)``, where ``sum`` is the sum over the window. The
    multiplier includes the division by the window size. Max pooling uses neither `multiplier` nor `shift`.
    """

    operation: Pool
    multiplier: int
    shift: int

    def run(self, x: Int8s) -> Int8s:
        """Return the maximum or mean of each window of int8 images `x`, as int8 images ``(n, height, width, channels)``."""
        windows = slide(x, self.operation.window, fill=-128 if self.operation.is_max else 0)
        if self.operation.is_max:
            largest: Int8s = windows.max(axis=(3, 4))
            return largest
        return saturate(scale_and_round(windows.astype(np.int64).sum(axis=(3, 4)), self.multiplier, self.shift))


@final
@dataclass(frozen=True)
class QuantisedClamp:
    """Quantised activation that clamps int8 inputs to `bounds`, for activations that are not merged into another operation."""

    operation: Clamp
    bounds: tuple[int, int]

    def run(self, x: Int8s) -> Int8s:
        """Return `x`, clamped to `bounds`, as int8 images ``(n, height, width, channels)`` in the operation's output shape."""
        return as_shape(saturate(x, *self.bounds), self.operation.shape)


@final
@dataclass(frozen=True)
class QuantisedPlace:
    """Quantised form of `Place`, which copies every n-th pixel of an image into an image that is otherwise zero."""

    operation: Place

    def run(self, x: Int8s) -> Int8s:
        """Return int8 images ``(n, height, width, channels)`` of zeros into which every n-th pixel of images `x` is copied."""
        shape, (top, left, first) = self.operation.shape, self.operation.corner
        taken = x[:, :: self.operation.step[0], :: self.operation.step[1]]
        out = np.zeros((len(x), shape.height, shape.width, shape.channels), np.int8)
        _, height, width, channels = taken.shape
        out[:, top : top + height, left : left + width, first : first + channels] = taken
        return out


Step = QuantisedProduct | QuantisedAdd | QuantisedPool | QuantisedClamp | QuantisedPlace


@final
@dataclass(frozen=True)
class QuantisedProgram:
    """Network whose operations are computed in integer arithmetic.

    Args:
        program: Floating-point program that is quantised.
        steps: Quantised operations in execution order.
        scales: Real number that one integer step represents, for the network input and for each operation's output, by name.
        tile_rows: Number of inputs of a tile.
        tile_cols: Number of outputs of a tile.
    """

    program: Program
    steps: tuple[Step, ...]
    scales: Mapping[str, float]
    tile_rows: int
    tile_cols: int

    @property
    def inverse_input_scale(self) -> np.float32:
        """Factor by which the network inputs are multiplied before they are rounded to integers."""
        return np.float32(1.0 / self.scales[self.program.source])

    @property
    def output_scale(self) -> float:
        """Real number that one integer step of the network outputs represents."""
        return self.scales[self.program.result]

    @property
    def n_tiles(self) -> int:
        """Total number of tiles that store weights of the network."""
        return sum(s.tiles.partition.n_tiles for s in self.steps if isinstance(s, QuantisedProduct) and s.tiles)

    def compute(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the real outputs of the network for inputs as in `run`, ``(n, *dims)``, in the layout of the network."""
        out, dims = self.run(samples), self.program.output_dims
        real = out.astype(np.float32) * np.float32(self.output_scale)
        return real.transpose(0, 3, 1, 2) if len(dims) == 3 else real.reshape(len(real), *dims)

    def run(self, samples: NDArray[np.float32]) -> Int8s:
        """Return the int8 outputs of the network for floating-point inputs `samples`.

        Inputs and outputs have the shape ``(n, height, width, channels)``.
        """
        values = {self.program.source: quantise_input(samples, self.inverse_input_scale)}
        for step in self.steps:
            values[step.operation.name] = run_step(step, values)
        return values[self.program.result]


def as_shape(x: Int8s, shape: Shape) -> Int8s:
    """Return `x` with each sample reshaped to `shape`, which must have as many elements as a sample of `x`."""
    return x.reshape(len(x), shape.height, shape.width, shape.channels)


def run_step(step: Step, values: Mapping[str, Int8s]) -> Int8s:
    """Return the int8 output ``(n, height, width, channels)`` of a quantised operation.

    `values` holds the quantised network inputs and the outputs of all earlier operations, by name.
    """
    inputs: list[Any] = [values[name] for name in step.operation.inputs]
    return step.run(*inputs)
