"""Read policies of a tile: several reads of each product, and copies of the weights on idle rows, columns and device pairs.

A policy is given by the tile settings ``n_reads``, ``row_copies``, ``column_copies`` and ``device_pairs``. With ``k`` reads,
``r`` copies on rows and ``c`` copies on columns, the output of a column in units of one copy is
``1 / (r k c) sum_ij ADC(sum_a W_ja x + n_ij)``. Here ``i`` counts reads, ``j`` copies on columns and ``a`` copies on rows. The
functions in this module expect settings with the numbers of copies that fit on a tile, as `with_real_copies` returns.
"""

from __future__ import annotations

import math

from torch import Tensor

from lionheart.analog.converters import ColumnRead, adc_step
from lionheart.devices import TileSpec
from lionheart.partition import TilePartition

#: Noise of a read, in ADC steps, from which the rounding error is like noise: its mean is below 0.3 % of a step.
DITHER = 0.5


def with_real_copies(tile: TileSpec, partition: TilePartition) -> TileSpec:
    """Return `tile` with the numbers of copies on rows and columns that fit on the tiles of `partition`."""
    rows, cols = partition.count_copies(tile)
    if (rows, cols) == (tile.row_copies, tile.column_copies):
        return tile
    return tile.replace(row_copies=rows, column_copies=cols)


def count_devices(tile: TileSpec) -> int:
    """Return the number of independently programmed device pairs over which each weight is averaged."""
    return tile.row_copies * tile.column_copies * tile.device_pairs


def merges_copies(tile: TileSpec) -> bool:
    """Return whether one read of the mean weights stands for the reads of all copies on columns.

    It does if the copies are rounded by no ADC, or if the output noise is at least half an ADC step, as in `describe_read`.
    """
    return tile.column_copies == 1 or _is_dithered(tile.output_noise, tile.adc_bits, tile.output_bound)


def _is_dithered(sigma: float, bits: int | None, bound: float | None) -> bool:
    return bits is None or sigma >= DITHER * adc_step(bits, bound)


def describe_read(
    tile: TileSpec, *, with_noise: bool = True, with_converters: bool = True, is_one_copy: bool = False
) -> ColumnRead:
    """Return how the columns of a tile are read, in units of one copy of the weights.

    ``r`` copies on rows add their currents: noise, step and bound of the ADC are divided by ``r``.

    If the output noise is at least half an ADC step, ``n`` averaged reads have the noise variance
    ``v = (sigma^2 + step^2 / 12) / n`` and results in multiples of ``step / n`` (dithered quantisation). They are computed as
    one read with the noise ``sqrt(v - (step / n)^2 / 12)``, rounded to ``step / n``. With less noise, the mean of rounded
    numbers depends on the sum, and the reads are computed one by one. Reads without any noise are all equal: one is enough.

    The noise of DAC outputs falls with the root of ``r`` and of the reads, that of weights with the root of all copies, device
    pairs and reads.

    Args:
        tile: Settings of the tile, with the numbers of copies that fit.
        with_noise: Whether there is output noise.
        with_converters: Whether there is an ADC.
        is_one_copy: Whether the result is that of a single copy on columns. If False, the copies on columns count as reads.

    Assumes:
        The average of reads saturates at the bound, not each read. The mean of a saturating read is lower by up to 0.4 times
        its noise, within two standard deviations of the bound.

    Source:
        Widrow and Kollár, Quantization Noise, 2008, chapter 19: the mean error of a rounded sum is at most
        ``step / pi exp(-2 pi^2 sigma^2 / step^2)``.
    """
    sigma = tile.output_noise if with_noise else 0.0
    bits, bound = (tile.adc_bits, tile.output_bound) if with_converters else (None, None)
    rounds, step, r = bits is not None, adc_step(bits, bound), tile.row_copies
    is_dithered = _is_dithered(sigma, bits, bound)
    if r > 1:
        sigma, step, bound = sigma / r, step / r if rounds else step, None if bound is None else bound / r
    n = tile.n_reads * (1 if is_one_copy else tile.column_copies)
    input_noise, weight_noise = (
        tile.input_noise / math.sqrt(r),
        tile.weight_read_noise / math.sqrt(r * tile.device_pairs),
    )
    if n > 1 and not is_dithered:
        is_noisy = sigma > 0 or input_noise > 0 or weight_noise > 0
        return ColumnRead(sigma, step, rounds, bound, n if is_noisy else 1, input_noise, weight_noise)
    if n > 1:
        input_noise, weight_noise = input_noise / math.sqrt(tile.n_reads), weight_noise / math.sqrt(n)
        if rounds:
            sigma, step = math.sqrt((sigma**2 + step**2 / 12) / n - (step / n) ** 2 / 12), step / n
        else:
            sigma /= math.sqrt(n)
    return ColumnRead(sigma, step, rounds, bound, 1, input_noise, weight_noise)


def repeat_copies(
    weights: Tensor,  # (..., cols, rows)
    tile: TileSpec,
) -> Tensor:  # (..., column_copies * cols, row_copies * device_pairs * rows)
    """Return the weights of crossbars with all copies, each of which is programmed on its own devices."""
    if count_devices(tile) == 1:
        return weights
    ones = [1] * (weights.ndim - 2)
    return weights.repeat(*ones, tile.column_copies, tile.row_copies * tile.device_pairs)


def average_rows(
    weights: Tensor,  # (..., column_copies * cols, row_copies * device_pairs * rows)
    tile: TileSpec,
) -> Tensor:  # (column_copies, ..., cols, rows)
    """Return the mean over copies on rows and over device pairs, whose currents add up, of weights as in `repeat_copies`."""
    n = tile.row_copies * tile.device_pairs
    *lead, cols, rows = weights.shape
    split = weights.reshape(*lead, tile.column_copies, cols // tile.column_copies, n, rows // n)
    return split.mean(dim=-2).movedim(-3, 0)


def average_copies(weights: Tensor, tile: TileSpec) -> Tensor:
    """Return the mean ``(..., cols, rows)`` over all copies and device pairs of weights as in `repeat_copies`."""
    return weights if count_devices(tile) == 1 else average_rows(weights, tile).mean(dim=0)
