"""Calibration of the input ranges of analog layers with representative inputs.

The input range of a layer is the largest input magnitude that its DAC represents. A small range clips large inputs. A large
range increases the effect of output noise and of rounding in the converters.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers
from lionheart.analog.converters import code_limit
from lionheart.data import eval_mode
from lionheart.errors import ConfigError, suggest

_N_RANGES = 16  # number of candidate ranges, from `_SMALLEST_SHARE` times the largest input to the largest input
_SMALLEST_SHARE = 0.1
_MAX_CALLS = 32  # calls of one layer whose inputs are used
_MAX_SAMPLES = 256  # samples of each call that are used, counted along the first dimension


@torch.no_grad()
def calibrate_input_ranges_(
    model: nn.Module,
    run: Callable[[nn.Module], Any],
    fqns: Iterable[str] | None = None,
    *,
    digitally: bool = False,
) -> dict[str, float]:
    """Set the input range of chosen analog layers in place, computed from recorded inputs of each layer.

    Of 16 ranges, the range with the smallest expected squared error of the layer's outputs is set. The error
    includes the clipping of inputs, the rounding in the DAC, the output noise and the rounding in the ADC. The errors from
    output noise and ADC increase with the range.

    Args:
        model: Model with analog layers; their input ranges are changed in place.
        run: Function that is called with the model and runs the model on representative inputs, once or several times.
        fqns: Fully qualified names of the analog layers to calibrate; None = all analog layers without an input range.
        digitally: Whether all analog layers compute digitally while inputs are collected, so that the ranges depend only on
            weights and inputs. If False, only the layers to calibrate compute digitally.

    Returns:
        Input range of each calibrated layer by the layer's name, in units of the layer's input.

    Raises:
        ConfigError: A name in `fqns` is not the name of an analog layer, or a layer to calibrate does not run.
    """
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
    inputs: dict[str, list[Tensor]] = {}
    handles = [layers[fqn].register_forward_pre_hook(_collector(inputs, fqn)) for fqn in chosen]
    try:
        with eval_mode(model), _computing_digitally(layers.values() if digitally else [layers[fqn] for fqn in chosen]):
            run(model)
    finally:
        for handle in handles:
            handle.remove()
    for fqn in chosen:
        if fqn not in inputs:
            raise ConfigError(
                f"calibration: layer {fqn!r} did not run on the calibration data",
                hint="give inputs on which the layer runs, or leave the layer out of the calibration",
            )
    ranges = {}
    for fqn in chosen:
        ranges[fqn] = best_input_range(layers[fqn], inputs[fqn])
        layers[fqn].analog_input_range.fill_(ranges[fqn])
    return ranges


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
    tile = layer.tile
    exact = [layer.digital(x) for x in inputs]
    shares = torch.logspace(torch.log10(torch.tensor(_SMALLEST_SHARE)), 0, _N_RANGES).tolist()
    variance = tile.output_noise**2
    if tile.adc_bits is not None and tile.output_bound is not None:
        variance += (tile.output_bound / code_limit(tile.adc_bits)) ** 2 / 12
    scale = sum(float((layer._normalised(a, b)[1] ** 2).mean()) for a, b in layer._row_slices())
    errors = []
    for share in shares:
        bound = largest * share
        squares = [_squared_error(layer, x, y, bound) for x, y in zip(inputs, exact, strict=True)]
        errors.append(statistics.fmean(squares) + variance * scale * bound**2)
    return largest * float(shares[min(range(len(errors)), key=errors.__getitem__)])


def _squared_error(layer: AnalogLayer, x: Tensor, exact: Tensor, bound: float) -> float:
    """Return the mean squared error of a layer's outputs if the inputs are clipped at `bound` and rounded in the DAC.

    Args:
        layer: Analog layer.
        x: Inputs of one call.
        exact: Outputs of the digital layer for `x`.
        bound: Largest magnitude of the clipped inputs.
    """
    quantised = x.clamp(-bound, bound)
    if layer.tile.dac_bits is not None:
        step = bound / code_limit(layer.tile.dac_bits)
        quantised = (quantised / step).round_().mul_(step)
    return float((layer.digital(quantised) - exact).square().mean())


def _collector(inputs: dict[str, list[Tensor]], fqn: str) -> Callable[[nn.Module, Any], None]:
    def collect(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls = inputs.setdefault(fqn, [])
        if len(calls) < _MAX_CALLS:  # several calls: the first state of a recurrent layer is zero
            calls.append(args[0][:_MAX_SAMPLES].detach())

    return collect


@contextmanager
def _computing_digitally(layers: Iterable[AnalogLayer]) -> Iterator[None]:
    """Within the context, let each analog layer in `layers` run ``forward`` of the digital layer that it replaces."""
    chosen = list(layers)
    for layer in chosen:
        layer.__dict__["forward"] = layer.digital.forward
    try:
        yield
    finally:
        for layer in chosen:
            del layer.__dict__["forward"]
