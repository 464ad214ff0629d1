"""Calibration of the input ranges of analog layers with representative inputs.

The input range of a layer is the largest input magnitude that its DAC represents. A small range clips large inputs. A large
range increases the effect of output noise and of rounding in the converters.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers
from lionheart.analog.converters import code_limit, convert_inputs, full_scale
from lionheart.analog.policy import describe_read
from lionheart.data import eval_mode
from lionheart.errors import CalibrationWarning, ConfigError, suggest

_N_RANGES = 16  # number of candidate ranges, from `_SMALLEST_SHARE` times the largest input to the largest input
_SMALLEST_SHARE = 0.1
# number of ranges beyond the largest input, up to 100 times as large, tried while sums exceed the range of the ADC
_N_LARGER_RANGES = 30
# relative change of outputs, root mean square; clipping the tails of Gaussian weights changes less
_LARGE_CHANGE = 0.25
_FEW_WEIGHTS = 0.001  # share of a layer's weights that are a few
_MAX_CALLS = 32  # calls of one layer whose inputs are used
_MAX_SAMPLES = 256  # samples of each call that are used, counted along the first dimension


@torch.no_grad()
def calibrate_input_ranges_(
    model: nn.Module,
    run: Callable[[nn.Module], Any],
    fqns: Iterable[str] | None = None,
    *,
    digitally: bool = False,
    warn_of_clipping: bool = True,
) -> dict[str, float]:
    """Set the input range of chosen analog layers in place, computed from recorded inputs of each layer.

    Of 16 ranges, the range with the smallest expected squared error of the layer's outputs is set. The error includes the
    clipping of inputs, the rounding in the DAC, sums beyond the range of the ADC, the output noise and the rounding in the ADC.
    The errors from output noise and ADC increase with the range. A larger range makes the sums smaller. If sums exceed the
    range of the ADC even for the largest input, larger ranges are tried as well.

    A layer without any recorded input keeps its range, and a `CalibrationWarning` names the layer. Another `CalibrationWarning`
    names layers whose outputs change much when hardware-aware training clips a few of their weights. If the setting
    ``tile.hwa.weight_clip_spares`` is True, these layers are not clipped (`find_spared`), and there is no such warning.

    Args:
        model: Model with analog layers; their input ranges are changed in place.
        run: Function that is called with the model and runs the model on representative inputs, once or several times.
        fqns: Fully qualified names of the analog layers to calibrate; None = all analog layers without an input range.
        digitally: Whether all analog layers compute digitally while inputs are collected, so that the ranges depend only on
            weights and inputs. If False, only the layers to calibrate compute digitally.
        warn_of_clipping: Whether to warn of layers that clipping in training will change, or to spare them; False if no
            training follows.

    Returns:
        Input range of each calibrated layer by the layer's name, in units of the layer's input. Layers without any recorded
        input are missing.

    Raises:
        ConfigError: A name in `fqns` is not the name of an analog layer, or inputs of a layer are not finite.
    """
    if not callable(run):
        raise ConfigError(
            f"calibration: run: got {type(run).__name__}, expected a function that runs the model",
            hint="for example lambda net: net(inputs)",
        )
    layers = analog_layers(model)
    chosen = [fqn for fqn, layer in layers.items() if layer.analog_input_range == 0] if fqns is None else list(fqns)
    for fqn in chosen:
        if fqn not in layers:
            raise ConfigError(
                f"calibration: got {fqn!r}, expected the name of an analog layer",
                hint=suggest(fqn, layers, label="analog layers"),
            )
    if not chosen:
        return {}
    digital = layers.values() if digitally else [layers[fqn] for fqn in chosen]
    with _computing_digitally(digital):
        inputs = _collect_inputs(model, run, {fqn: layers[fqn] for fqn in chosen})
    for fqn, seen in inputs.items():
        if not all(bool(x.isfinite().all()) for x in seen):
            raise ConfigError(
                f"calibration: got NaN or infinite inputs of layer {fqn!r}, expected finite numbers",
                hint="remove these samples from the calibration data, or find the layer before that computes the values",
            )
    _warn_of_unseen({fqn: layers[fqn] for fqn in chosen if fqn not in inputs})
    ranges = {}
    for fqn, seen in inputs.items():
        ranges[fqn] = best_input_range(layers[fqn], seen)
        layers[fqn].analog_input_range.fill_(ranges[fqn])
        change = _change_by_clipping(layers[fqn], seen, ranges[fqn]) if warn_of_clipping else 0.0
        if change > 0 and _spares(layers[fqn]):
            layers[fqn].spare_weights_()
        elif change > 0:
            _warn_of_clipping(fqn, layers[fqn], change)
    return {fqn: ranges[fqn] for fqn in chosen if fqn in ranges}


@torch.no_grad()
def measure_saturation(model: nn.Module, run: Callable[[nn.Module], Any]) -> dict[str, float]:
    """Return which share of the sums of each analog layer lies beyond the range of its ADC, 0 to 1, before output noise.

    The model runs as it is, on a programmed chip if there is one. A layer that did not run has no share; one whose ADC has no
    bound, or whose bound management reads saturated vectors again, has 0.

    Args:
        model: With analog layers that have their input ranges.
        run: Called with the model; runs it on representative inputs, once or more.
    """
    layers = analog_layers(model)
    return {fqn: _saturated_share(layers[fqn], seen) for fqn, seen in _collect_inputs(model, run, layers).items()}


def _collect_inputs(
    model: nn.Module, run: Callable[[nn.Module], Any], layers: Mapping[str, AnalogLayer]
) -> dict[str, list[Tensor]]:
    """Return inputs of some calls of each layer, as its forward gets them; calls without any input are none."""
    inputs: dict[str, list[Tensor]] = {}
    handles = [
        layer.register_forward_pre_hook(_collector(inputs, fqn, layer), with_kwargs=True)
        for fqn, layer in layers.items()
    ]
    try:
        with eval_mode(model):
            run(model)
    finally:
        for handle in handles:
            handle.remove()
    return {fqn: inputs[fqn] for fqn in layers if fqn in inputs}


def find_uncalibrated(model: nn.Module) -> tuple[str, ...]:
    """Return the fully qualified names of the analog layers in `model` that need an input range but have none."""
    return tuple(
        fqn for fqn, layer in analog_layers(model).items() if layer.tile.has_input_range and not layer.check_range()
    )


def best_input_range(layer: AnalogLayer, inputs: Sequence[Tensor]) -> float:
    """Return the input range with the smallest expected squared error of the layer's outputs.

    Ranges from 0.1 to 1 times the largest input magnitude are compared, in 16 steps on a logarithmic scale.

    Args:
        layer: Analog layer. The digital layer that it replaces computes the exact outputs.
        inputs: Inputs of the layer, one tensor for each recorded call.

    Returns:
        Input range in units of the layer's input; 1 if all inputs are 0.
    """
    largest = max(float(x.abs().amax()) for x in inputs)
    if largest == 0:
        return 1.0
    ratio = _SMALLEST_SHARE ** (1 / (_N_RANGES - 1))
    shares = torch.logspace(torch.log10(torch.tensor(_SMALLEST_SHARE)), 0, _N_RANGES).tolist()
    exact = [_products(layer, x) for x in inputs]
    noise, limit = _noise_variance(layer), _sum_limit(layer)
    errors: list[tuple[float, float]] = []
    for share in (*shares, *(ratio**-each for each in range(1, _N_LARGER_RANGES + 1))):
        bound = largest * share
        results = [_squared_error(layer, x, y, bound, limit) for x, y in zip(inputs, exact, strict=True)]
        errors.append((statistics.fmean(error for error, _ in results) + noise * bound**2, bound))
        if share >= 1 and not any(saturates for _, saturates in results):
            break  # a larger range only makes steps and noise larger
    return min(errors, key=lambda each: each[0])[1]


def _noise_variance(layer: AnalogLayer) -> float:
    """Return the variance that output noise and the ADC's steps put on an output, for an input range of 1."""
    return describe_read(layer.tile_in_use).variance * sum(
        float((layer._normalised(a, b)[1] ** 2).mean()) for a, b in layer._row_slices()
    )


