"""Products on tiles that scale and read each input vector separately, as in AIHWKIT's noise and bound management.

This module is slower than `lionheart.analog.product`, because convolutions must build their im2col matrix.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lionheart.analog.converters import ColumnRead, code_limit, convert_inputs, full_scale
from lionheart.analog.noise import NoiseSource
from lionheart.analog.product import MVMParams
from lionheart.devices import TileSpec
from lionheart.partition import TilePartition

_LARGEST_REDUCTION = 1000.0  # largest factor by which bound management scales inputs down, AIHWKIT's max_bm_factor
_COARSEST_INPUT = 0.25  # bound management stops at this ratio of reduction to largest DAC code, AIHWKIT's max_bm_res


def run_vectors(
    vectors: Tensor,
    weight: Tensor,
    partition: TilePartition,
    tile: TileSpec,
    params: MVMParams,
    noise: NoiseSource,
    *,
    limit: Tensor | None,
) -> Tensor:
    """Return the outputs ``(n, out)`` that the tiles of a layer compute, with gradients and without bias.

    The gradients are those of the exact product with the weights in `params` (straight-through estimator).

    Args:
        vectors: im2col vectors ``(n, groups * in)``.
        weight: Exact weight of the layer, to which the gradient is propagated. The outputs use the weights in `params`.
        partition: Partition of the weight matrix over tiles.
        tile: Settings of the noise and other non-idealities of the product.
        params: Weights and converter settings of the forward pass.
        noise: Source of the noise.
        limit: Magnitude at which inputs are clipped before the product, as a tensor ``()``; None = no clipping.
    """
    if limit is not None:
        bound = limit.to(vectors.dtype)
        vectors = torch.clamp(vectors, -bound, bound)
    with torch.no_grad():
        analog = multiply_vectors(vectors, partition, tile, params, noise)
    if not torch.is_grad_enabled():
        return analog
    if limit is not None:
        codes = convert_inputs(vectors.detach(), params.input_range, params.dac_bits)
        vectors = vectors + (codes * (params.input_range / full_scale(params.dac_bits)) - vectors).detach()
    weights = weight.reshape(len(weight), -1)
    used = weights + (params.matrix().to(weights.dtype) - weights).detach()
    exact = multiply_groups(vectors, used.to(vectors.dtype), partition.groups)
    return exact + (analog - exact).detach()


def multiply_vectors(
    vectors: Tensor, partition: TilePartition, tile: TileSpec, params: MVMParams, noise: NoiseSource
) -> Tensor:
    """Return the outputs ``(n, out)`` of a layer on its tiles, without bias and without gradients.

    Args:
        vectors: im2col vectors ``(n, groups * in)``.
        partition: Partition of the weight matrix over tiles.
        tile: Settings of the noise and other non-idealities of the product.
        params: Weights and converter settings of the forward pass.
        noise: Source of the noise.
    """
    n_in, cols = vectors.shape[1] // partition.groups, sum(partition.col_sizes)
    out = vectors.new_zeros(len(vectors), cols * partition.groups)
    edges = list(itertools.accumulate(partition.col_sizes, initial=0))
    for _, slices in itertools.groupby(params.rows, key=lambda row: row.first):
        copies = list(slices)  # on other columns of the same tiles
        for group in range(partition.groups):
            x = vectors[:, group * n_in + copies[0].first : group * n_in + copies[0].last]
            scale = x.abs().amax(dim=1, keepdim=True) if tile.input_range == "dynamic" else None
            for begin, end in itertools.pairwise(edges):
                columns = slice(group * cols + begin, group * cols + end)
                weights = [row.weights[columns] for row in copies]
                read = read_tile(x, weights[0] if len(weights) == 1 else torch.cat(weights), scale, tile, params, noise)
                for row, part in zip(copies, read.chunk(len(copies), dim=1), strict=True):
                    out[:, columns] += part * row.scale[columns].to(part.dtype)
    return out


def multiply_groups(vectors: Tensor, weights: Tensor, groups: int) -> Tensor:
    """Return the exact grouped product ``(n, out)`` of `vectors` ``(n, groups * in)`` and `weights` ``(out, in)``."""
    if groups == 1:
        return vectors @ weights.T
    stacked = vectors.view(len(vectors), groups, -1).transpose(0, 1)  # (groups, n, in)
    return (stacked @ weights.view(groups, -1, weights.shape[1]).transpose(1, 2)).transpose(0, 1).flatten(1)


def read_tile(
    x: Tensor, weights: Tensor, scale: Tensor | None, tile: TileSpec, params: MVMParams, noise: NoiseSource
) -> Tensor:
    """Return the outputs ``(n, cols)`` of one tile after the ADC, in the units of the product of `x` and `weights`.

    With bound management, vectors whose outputs saturate the ADC are read again with smaller inputs (divided by 2, 4, ...).
    With several reads, the outputs are the mean of the reads, each with its own noise.

    Args:
        x: Input vectors ``(n, rows)``.
        weights: Weights ``(cols, rows)``, divided by the scale of their column.
        scale: Input that the DAC converts to full scale, for each vector ``(n, 1)``; None = the input range in `params`.
        tile: Settings of the noise and other non-idealities of the product.
        params: Settings of the converters and the output noise.
        noise: Source of the noise.
    """
    scale = params.input_range.to(x.dtype).expand(len(x), 1) if scale is None else torch.where(scale > 0, scale, 1)
    result = _read_once(x, weights, scale, tile, params, noise)
    for _ in range(params.read.n_reads - 1):
        result += _read_once(x, weights, scale, tile, params, noise)
    return result if params.read.n_reads == 1 else result.mul_(1 / params.read.n_reads)


def _read_once(
    x: Tensor, weights: Tensor, scale: Tensor, tile: TileSpec, params: MVMParams, noise: NoiseSource
) -> Tensor:
    """Return the outputs of one read, as `read_tile` does."""
    result, read = x.new_empty(len(x), len(weights)), params.read
    pending = torch.arange(len(x), device=x.device)
    reduction = 1.0
    while True:
        unit = scale[pending] * reduction
        codes = convert_inputs(x[pending] * (1 / scale[pending] / reduction), 1.0, params.dac_bits)  # AIHWKIT's order
        z = _multiply(codes.mul_(1 / full_scale(params.dac_bits)), weights, tile, read, noise)
        if read.sigma > 0:
            z.add_(noise.normal_like(z), alpha=read.sigma)
        if read.rounds:
            z.mul_(1 / read.step).round_()
        if read.bound is None:
            result[pending] = z * unit
            return result
        limit = (
            round(read.bound / read.step) if read.rounds else read.bound
        )  # codes are whole numbers: compared exactly
        saturated = (z.abs() > limit).any(dim=1)
        result[pending] = z.clamp_(-limit, limit).mul_(read.step) * unit
        reduction *= 2
        if tile.bound_management == "none" or not bool(saturated.any()) or _is_last(reduction / 2, params):
            return result
        pending = pending[saturated]


def _multiply(inputs: Tensor, weights: Tensor, tile: TileSpec, read: ColumnRead, noise: NoiseSource) -> Tensor:
    """Return the column sums ``(n, cols)`` of one crossbar before the ADC, computed as in AIHWKIT's C++ tiles.

    Args:
        inputs: Input vectors ``(n, rows)`` as fractions of a full-scale input.
        weights: Weights ``(cols, rows)``, divided by the scale of their column.
        tile: Settings of IR drop, and kind of the weight read noise.
        read: Input noise and weight read noise.
        noise: Source of the noise.
    """
    if read.input_noise > 0:
        inputs = torch.add(inputs, noise.normal_like(inputs), alpha=read.input_noise)
    z = inputs @ weights.T
    if tile.ir_drop > 0:
        z.sub_(_lost_in_wires(inputs, weights, tile))
    if read.weight_noise > 0:
        power = inputs.square()
        by_weight = tile.weight_read_noise_kind == "root"
        variance = power @ weights.abs().T if by_weight else power.sum(dim=1, keepdim=True)
        z.addcmul_(noise.normal_like(z), variance.sqrt_(), value=read.weight_noise)
    return z


def _lost_in_wires(inputs: Tensor, weights: Tensor, tile: TileSpec) -> Tensor:
    """Return the reduction of each column sum, shape ``(samples, cols)``, that the wire resistance causes (IR drop).

    The product in row ``j`` of ``n`` rows is reduced by the fraction ``c (1 - (1 - j/n)^2)`` times the setting ``ir_drop``.
    The fraction is 0 in row 0 and largest in the last row. Here ``c = a (a (0.05 a - 0.2) + 0.5)`` and
    ``a = n R g_max sum_j |w_j| |x_j|``, where ``R`` is the resistance of the wire between two cells [ohm] and ``g_max`` the
    largest conductance [S]. With ``r`` copies of the weights, one below the other, ``n`` and the sum are ``r`` times as large.
    The loss of a row is the mean over its copies.

    Source:
        AIHWKIT 1.2.0 rpu_forward_backward_pass.cpp, applyIrDrop.
    """
    n, r = weights.shape[1], tile.row_copies
    a = (inputs.abs() @ weights.abs().T).mul_(
        r * r * n * tile.wire_resistance * tile.device.g_max * 1e-6
    )  # g_max is in µS
    c = a * (a * (0.05 * a - 0.2) + 0.5)
    distance = 1 - torch.arange(r * n, dtype=inputs.dtype, device=inputs.device) / (r * n)
    share = 1 - distance.square()
    share = share if r == 1 else share.view(r, n).mean(dim=0)
    return (inputs * share) @ weights.T * c * tile.ir_drop


def _is_last(reduction: float, params: MVMParams) -> bool:
    """Return whether bound management stops after a read in which the inputs were divided by `reduction`."""
    if reduction > _LARGEST_REDUCTION:
        return True
    return params.dac_bits is not None and reduction > _COARSEST_INPUT * code_limit(params.dac_bits)
