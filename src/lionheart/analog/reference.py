"""Reference reads for tiles with outliers: inputs of random signs, and a least-squares estimate of the gain.

A reference read in AIHWKIT's way applies a full-scale input to one row after another and takes the mean magnitude of the
outputs. An output is then a single weight ``w`` in ``[-1, 1]`` with noise of the standard deviation ``s``, where ``s`` combines
output noise and ADC rounding, ``s^2 = output_noise^2 + step^2 / 12``. The mean of ``|w + noise|`` does not fall below
``0.8 s``. Columns whose largest weight is many standard deviations of the others have most weights below ``s``. The read then
shows mostly noise, which does not drift, and the compensation factor is too small.

A read with signs applies a vector ``x`` of ``+1`` and ``-1`` to all rows at once. The output of column ``c`` is
``sum_i w_ci x_i``, whose root mean square over sign vectors is the norm of the column, at least 1. It is compared with the
output ``y*`` of the exact weights, which is computed once, digitally.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from lionheart.analog.converters import average_reads, full_scale
from lionheart.analog.noise import NoiseSource
from lionheart.analog.policy import describe_read
from lionheart.analog.product import MVMParams
from lionheart.analog.vectors import read_tile
from lionheart.devices import TileSpec

LARGEST_BIAS = 0.1  # root mean square of the predicted biases of factors above which "auto" reads with signs
LARGEST_BIAS_OF_ONE = 0.2  # the same for a single factor, such as that of one column
_DECAY = 0.5  # remaining conductance for which the error is predicted; PCM after about a year
_DECAY_SLOPE = 1 / 8  # exponent of the assumed decay over conductance; PCM after about a year
_N_LEVELS = 512  # levels of weights in a prediction
_USED_RANGE = 0.8  # fraction of the ADC range that sign vectors use; the rest is for programming noise
_SMALLEST_GAIN = 0.01  # lower bound of an estimated gain


def choose_reference(weights: Tensor, tile: TileSpec) -> Literal["rows", "signs"]:
    """Return how the reference reads of crossbars are done: the tile setting `reference_inputs`, with ``auto`` resolved.

    ``auto`` gives ``signs`` if the root mean square of `predict_bias` exceeds 10 %, or the bias of any factor exceeds 20 %.
    No random numbers are drawn.

    Args:
        weights: Exact weights ``(..., cols, rows)`` of the crossbars, divided by the scale of their column.
        tile: Settings of converters, noise and drift compensation.
    """
    if tile.reference_inputs != "auto":
        return tile.reference_inputs
    bias = predict_bias(weights, tile)
    exceeded = (bias.square().mean().sqrt() > LARGEST_BIAS) | (bias.amax() > LARGEST_BIAS_OF_ONE)
    return "signs" if bool(exceeded) else "rows"


def predict_bias(weights: Tensor, tile: TileSpec) -> Tensor:
    """Return the predicted relative bias of each compensation factor if the rows are read one after another.

    The prediction is made for conductances that have decayed to ``d = 1/2``. It is the larger of two biases.

    The first bias is that of noise. The mean of ``|w + noise|`` is that of a folded normal distribution,
    ``f(w) = s sqrt(2 / pi) exp(-w^2 / 2 s^2) + w erf(w / (s sqrt(2)))``. The bias is ``d mean f(w) / mean f(d w) - 1``. The
    prediction judges weights, not tiles: ``s`` is that of the tile, but at most that of the default tile. With more noise than
    that, rows give too small factors for all weights.

    The second bias arises without noise: small conductances of PCM decay faster than large ones. The mean magnitude weighs
    each decay ``d(w)`` by ``|w|``, the power of the outputs by ``w^2``. The bias is
    ``(sum w^2 d / sum w^2) / (sum |w| d / sum |w|) - 1`` with the assumed decay ``d(w) ~ |w|^(1/8)``.

    Weights are rounded to 1/512 of the largest for the prediction.

    Args:
        weights: Exact weights ``(..., cols, rows)`` of the crossbars, divided by the scale of their column.
        tile: Settings of converters, noise and drift compensation.

    Returns:
        Biases ``(...,)`` of each crossbar if ``drift_compensation="global"``, else ``(..., cols)`` of each column. Crossbars or
        columns of zeros have none.

    Source:
        Folded normal distribution: Leone, Nelson and Nottingham, Technometrics 3, 543 (1961). Decay of PCM: Nandakumar et al.,
        J. Appl. Phys. 124, 152135 (2018), as in the PCM device. Assumed decay: docs/adr/0035.
    """
    lead = weights.shape[:-2] if tile.drift_compensation == "global" else weights.shape[:-1]
    levels = (
        weights.reshape(math.prod(lead), -1).abs().nan_to_num_(nan=0.0).clamp_(max=1.0).mul_(_N_LEVELS).round_().long()
    )
    n_factors = len(levels)
    levels += torch.arange(n_factors, device=levels.device).mul_(_N_LEVELS + 1).unsqueeze(1)
    counts = torch.bincount(levels.flatten(), minlength=n_factors * (_N_LEVELS + 1)).view(n_factors, -1)
    sums = counts.float() @ _level_terms(min(_read_noise(tile), _read_noise(TileSpec()))).to(counts.device)
    size, energy, size_decay, energy_decay, young, old = sums.unbind(-1)
    by_size = energy_decay / energy * size / size_decay - 1
    by_noise = _DECAY * young / old - 1
    return torch.where(energy > 0, torch.maximum(by_size.abs(), by_noise.abs()), 0.0).view(lead)


def _read_noise(tile: TileSpec) -> float:
    """Return the standard deviation of the read of one weight, from output noise, ADC rounding and noise of weights."""
    read = describe_read(tile)
    return math.sqrt(read.variance + read.weight_noise**2)


@lru_cache(maxsize=8)
def _level_terms(sigma: float) -> Tensor:
    """Return the terms of the sums in `predict_bias` ``(levels, 6)``, for weights from 0 to 1 and noise with `sigma`."""
    w = torch.linspace(0, 1, _N_LEVELS + 1, dtype=torch.float64)
    decay = w**_DECAY_SLOPE
    young, old = (_fold(each, sigma) for each in (w, w * _DECAY))
    terms = (w, w.square(), w * decay, w.square() * decay, young, old)
    return torch.stack(terms, dim=-1).float()


def _fold(w: Tensor, sigma: float) -> Tensor:
    """Return the mean of ``|w + noise|``, the mean of a folded normal distribution."""
    if sigma == 0:
        return w
    relative = w / (sigma * math.sqrt(2))
    return sigma * math.sqrt(2 / math.pi) * torch.exp(-relative.square()) + w * torch.erf(relative)


@final
@dataclass(frozen=True)
class SignReference:
    """Sign vectors of crossbars and the outputs that the exact weights give for them.

    Args:
        codes: Amplitude of each sign vector, in full-scale inputs, ``(..., reads)``. A DAC can represent it exactly.
        outputs: Column sums ``(..., cols, reads)`` of the exact weights for the sign vectors with these amplitudes.
    """

    codes: Tensor
    outputs: Tensor

    def factor(self, weights: Tensor, tile: TileSpec, generator: torch.Generator) -> Tensor:
        """Read crossbars with the sign vectors, and return the factors that compensate drift.

        The gain of a crossbar is the least-squares estimate ``b = sum y y* / sum y*^2`` over columns and reads, where ``y``
        are the read outputs and ``y*`` those of the exact weights. Noise in ``y`` has zero mean and enters linearly. The
        estimate ``b`` therefore has no bias from noise, and its standard error falls with the square root of the number of
        reads. The factor is ``1 / b``.

        With ``drift_compensation="per_column"``, ``b_c`` is estimated for each column and moved towards the gain ``b`` of the
        crossbar by empirical Bayes: ``b + t^2 / (t^2 + v_c) (b_c - b)``. The variance ``v_c`` of the estimate follows from the
        residuals of column ``c``, and ``t^2`` is the variance of the gains over columns that estimation errors do not explain.

        Args:
            weights: Weights ``(..., cols, rows)`` at the time of the read, divided by the scale of their column.
            tile: Settings of converters, noise and drift compensation.
            generator: Source of the noise.

        Returns:
            Factors ``(..., 1, 1)`` if ``drift_compensation="global"``, else ``(..., cols, 1)``; 1 for crossbars of zeros.

        Source:
            The exact reference is that of AIHWKIT 1.1.0, ``GlobalDriftCompensationWithExactReference``. Shrinkage: Efron and
            Morris, J. Am. Stat. Assoc. 70, 311 (1975).
        """
        read = read_signs(weights, self.codes, tile, generator).to(self.outputs.dtype)
        products, squares = (read * self.outputs).sum(-1), self.outputs.square().sum(-1)
        whole = squares.sum(-1, keepdim=True)
        common = torch.where(whole > 0, products.sum(-1, keepdim=True) / whole, 1.0)
        gain = common
        n_reads = read.shape[-1]
        if tile.drift_compensation == "per_column" and n_reads > 1:
            own = torch.where(squares > 0, products / squares, common)
            residual = (read - own.unsqueeze(-1) * self.outputs).square().sum(-1) / (n_reads - 1)
            spread = (squares * (own - common).square() - residual).sum(-1, keepdim=True) / whole
            spread = torch.where(whole > 0, spread, 0.0).clamp(min=0)
            trusted = spread * squares  # t^2 / (t^2 + v) with v = residual / squares
            gain = common + torch.where(trusted > 0, trusted / (trusted + residual), 0.0) * (own - common)
        elif tile.drift_compensation == "per_column":
            gain = common.expand_as(products)
        return (1 / gain.clamp(min=_SMALLEST_GAIN)).unsqueeze(-1).to(weights.dtype)


def exact_gain(weights: Tensor, exact: Tensor, tile: TileSpec) -> Tensor:
    """Return the gain ``b = sum w_t w / sum w^2`` of drifted weights, which reads with signs estimate, without noise of a read.

    Args:
        weights: Weights ``(..., cols, rows)`` after drift.
        exact: Exact weights ``(..., cols, rows)``.
        tile: Settings of drift compensation.

    Returns:
        Gain ``(..., 1, 1)`` if ``drift_compensation="global"``, else ``(..., cols, 1)``; 1 where all exact weights are 0.
    """
    dims = (-2, -1) if tile.drift_compensation == "global" else (-1,)
    energy = exact.square().sum(dims, keepdim=True)
    gain = (weights * exact).sum(dims, keepdim=True) / energy
    return torch.where(energy > 0, gain, 1.0).clamp(min=_SMALLEST_GAIN)


def take_sign_reference(
    weights: Tensor, programmed: Tensor, tile: TileSpec, generator: torch.Generator
) -> SignReference:
    """Return the sign vectors for crossbars, with amplitudes that use the ADC's range, and the outputs of the exact weights.

    The amplitude of each vector is the largest for which no column of the exact weights exceeds 80 % of the ADC's range, at
    most full scale. With IR drop, the outputs are read from the programmed crossbars instead, because the exact weights do not
    show what the wires take.

    Args:
        weights: Exact weights ``(..., cols, rows)``, divided by the scale of their column.
        programmed: Weights ``(..., cols, rows)`` after programming.
        tile: Settings of converters, noise and drift compensation.
        generator: Source of the noise, used only with IR drop.
    """
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    sums = weights @ _signs(weights, tile.reference_reads)
    codes = torch.ones_like(sums[..., 0, :])
    bound = describe_read(tile).bound
    if bound is not None:
        largest = sums.abs().amax(dim=-2)
        codes = (_USED_RANGE * bound / largest).clamp(max=1.0)
    if tile.dac_bits is not None:
        steps = full_scale(tile.dac_bits)
        codes = (codes * steps).floor_().clamp_(min=1.0) / steps
    if tile.ir_drop > 0:
        return SignReference(codes, read_signs(programmed, codes, tile, generator).to(sums.dtype))
    return SignReference(codes, sums * codes.unsqueeze(-2))


def read_signs(weights: Tensor, codes: Tensor, tile: TileSpec, generator: torch.Generator) -> Tensor:
    """Return the outputs ``(..., cols, reads)`` of crossbars after the ADC for sign vectors of the amplitudes `codes`.

    Args:
        weights: Weights ``(..., cols, rows)``, divided by the scale of their column.
        codes: Amplitudes ``(..., reads)`` in full-scale inputs.
        tile: Settings of converters and noise.
        generator: Source of the noise.
    """
    inputs = _signs(weights, codes.shape[-1]) * codes.unsqueeze(-2).to(weights.dtype)  # (..., rows, reads)
    if tile.disturbs_products:
        size = weights.shape[-2:]
        pairs = zip(weights.reshape(-1, *size), inputs.reshape(-1, *inputs.shape[-2:]), strict=True)
        read = torch.stack([read_inputs(each, own.T, tile, generator) for each, own in pairs])
        return read.view(*weights.shape[:-1], -1)
    sums = weights @ inputs
    return average_reads(sums, lambda z: torch.empty_like(z).normal_(generator=generator), describe_read(tile))


def read_inputs(weights: Tensor, inputs: Tensor, tile: TileSpec, generator: torch.Generator) -> Tensor:
    """Return the outputs ``(cols, n)`` of one crossbar whose products are disturbed, for input vectors ``(n, rows)``."""
    one = torch.ones((), dtype=weights.dtype, device=weights.device)
    params = MVMParams([], weights.dtype, one, tile.dac_bits, describe_read(tile))
    return read_tile(inputs, weights, None, tile, params, NoiseSource(generator, pool_size=0)).T


def _signs(weights: Tensor, n_reads: int) -> Tensor:
    """Return sign vectors ``(rows, reads)`` with the data type and device of `weights`."""
    return _draw_signs(weights.shape[-1], n_reads).to(weights)


@lru_cache(maxsize=32)
def _draw_signs(n_rows: int, n_reads: int) -> Tensor:
    """Return sign vectors ``(rows, reads)``: columns of a Hadamard matrix in random order, each row times a random sign.

    The vectors are always the same for a number of rows. They are the first `n_rows` entries of orthogonal vectors, so the
    interference between rows cancels once all vectors are used. After the last vector, the first follows again.
    """
    generator = torch.Generator().manual_seed(n_rows)
    order = 1 << max(n_rows - 1, 0).bit_length()
    row = torch.arange(n_rows).unsqueeze(1)
    column = torch.randperm(order, generator=generator)[torch.arange(n_reads) % order]
    common = row & column  # entry (i, j) of a Hadamard matrix is -1 to the number of ones that i and j share
    parity = torch.zeros_like(common)
    for bit in range(order.bit_length()):
        parity ^= (common >> bit) & 1
    flip = torch.randint(2, (n_rows, 1), generator=generator)
    return 1.0 - 2.0 * (parity ^ flip)
