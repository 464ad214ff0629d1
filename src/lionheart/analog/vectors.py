"""The product vector by vector, where the scale of the inputs follows each vector as in AIHWKIT's noise and bound management.

Every tile scales and reads every vector by itself. Slower than `product`: convolutions must build their im2col matrix.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from lionheart.analog.converters import adc_step, code_limit, convert_inputs, full_scale
from lionheart.analog.noise import NoiseSource
from lionheart.analog.product import MVMParams
from lionheart.devices import TileSpec
from lionheart.partition import TilePartition

_LARGEST_REDUCTION = 1000.0  # bound management gives up here, as AIHWKIT's max_bm_factor
_COARSEST_INPUT = 0.25  # and where a DAC step is this share of the full range, as AIHWKIT's max_bm_res


def run_vectors(
    vectors: Tensor,
    weight: Tensor,
    partition: TilePartition,
    tile: TileSpec,
    job: MVMParams,
    noise: NoiseSource,
    *,
    limit: Tensor | None,
) -> Tensor:
    """Return the outputs ``(n, out)`` of a layer without bias; gradients are those of the exact product with the weights used.

    Args:
        vectors: ``(n, groups * in)``.
        weight: Of the layer; gets the gradient.
        partition: Its tiles.
        tile: What disturbs the product.
        job: Weights and converters.
        noise: Where noise comes from.
        limit: Largest input; inputs beyond are clipped once, before bound management scales them down. None = no limit.
    """
    if limit is not None:
        bound = limit.to(vectors.dtype)
        vectors = torch.clamp(vectors, -bound, bound)
    with torch.no_grad():
        analog = multiply_vectors(vectors, partition, tile, job, noise)
    if not torch.is_grad_enabled():
        return analog
    if limit is not None:
        codes = convert_inputs(vectors.detach(), job.input_range, job.dac_bits)
        vectors = vectors + (codes * (job.input_range / full_scale(job.dac_bits)) - vectors).detach()
    weights = weight.reshape(len(weight), -1)
    used = weights + (job.matrix().to(weights.dtype) - weights).detach()
    exact = multiply_groups(vectors, used.to(vectors.dtype), partition.groups)
    return exact + (analog - exact).detach()


def multiply_vectors(
    vectors: Tensor, partition: TilePartition, tile: TileSpec, job: MVMParams, noise: NoiseSource
) -> Tensor:
    """Return ``(n, out)`` in real units for ``vectors (n, groups * in)``, without bias."""
    n_in, cols = vectors.shape[1] // partition.groups, sum(partition.col_sizes)
    out = vectors.new_zeros(len(vectors), cols * partition.groups)
    edges = list(itertools.accumulate(partition.col_sizes, initial=0))
    for row in job.rows:
        for group in range(partition.groups):
            x = vectors[:, group * n_in + row.first : group * n_in + row.last]
            scale = x.abs().amax(dim=1, keepdim=True) if tile.input_range == "dynamic" else None
            for begin, end in itertools.pairwise(edges):
                columns = slice(group * cols + begin, group * cols + end)
                read = read_tile(x, row.weights[columns], scale, tile, job, noise)
                out[:, columns] += read * row.scale[columns].to(read.dtype)
    return out


def multiply_groups(vectors: Tensor, weights: Tensor, groups: int) -> Tensor:
    """Return the exact ``(n, out)`` of ``vectors (n, groups * in)`` and ``weights (out, in)``."""
    if groups == 1:
        return vectors @ weights.T
    stacked = vectors.view(len(vectors), groups, -1).transpose(0, 1)  # (groups, n, in)
    return (stacked @ weights.view(groups, -1, weights.shape[1]).transpose(1, 2)).transpose(0, 1).flatten(1)


def read_tile(
    x: Tensor, weights: Tensor, scale: Tensor | None, tile: TileSpec, job: MVMParams, noise: NoiseSource
) -> Tensor:
    """Return what one tile makes of its vectors, ``(n, cols)`` in inputs times tile units.

    Args:
        x: ``(n, rows)``.
        weights: ``(cols, rows)`` [tile units].
        scale: ``(n, 1)``, what a full-scale input stands for in each vector; None takes the job's range.
        tile: What disturbs the product.
        job: Converters.
        noise: Where noise comes from.
    """
    scale = job.input_range.to(x.dtype).expand(len(x), 1) if scale is None else torch.where(scale > 0, scale, 1)
    result = x.new_empty(len(x), len(weights))
    pending = torch.arange(len(x), device=x.device)
    reduction = 1.0
    while True:
        unit = scale[pending] * reduction
        codes = convert_inputs(x[pending] * (1 / scale[pending] / reduction), 1.0, job.dac_bits)  # AIHWKIT's order
        z = _multiply(codes.mul_(1 / full_scale(job.dac_bits)), weights, tile, noise)
        if job.output_noise > 0:
            z.add_(noise.normal_like(z), alpha=job.output_noise)
        step = adc_step(job.adc_bits, job.bound)
        if job.adc_bits is not None:
            z.mul_(1 / step).round_()
        if job.bound is None:
            result[pending] = z * unit
            return result
        limit = (
            code_limit(job.adc_bits) if job.adc_bits is not None else job.bound
        )  # exact where codes are whole numbers
        saturated = (z.abs() > limit).any(dim=1)
        result[pending] = z.clamp_(-limit, limit).mul_(step) * unit
        reduction *= 2
        if tile.bound_management == "none" or not bool(saturated.any()) or _is_last(reduction / 2, job):
            return result
        pending = pending[saturated]


def _multiply(inputs: Tensor, weights: Tensor, tile: TileSpec, noise: NoiseSource) -> Tensor:
    """Return the products of one crossbar ``(n, cols)`` before its outputs are read, as AIHWKIT's compiled tiles do."""
    if tile.input_noise > 0:
        inputs = torch.add(inputs, noise.normal_like(inputs), alpha=tile.input_noise)
    z = inputs @ weights.T
    if tile.ir_drop > 0:
        z.sub_(_lost_in_wires(inputs, weights, tile))
    if tile.weight_read_noise > 0:
        power = inputs.square()
        by_weight = tile.weight_read_noise_kind == "root"
        variance = power @ weights.abs().T if by_weight else power.sum(dim=1, keepdim=True)
        z.addcmul_(noise.normal_like(z), variance.sqrt_(), value=tile.weight_read_noise)
    return z


