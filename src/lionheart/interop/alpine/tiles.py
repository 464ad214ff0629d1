"""Products on tiles: partition of the weights, order of the inputs, ADC scale and digital factors of the partial sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from lionheart.interop.alpine.converters import TileConverters, column_scales
from lionheart.interop.alpine.fixed_point import (
    PARTIAL_SUM_STEPS,
    Int8s,
    Ints,
    convert_sums,
    multiply,
    saturate,
    scale_and_round,
    to_fixed_point,
)
from lionheart.interop.alpine.operations import Floats, Product
from lionheart.partition import TilePartition

_FACTOR_BITS = 14  # factors of partial sums fit a signed 16-bit number
_SUM_BITS = 22  # 2^30, the largest partial sum, in units of the largest int8


@final
@dataclass(frozen=True)
class Tiles:
    """Tiles that store the weights of a projection (weight matrix).

    Args:
        partition: Partition of the weight matrices into tiles.
        adc_scale: Factor by which the ADC multiplies integer sums before rounding.
        converters: Converters of the run; None = the program chooses its own.
        rescale: Multiplier and shift of the conversion of the int8 inputs to DAC codes, -127 to 127; None = inputs are codes.
        order: Input of each row of the tiles, ``(rows,)``; None = the order (kernel_h, kernel_w, channel).
        factors: Digital factor of each partial sum ``(rows of tiles, out)``; None = `steps` for all.
        steps: Units of a sum that one step of the ADC has in the tile with the largest factor.
    """

    partition: TilePartition
    adc_scale: float
    converters: TileConverters | None = None
    rescale: tuple[int, int] | None = None
    order: Ints | None = None
    factors: Ints | None = None
    steps: int = PARTIAL_SUM_STEPS

    def convert_inputs(self, x: Int8s) -> Int8s:
        """Return the DAC codes of the int8 inputs `x`."""
        return x if self.rescale is None else saturate(scale_and_round(x, *self.rescale), -127, 127)

    def arrange(self, patches: Int8s) -> Int8s:
        """Return input patches ``(..., rows)`` in the order of the rows of the tiles."""
        return patches if self.order is None else patches[..., self.order]

    def sum(self, patches: Int8s, weights: Int8s) -> Ints:
        """Return the sum of the ADC outputs of all tiles, each times its factor.

        Args:
            patches: Patches ``(n, pixels, groups, rows)`` of DAC codes.
            weights: Weights ``(groups, cols, rows)``, in the order of the rows of the tiles.

        Returns:
            Sums ``(n, pixels, groups, cols)``, in units of 1 / `steps` of an ADC step.
        """
        groups, cols, _ = weights.shape
        partial = tile_sums(self.arrange(patches), weights, self.partition)
        steps = np.stack([convert_sums(each, self.adc_scale) for each in partial]).astype(np.int64)
        if self.factors is None:
            return np.asarray(self.steps * np.sum(steps, axis=0))
        return np.asarray(np.sum(steps * self.factors.astype(np.int64).reshape(-1, 1, 1, groups, cols), axis=0))


def tile_sums(patches: Int8s, weights: Int8s, partition: TilePartition) -> Iterable[Ints]:
    """Yield the exact partial sums ``(n, pixels, groups, cols)`` of each row of tiles.

    A row of tiles comprises all tiles that receive the same inputs.
    """
    first = 0
    for size in partition.row_sizes:
        yield multiply(patches[..., first : first + size], weights[..., first : first + size])
        first += size


def place_on_tiles(
    op: Product, scale_in: float, partition: TilePartition, converters: TileConverters
) -> tuple[Int8s, Floats, Tiles]:
    """Quantise the weights of a product for tiles whose ADC saturates where that of the run does.

    Each tile stores the inputs that the tile of the run stores. A full-scale int8 weight is the weight that a full-scale
    conductance represents on that tile.

    Args:
        op: Product whose weights are stored.
        scale_in: Real number that one int8 step of the inputs represents.
        partition: Partition of the weight matrices into tiles.
        converters: Converters of the run, with an output bound and an input range.

    Returns:
        Int8 weights ``(groups, cols, rows)`` in the order of the rows of the tiles, the real number that a unit of the sums
        represents ``(out,)``, and the tiles.
    """
    bound, full_scale = converters.output_bound or 0.0, converters.input_range or 0.0
    order = _tile_order(op, partition)
    weight = op.weight.reshape(len(op.weight), -1)
    weight = weight if order is None else weight[:, order]
    scales = column_scales(weight, partition.row_sizes, converters.headroom)
    excess = 1.0 if converters.headroom is None else max(1.0, float((1 / converters.headroom).max(initial=1.0)))
    step = np.repeat(scales * (excess / 127), partition.row_sizes, axis=0).T
    codes = np.rint(weight / np.where(step > 0, step, 1.0))
    weights = np.clip(codes, -127, 127).astype(np.int8).reshape(op.groups, op.cols, op.rows)
    largest = scales.max(axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    factors, steps = None, PARTIAL_SUM_STEPS
    if (scales != largest).any() and len(scales) > 1:
        steps = 1 << min(_FACTOR_BITS, _SUM_BITS - len(scales).bit_length())
        factors = np.rint(scales / largest * steps).astype(np.int16)
    rescale, code = dac_codes(scale_in, converters)
    tiles = Tiles(partition, code * excess / (full_scale * bound), converters, rescale, order, factors, steps)
    return weights, full_scale * largest * bound / (127 * steps), tiles


def dac_codes(scale_in: float, converters: TileConverters) -> tuple[tuple[int, int] | None, float]:
    """Return the conversion of int8 inputs to DAC codes as in `Tiles`, and the real number that one code represents."""
    if converters.input_range is None or not converters.clips_inputs:
        return None, scale_in
    code = converters.input_range / 127
    return (None if code == scale_in else to_fixed_point(scale_in / code)), code


def _tile_order(op: Product, partition: TilePartition) -> Ints | None:
    """Return the inputs of all tiles, tile by tile, if each tile stores the same inputs as in the run.

    Return None if this is the order of the program's inputs.
    """
    own = op.own_rows
    edges = np.cumsum([0, *partition.row_sizes])
    members = [np.flatnonzero((own >= a) & (own < b)) for a, b in itertools.pairwise(edges)]
    order = np.concatenate(members)
    return None if np.array_equal(order, np.arange(len(order))) else order