def _sum_limit(layer: AnalogLayer) -> float | None:
    """Return where the sums of a tile are cut, in full-scale inputs times a weight of 1; None if nowhere for a static range."""
    tile = layer.tile
    is_free = tile.finds_range or tile.bound_management == "iterative"
    return None if is_free else describe_read(layer.tile_in_use).bound


def _products(layer: AnalogLayer, x: Tensor) -> Tensor:
    """Return the outputs of the digital layer for `x`, without the products of digital weights."""
    out: Tensor = layer.digital.forward(x)
    return out if layer.digital_places() is None else out - layer.digital_part(x, out)


def _squared_error(
    layer: AnalogLayer, x: Tensor, exact: Tensor, bound: float, limit: float | None
) -> tuple[float, bool]:
    """Return the mean squared error of a layer's outputs for clipped and rounded inputs, and whether any sum was clipped.

    Args:
        layer: Analog layer.
        x: Inputs of one call.
        exact: Exact outputs for `x`, without the products of digital weights.
        bound: Largest magnitude of the clipped inputs.
        limit: Magnitude at which sums are clipped, in full-scale inputs times a weight of 1; None = no limit.
    """
    quantised = x.clamp(-bound, bound)
    if layer.tile.dac_bits is not None:
        step = bound / code_limit(layer.tile.dac_bits)
        quantised = (quantised / step).round_().mul_(step)
    outputs, lost = _products(layer, quantised), False
    if limit is not None:
        for sums, scale in _sums_of_rows(layer, quantised / bound):
            cut = sums.clamp(-limit, limit).sub_(sums)
            if bool(cut.any()):
                lost = True
                outputs = outputs + cut * layer.over_outputs(scale.to(cut.dtype) * bound, cut)
    return float((outputs - exact).square().mean()), lost


