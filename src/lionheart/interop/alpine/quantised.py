"""Quantised reference for emitted programs, with int8 activations and weights, int32 sums, and tiles without noise.

Emitted programs must reproduce the outputs of this reference exactly. Each input and output of an operation has one
symmetric quantisation scale, which is computed from the calibration samples. Each output channel of a product has its own
weight scale. Products on tiles use the same int8 weights and inputs as digital products. The ADC of each tile scales the exact
sums, rounds the scaled sums and clamps the rounded sums to int8. Partial sums of several tiles are added digitally.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from lionheart.errors import ConfigError, NumericsError, UnsupportedLayerError, suggest
from lionheart.interop.alpine.fixed_point import (
    PARTIAL_SUM_STEPS,
    Ints,
    convert_sums,
    gather_patches,
    multiply,
    quantise_input,
    saturate,
    scale_and_round,
    slide,
    to_fixed_point,
)
from lionheart.interop.alpine.operations import Add, Clamp, Operation, Place, Pool, Product, Program, Shape
from lionheart.mapping import LayerMapping
from lionheart.partition import TilePartition, partition_matrix

Int8s = NDArray[np.int8]
_CHUNK = 16  # number of samples that are computed together
_LARGEST_BIAS = 2**20  # in units of (input step x weight step)


@final
@dataclass(frozen=True)
class Tiles:
    """Tiles that store the weights of a projection (weight matrix).

    Args:
        partition: Partition of the weight matrices into tiles; matrix rows are in the order (kernel_h, kernel_w, channel).
        adc_scale: Factor by which the ADC multiplies integer sums before rounding.
    """

    partition: TilePartition
    adc_scale: float


@final
@dataclass(frozen=True)
class QuantisedProduct:
    """Quantised convolution, linear layer or batch norm.

    The int8 output is ``round((sum + bias) * multiplier / 2**shift)``, clamped to `bounds`. For digital products, ``sum`` is
    the sum of inputs times weights. For products on tiles, ``sum`` is the sum of the ADC outputs in units of 1/256 ADC step.

    Args:
        operation: Floating-point operation that is quantised.
        weights: Int8 weights ``(groups, cols, rows)``, -127 to 127.
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
        x = _as_shape(x, self.operation.window.source)
        sums = np.concatenate([self._sum(x[i : i + _CHUNK]) for i in range(0, len(x), _CHUNK)])
        out = saturate(scale_and_round(sums + self.bias, self.multiplier, self.shift), *self.bounds)
        return _as_shape(out, self.operation.shape)

    def _sum(self, x: Int8s) -> Ints:
        patches = gather_patches(x, self.operation.window, self.operation.groups)
        if self.tiles is None:
            sums = multiply(patches, self.weights)
        else:
            partial = tile_sums(patches, self.weights, self.tiles.partition)
            steps = [convert_sums(each, self.tiles.adc_scale).astype(np.int64) for each in partial]
            sums = PARTIAL_SUM_STEPS * np.sum(steps, axis=0)
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
        left, right = (_as_shape(x, self.operation.shape).astype(np.int64) for x in (a, b))
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
        return _as_shape(saturate(x, *self.bounds), self.operation.shape)


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

    def run(self, samples: NDArray[np.float32]) -> Int8s:
        """Return the int8 outputs of the network for floating-point inputs `samples`.

        Inputs and outputs have the shape ``(n, height, width, channels)``.
        """
        values = {self.program.source: quantise_input(samples, self.inverse_input_scale)}
        for step in self.steps:
            values[step.operation.name] = run_step(step, values)
        return values[self.program.result]


def _as_shape(x: Int8s, shape: Shape) -> Int8s:
    """Return `x` with each sample reshaped to `shape`, which must have as many elements as a sample of `x`."""
    return x.reshape(len(x), shape.height, shape.width, shape.channels)


def run_step(step: Step, values: Mapping[str, Int8s]) -> Int8s:
    """Return the int8 output ``(n, height, width, channels)`` of a quantised operation.

    `values` holds the quantised network inputs and the outputs of all earlier operations, by name.
    """
    inputs: list[Any] = [values[name] for name in step.operation.inputs]
    return step.run(*inputs)


def tile_sums(patches: Int8s, weights: Int8s, partition: TilePartition) -> Iterable[Ints]:
    """Yield the exact partial sums ``(n, pixels, groups, cols)`` of each row of tiles.

    A row of tiles comprises all tiles that receive the same inputs.
    """
    first = 0
    for size in partition.row_sizes:
        yield multiply(patches[..., first : first + size], weights[..., first : first + size])
        first += size


def quantise_program(
    program: Program, mapping: LayerMapping | None = None, *, tile_rows: int = 256, tile_cols: int = 256
) -> QuantisedProgram:
    """Convert a network to integer arithmetic. Projections that are analog in `mapping` are computed on tiles without noise.

    Args:
        program: Floating-point program from `trace_program`.
        mapping: Placements of the projections (weight matrices); None makes all projections digital.
        tile_rows: Number of inputs of a tile.
        tile_cols: Number of outputs of a tile.

    Raises:
        ConfigError: An analog projection in the mapping is not in the program.
        UnsupportedLayerError: An analog projection runs more than once per inference.
        NumericsError: A bias or a ratio of two scales exceeds the range of the integer arithmetic.
    """
    analog = _check_analog(program, mapping)
    scales = _find_scales(program)
    values = {program.source: quantise_input(program.samples, np.float32(1.0 / scales[program.source]))}
    steps: list[Step] = []
    for operation in program.operations:
        if isinstance(operation, Product):
            partition = None
            if operation.fqn in analog:
                partition = partition_matrix(operation.rows, operation.cols, operation.groups, tile_rows, tile_cols)
            step: Step = _quantise_product(operation, scales, partition, values[operation.inputs[0]])
        else:
            step = _quantise_other(operation, scales)
        values[operation.name] = run_step(step, values)
        steps.append(step)
    return QuantisedProgram(program, tuple(steps), scales, tile_rows, tile_cols)


