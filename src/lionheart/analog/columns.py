"""Column calibration, which corrects each column of a programmed chip with a digital gain and offset.

A column computes one output (or output channel) of a layer. Programming noise and drift change the mean and the variance of a
column's outputs. The correction restores the mean and the variance that the outputs with exact weights have on the same
calibration inputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers
from lionheart.data import eval_mode
from lionheart.errors import CalibrationWarning, ConfigError

_SMALLEST_SHARE = 1e-3  # gain 1 if the standard deviation of a column is below this fraction of the reference


@final
@dataclass(frozen=True)
class Moments:
    """Mean and variance of the outputs of each column, that is of each output (or output channel) of a layer.

    Args:
        count: Number of output values per column, over all samples and positions.
        mean: Mean of these values for each column, ``(out,)``.
        variance: Population variance of these values for each column, ``(out,)``.
    """

    count: int
    mean: Tensor
    variance: Tensor

    def merge(self, other: Moments) -> Moments:
        """Return the mean and variance over all output values that `self` and `other` describe."""
        count = self.count + other.count
        share = other.count / count
        shift = other.mean - self.mean
        variance = self.variance * (1 - share) + other.variance * share + shift.square() * share * (1 - share)
        return Moments(count, self.mean + shift * share, variance)


@final
class ColumnCalibration:
    """Digital gain and offset for each column that restore the outputs' mean and variance with exact weights.

    The constructor measures the mean and variance of each column's outputs with exact weights. `calibrate_` measures the
    outputs of a programmed chip and sets the corrections. With ``column_calibration="offset"``, only the mean is corrected.
    The products of digital weights are exact and are not corrected.
    Layers are corrected in the order in which they run, so the inputs of a layer come from corrected layers. If a layer runs
    several times, as in a recurrent network, the correction is computed after each run from all runs up to this point.

    Args:
        model: Model with analog layers and no programmed chip. Layers with ``column_calibration="none"`` are not corrected.
        run: Function that is called with the model and runs the model on the calibration inputs.

    Raises:
        ConfigError: A chip is programmed, or a layer to correct does not run on the inputs.

    Source:
        Joshi et al., Nature Communications 11, 2473 (2020), recompute batch-norm statistics on each chip (AdaBS). This class
        uses the statistics of the column outputs instead, so that networks without batch norm can also be corrected.
    """

    def __init__(self, model: nn.Module, run: Callable[[nn.Module], Any]) -> None:
        self.model, self.run = model, run
        self._reference: dict[str, list[Moments]] = {}
        self._layers = {
            fqn: layer for fqn, layer in analog_layers(model).items() if layer.tile.column_calibration != "none"
        }
        if not self._layers:
            return
        for layer in self._layers.values():
            if layer.is_programmed:
                raise ConfigError(
                    "column calibration: a chip is programmed, expected a model without a programmed chip",
                    hint="call clear_chip_ first",
                )
        self._pass(self._remember)
        unseen = [fqn for fqn in self._layers if fqn not in self._reference]
        if unseen:
            warnings.warn(
                f"column calibration: no input reached {', '.join(unseen)}, whose columns are not corrected",
                CalibrationWarning,
                stacklevel=2,
            )
        self._layers = {fqn: layer for fqn, layer in self._layers.items() if fqn in self._reference}

    def calibrate_(self) -> None:
        """Measure the outputs of the chip that `drift_chip_` has read, and set the gain and offset of each column in place."""
        if not self._layers:
            return
        seen: dict[str, Moments] = {}
        expected: dict[str, Moments] = {}
        calls: dict[str, int] = {}

        def correct(fqn: str, layer: AnalogLayer, x: Tensor, out: Tensor) -> Tensor:
            if out.numel() == 0:
                return out
            digital = None if layer.digital_places() is None else layer.digital_part(x, out)
            out = out if digital is None else out - digital
            raw, number = out if layer._correction is None else _undo(layer, out), calls.get(fqn, 0)
            calls[fqn] = number + 1
            reference = self._reference[fqn][min(number, len(self._reference[fqn]) - 1)]
            found = _moments(layer, raw)
            seen[fqn] = seen[fqn].merge(found) if fqn in seen else found
            expected[fqn] = expected[fqn].merge(reference) if fqn in expected else reference
            layer.set_correction_(*_correction(layer, seen[fqn], expected[fqn]))
            corrected = layer._correct(raw)
            return corrected if digital is None else corrected + digital

        self._pass(correct)

    def _remember(self, fqn: str, layer: AnalogLayer, x: Tensor, out: Tensor) -> None:
        if out.numel() > 0:
            out = out if layer.digital_places() is None else out - layer.digital_part(x, out)
            self._reference.setdefault(fqn, []).append(_moments(layer, out))

    def _pass(self, see: Callable[[str, AnalogLayer, Tensor, Tensor], Tensor | None]) -> None:
        handles = [
            layer.register_forward_hook(  # before hooks of the user's, which change what the columns give
                lambda _module, args, kwargs, out, fqn=fqn, layer=layer: see(
                    fqn, layer, (*args, *kwargs.values())[0], out
                ),
                prepend=True,
                with_kwargs=True,
            )
            for fqn, layer in self._layers.items()
        ]
        try:
            with torch.no_grad(), _evaluating_eagerly(self.model):
                self.run(self.model)
        finally:
            for handle in handles:
                handle.remove()


def _undo(layer: AnalogLayer, out: Tensor) -> Tensor:
    gain, offset = (layer.over_outputs(each.to(out.dtype), out) for each in layer._correction or ())
    return (out - offset) / gain


def _moments(layer: AnalogLayer, out: Tensor) -> Moments:
    """Return the mean and variance of each column over all dimensions of the outputs `out` except the output dimension."""
    marks = layer.over_outputs(
        torch.arange(len(layer.matrix())), out
    )  # broadcasts over `out`: its longest dimension is the output dimension
    dim = out.ndim - marks.ndim + max(range(marks.ndim), key=lambda each: marks.shape[each])
    columns = out.detach().float().movedim(dim, 0).flatten(1)
    variance, mean = torch.var_mean(columns, dim=1, correction=0)
    return Moments(columns.shape[1], mean, variance)


def _correction(layer: AnalogLayer, seen: Moments, expected: Moments) -> tuple[Tensor, Tensor]:
    gain = torch.ones_like(seen.mean)
    if layer.tile.column_calibration == "affine":
        wanted, found = expected.variance.sqrt(), seen.variance.sqrt()
        gain = torch.where(found > _SMALLEST_SHARE * wanted, wanted / found.clamp(min=1e-30), gain)
        gain = torch.where(wanted > 0, gain, torch.ones_like(gain))
    return gain, expected.mean - gain * seen.mean


@contextmanager
def _evaluating_eagerly(model: nn.Module) -> Iterator[None]:
    """Set `model` to ``eval()`` and run it uncompiled within the context, so that the hooks of its layers are called."""
    compiled, model._compiled_call_impl = model._compiled_call_impl, None
    try:
        with eval_mode(model):
            yield
    finally:
        model._compiled_call_impl = compiled