def _sums_of_rows(
    layer: AnalogLayer, x: Tensor, chip: Sequence[tuple[Tensor, Tensor]] = ()
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each row of tiles its sums of inputs, and what a weight of 1 stands for in each column."""
    x = layer._pad(x)
    for index, (first, last) in enumerate(layer._row_slices()):
        weights, scale = chip[index] if chip else layer._normalised(first, last)
        kernel = layer.kernel(weights.detach().to(x.dtype), first, last)
        yield layer.multiply(layer.rows_of(x, first, last), kernel), scale


def _saturated_share(layer: AnalogLayer, inputs: Sequence[Tensor]) -> float:
    limit = describe_read(layer.tile_in_use).bound
    if limit is None or layer.tile.bound_management == "iterative":
        return 0.0
    n_saturated = n_sums = 0
    for x in inputs:
        for sums in _present_sums(layer, x):
            n_saturated += int((sums.abs() > limit).sum())
            n_sums += sums.numel()
    return n_saturated / n_sums


def _present_sums(layer: AnalogLayer, x: Tensor) -> Iterator[Tensor]:
    """Yield the sums of each row of tiles with the present input range, in full-scale inputs times a weight of 1."""
    if layer.tile.input_range == "dynamic":
        yield from _sums_of_scaled_vectors(layer, layer._to_vectors(layer._pad(x)))
        return
    if layer.tile.input_range == "sample":
        x = x / layer.sample_scale(x)
    bound = float(layer._input_range(x))
    quantised = convert_inputs(x, bound, layer.tile.dac_bits).mul_(1 / full_scale(layer.tile.dac_bits))
    for sums, _ in _sums_of_rows(layer, quantised, layer.programmed_rows()):
        yield sums


def _sums_of_scaled_vectors(layer: AnalogLayer, vectors: Tensor) -> Iterator[Tensor]:
    """Yield the sums of each row of tiles, each vector of it scaled by its own largest input."""
    groups = layer.partition.groups
    for index, (first, last) in enumerate(layer._row_slices()):
        weights = (layer.programmed_rows()[index] if layer.is_programmed else layer._normalised(first, last))[0]
        for part, columns in zip(vectors.chunk(groups, dim=1), weights.detach().chunk(groups), strict=True):
            x = part[:, first:last]
            x = x / x.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
            codes = convert_inputs(x, 1.0, layer.tile.dac_bits).mul_(1 / full_scale(layer.tile.dac_bits))
            yield codes @ columns.to(codes.dtype).T


def _warn_of_unseen(layers: Mapping[str, AnalogLayer]) -> None:
    """Name layers that ran on no calibration input, once for each."""
    new = [fqn for fqn, layer in layers.items() if not layer.memory().get("unseen")]
    for layer in layers.values():
        layer.memory()["unseen"] = True
    if new:
        warnings.warn(
            f"calibration: no input reached {', '.join(new)}; the input range will be the largest of the first inputs that do",
            CalibrationWarning,
            stacklevel=3,
        )


def find_spared(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the analog layers that training does not clip because clipping would change their outputs too much.

    `calibrate_input_ranges_` spares layers if the setting ``tile.hwa.weight_clip_spares`` is True.
    """
    return tuple(fqn for fqn, layer in analog_layers(model).items() if layer.is_spared)


def _spares(layer: AnalogLayer) -> bool:
    """Return whether the settings spare the layer if clipping changes its outputs too much."""
    hwa = layer.tile.hwa
    return hwa.weight_clip_spares and hwa.clips_by_spread and (hwa.weight_clip is None or hwa.weight_clip >= 1)


def _change_by_clipping(layer: AnalogLayer, inputs: Sequence[Tensor], bound: float) -> float:
    """Return the relative change of a layer's outputs by clipping a few weights in training, root mean square.

    The result is 0 if the change is not more than `_LARGE_CHANGE` and than the change by the tile's noise. Tight limits clip
    the tails of all columns, to which training adapts; only the weights that lose most are judged.

    Args:
        layer: Analog layer with its limits of clipping.
        inputs: Inputs of the layer, one tensor for each recorded call.
        bound: Input range of the layer.
    """
    limits, matrix = layer.column_limits(), layer.tile_matrix().detach()
    if limits is None or bool((matrix.abs() <= limits.unsqueeze(1)).all()):
        return 0.0
    lost = torch.clamp(matrix, -limits.unsqueeze(1), limits.unsqueeze(1)).sub_(matrix)
    sizes = lost.abs()
    least = sizes.flatten().topk(math.ceil(_FEW_WEIGHTS * sizes.numel())).values[-1]
    lost = torch.where((sizes >= least) & (sizes > 0), lost, torch.zeros_like(lost))
    change = signal = 0.0
    for x in inputs:
        change += _mean_square(layer, lost, x) / len(inputs)
        signal += _mean_square(layer, matrix, x) / len(inputs)
    is_large = change > max(_LARGE_CHANGE**2 * signal, _noise_variance(layer) * bound**2)
    return math.sqrt(change / signal) if is_large else 0.0


def _warn_of_clipping(fqn: str, layer: AnalogLayer, change: float) -> None:
    """Say once that clipping changes the outputs of a layer by the share `change`."""
    if layer.memory().get("clipping"):
        return
    layer.memory()["clipping"] = True
    warnings.warn(
        f"{fqn}: clipping the weights in training, as the HWA settings ask for, changes the outputs by "
        f"{change:.0%} (root mean square) or more: a few large weights carry the signal; "
        "keep the layer digital, set weight_clip_spares=True, or train without weight_clip_sigma and weight_clip_average",
        CalibrationWarning,
        stacklevel=3,
    )


def _mean_square(layer: AnalogLayer, matrix: Tensor, x: Tensor) -> float:
    """Return the mean square of the products of inputs with some weights ``(out, in)``."""
    padded, total = layer._pad(x), None
    for first, last in layer._row_slices():
        kernel = layer.kernel(matrix[:, first:last].to(x.dtype), first, last)
        part = layer.multiply(layer.rows_of(padded, first, last), kernel)
        total = part if total is None else total + part
    return 0.0 if total is None else float(total.float().square().mean())


def _collector(inputs: dict[str, list[Tensor]], fqn: str, layer: AnalogLayer) -> Callable[[nn.Module, Any, Any], None]:
    def collect(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = (*args, *kwargs.values())[0]
        if x.numel() == 0:
            return
        calls = inputs.setdefault(fqn, [])
        if len(calls) < _MAX_CALLS:  # several calls: the first state of a recurrent layer is zero
            calls.append((x[:_MAX_SAMPLES] if x.ndim >= layer.n_batched_dims else x).detach())

    return collect


@contextmanager
def _computing_digitally(layers: Iterable[AnalogLayer]) -> Iterator[None]:
    """Within the context, let each analog layer in `layers` run ``forward`` of the digital layer that it replaces."""
    patched = {layer: layer.__dict__.get("forward") for layer in layers}
    for layer in patched:
        layer.__dict__["forward"] = layer.digital.forward
    try:
        yield
    finally:
        for layer, before in patched.items():
            del layer.__dict__["forward"]
            if before is not None:
                layer.__dict__["forward"] = before