def _check_analog(program: Program, mapping: LayerMapping | None) -> set[str]:
    names = [op.fqn for op in program.operations if isinstance(op, Product) and op.fqn]
    analog = set(mapping.analog) if mapping is not None else set()
    for fqn in sorted(analog):
        if fqn not in names:
            raise ConfigError(
                f"export: mapping: got {fqn!r} as an analog layer, expected the name of a layer in the network",
                hint=suggest(fqn, names, label="layers"),
            )
        if names.count(fqn) > 1:
            raise UnsupportedLayerError(
                f"export: {fqn!r}: this analog layer runs {names.count(fqn)} times in one inference, expected once",
                hint="make this layer digital in the mapping",
            )
    return analog


def _find_scales(program: Program) -> dict[str, float]:
    """Return the quantisation scales of the network input and of the output of each operation, by name.

    The output of max pooling, clamping or copying has the same scale as the input of the operation.
    """
    scales = {program.source: _scale(program.ranges[program.source])}
    for op in program.operations:
        keeps = isinstance(op, (Clamp, Place)) or (isinstance(op, Pool) and op.is_max)
        scales[op.name] = scales[op.inputs[0]] if keeps else _scale(program.ranges[op.name])
    return scales


def _scale(largest: float) -> float:
    return largest / 127 if largest > 0 else 1.0


def _bounds(bounds: tuple[float, float], scale: float) -> tuple[int, int]:
    low, high = (int(np.clip(np.rint(np.clip(bound / scale, -1e6, 1e6)), -128, 127)) for bound in bounds)
    return low, high


def _quantise_product(
    op: Product, scales: Mapping[str, float], partition: TilePartition | None, inputs: Int8s
) -> QuantisedProduct:
    scale_in, scale_out = scales[op.inputs[0]], scales[op.name]
    largest = np.abs(op.weight).reshape(len(op.weight), -1).max(axis=1)
    scale_w = np.maximum(largest / 127, np.abs(op.bias) / (scale_in * _LARGEST_BIAS))
    scale_w = np.where(scale_w > 0, scale_w, 1.0)
    steps = np.rint(op.weight.reshape(len(op.weight), -1) / scale_w[:, None])
    weights = np.clip(steps, -127, 127).astype(np.int8).reshape(op.groups, op.cols, op.rows)
    tiles = None if partition is None else Tiles(partition, _calibrate_adc(op, weights, partition, inputs))
    unit = scale_in * scale_w / (1.0 if tiles is None else tiles.adc_scale * PARTIAL_SUM_STEPS)
    bias = np.rint(op.bias / unit)
    if np.abs(bias).max(initial=0) >= 2**30:
        raise NumericsError(
            f"{op.fqn or op.name}: got a bias of magnitude {np.abs(bias).max() / PARTIAL_SUM_STEPS:.3g} ADC steps, "
            "expected less than 2^22",
            hint="make this layer digital in the mapping",
        )
    pairs = [to_fixed_point(float(factor)) for factor in unit / scale_out]
    multiplier, shift = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    return QuantisedProduct(op, weights, bias.astype(np.int32), multiplier, shift, _bounds(op.bounds, scale_out), tiles)


def _calibrate_adc(op: Product, weights: Int8s, partition: TilePartition, inputs: Int8s) -> float:
    """Return the factor by which the ADCs of all tiles of a layer multiply the integer sums.

    The factor maps the largest magnitude of the sums over all tiles and calibration inputs to 127.
    """
    largest = 0
    for i in range(0, len(inputs), _CHUNK):
        patches = gather_patches(_as_shape(inputs[i : i + _CHUNK], op.window.source), op.window, op.groups)
        for sums in tile_sums(patches, weights, partition):
            largest = max(largest, int(np.abs(sums).max(initial=0)))
    return 127 / largest if largest > 0 else 1.0


def _quantise_other(op: Operation, scales: Mapping[str, float]) -> Step:
    if isinstance(op, Add):
        factors = [scales[name] / scales[op.name] for name in op.inputs]
        shift = max(1, min(30, 21 - math.frexp(max(factors))[1]))
        if max(factors) * 2**shift >= 2**22:
            raise NumericsError(
                f"{op.name}: the scale of an input is {max(factors):g} times the scale of the sum, expected a ratio below 2^21",
                hint="the inputs of this addition nearly cancel each other; check the weights of the layers that compute them",
            )
        left, right = (round(factor * 2**shift) for factor in factors)
        return QuantisedAdd(op, (left, right), shift, _bounds(op.bounds, scales[op.name]))
    if isinstance(op, Pool):
        kernel_h, kernel_w = op.window.kernel
        factor = 1.0 if op.is_max else scales[op.inputs[0]] / (scales[op.name] * kernel_h * kernel_w)
        return QuantisedPool(op, *to_fixed_point(factor))
    if isinstance(op, Clamp):
        return QuantisedClamp(op, _bounds(op.bounds, scales[op.name]))
    if isinstance(op, Place):
        return QuantisedPlace(op)
    raise UnsupportedLayerError(
        f"{op.module or op.name}: the operation {type(op).__name__!r} cannot be quantised",
        hint="use only the operations Product, Add, Pool, Clamp and Place, as programs from trace_program do",
    )