def _lost_in_wires(inputs: Tensor, weights: Tensor, tile: TileSpec) -> Tensor:
    """Return what the resistance of the wires takes from the products ``(n, cols)``.

    The first row is farthest from the output: of row ``j`` of ``n`` the share ``c (1 - (1 - j/n)^2)`` is lost, where
    ``c = a (a (0.05 a - 0.2) + 0.5)`` and ``a = n R g_max sum_j |w_j| |x_j|`` with the resistance ``R`` of the wire between
    two cells.

    Source:
        AIHWKIT 1.2.0 rpu_forward_backward_pass.cpp, applyIrDrop.
    """
    n = weights.shape[1]
    a = (inputs.abs() @ weights.abs().T).mul_(n * tile.wire_resistance * tile.device.g_max * 1e-6)  # g_max is in µS
    c = a * (a * (0.05 * a - 0.2) + 0.5)
    distance = 1 - torch.arange(n, dtype=inputs.dtype, device=inputs.device) / n
    return (inputs * (1 - distance.square())) @ weights.T * c * tile.ir_drop


def _is_last(reduction: float, job: MVMParams) -> bool:
    """Return whether inputs are not scaled down any further."""
    if reduction > _LARGEST_REDUCTION:
        return True
    return job.dac_bits is not None and reduction > _COARSEST_INPUT * code_limit(job.dac_bits)
