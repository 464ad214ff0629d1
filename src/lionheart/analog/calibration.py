"""Static input ranges from data: the trade between clipping large inputs and drowning small ones in output noise."""

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

_N_RANGES = 16  # candidate ranges tried, from a tenth of the largest input to all of it
_SMALLEST_SHARE = 0.1
_MAX_CALLS = 32  # of a layer that runs several times
_MAX_SAMPLES = 256  # inputs of the first dimension used for one layer


@torch.no_grad()
def calibrate_input_ranges_(
    model: nn.Module,
    run: Callable[[nn.Module], Any],
    fqns: Iterable[str] | None = None,
    *,
    digitally: bool = False,
) -> dict[str, float]:
    """Choose the input range of analog layers so that the expected squared error of their outputs is least.

    The error counts inputs that are clipped, the DAC's steps, the output noise and the ADC's steps; the latter two grow with
    the range.

    Args:
        model: With the analog layers in place.
        run: Called with the model; runs it on representative inputs, once or more.
        fqns: Layers to calibrate; None = those that have no range yet.
        digitally: Collect the inputs with every layer digital, so that the ranges depend on the weights and the inputs alone.
            Else all other analog layers work as they are meanwhile.

    Returns:
        The ranges by layer, in units of the layer's input.
    """
    layers = analog_layers(model)
    chosen = [fqn for fqn, layer in layers.items() if layer.analog_input_range == 0] if fqns is None else list(fqns)
    for fqn in chosen:
        if fqn not in layers:
            raise ConfigError(
                f"calibration: {fqn!r} is no analog layer", hint=suggest(fqn, layers, label="analog layers")
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
            raise ConfigError(f"{fqn}: did not run on the calibration data", hint="give inputs that reach every layer")
    ranges = {}
    for fqn in chosen:
        ranges[fqn] = best_input_range(layers[fqn], inputs[fqn])
        layers[fqn].analog_input_range.fill_(ranges[fqn])
    return ranges


def find_uncalibrated(model: nn.Module) -> tuple[str, ...]:
    """Return the analog layers that need an input range and have none."""
    return tuple(
        fqn for fqn, layer in analog_layers(model).items() if layer.tile.has_input_range and not layer.check_range()
    )


def best_input_range(layer: AnalogLayer, inputs: Sequence[Tensor]) -> float:
    """Return the range with the least expected squared output error of one layer on the inputs of some of its calls."""
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
    """Return the mean squared error of what inputs clipped at `bound` and the DAC's steps do to the outputs."""
    quantised = x.clamp(-bound, bound)
    if layer.tile.dac_bits is not None:
        step = bound / code_limit(layer.tile.dac_bits)
        quantised = (quantised / step).round_().mul_(step)
    return float((layer.digital(quantised) - exact).square().mean())


def _collector(inputs: dict[str, list[Tensor]], fqn: str) -> Callable[[nn.Module, Any], None]:
    def collect(module: nn.Module, args: tuple[Any, ...]) -> None:
        calls = inputs.setdefault(fqn, [])
        if len(calls) < _MAX_CALLS:  # a recurrent layer's first state is zero
            calls.append(args[0][:_MAX_SAMPLES].detach())

    return collect


@contextmanager
def _computing_digitally(layers: Iterable[AnalogLayer]) -> Iterator[None]:
    """Let layers compute digitally for a while."""
    chosen = list(layers)
    for layer in chosen:
        layer.__dict__["forward"] = layer.digital.forward
    try:
        yield
    finally:
        for layer in chosen:
            del layer.__dict__["forward"]
