"""Digital gain and offset of each column of a programmed chip, from a few calibration inputs.

What programming and drift do to a column shifts and stretches all its outputs alike. Two numbers a column undo that part. They
are found on the chip itself, by comparing its outputs for calibration inputs with what the exact weights give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers
from lionheart.data import eval_mode
from lionheart.errors import ConfigError

_SMALLEST_SHARE = 1e-3  # of the reference's standard deviation: a column that gives less is silent and gets no gain


@final
@dataclass(frozen=True)
class Moments:
    """Mean and variance of a layer's outputs, one number for each column.

    Args:
        count: Outputs of a column that were seen.
        mean: ``(out,)``.
        variance: ``(out,)``.
    """

    count: int
    mean: Tensor
    variance: Tensor

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both together."""
        count = self.count + other.count
        share = other.count / count
        shift = other.mean - self.mean
        variance = self.variance * (1 - share) + other.variance * share + shift.square() * share * (1 - share)
        return Moments(count, self.mean + shift * share, variance)


@final
class ColumnCalibration:
    """What the columns of a model give for calibration inputs with exact weights, and how a chip is corrected by it.

    Layers are corrected in the order in which they run, each with the corrected outputs of those before it. A layer that runs
    several times, as in a recurrent network, is corrected by all its runs so far.

    Args:
        model: With analog layers; layers whose tile says ``column_calibration="none"`` stay as they are.
        run: Called with the model; runs it on the calibration inputs.

    Source:
        Joshi et al., Nature Communications 11, 2473 (2020), recompute batch-norm statistics on each chip (AdaBS); here the
        same is done at the columns, so that networks without batch norm have it too.
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
                raise ConfigError("column calibration: a chip is programmed", hint="call clear_chip_ first")
        self._pass(self._remember)
        for fqn in self._layers:
            if fqn not in self._reference:
                raise ConfigError(
                    f"{fqn}: did not run on the calibration inputs", hint="give inputs that reach every layer"
                )

    def calibrate_(self) -> None:
        """Correct the columns of the chip that is programmed and read."""
        if not self._layers:
            return
        seen: dict[str, Moments] = {}
        expected: dict[str, Moments] = {}
        calls: dict[str, int] = {}

        def correct(fqn: str, layer: AnalogLayer, out: Tensor) -> Tensor:
            raw, number = out if layer._correction is None else _undo(layer, out), calls.get(fqn, 0)
            calls[fqn] = number + 1
            reference = self._reference[fqn][min(number, len(self._reference[fqn]) - 1)]
            found = _moments(layer, raw)
            seen[fqn] = seen[fqn].merge(found) if fqn in seen else found
            expected[fqn] = expected[fqn].merge(reference) if fqn in expected else reference
            layer.set_correction_(*_correction(layer, seen[fqn], expected[fqn]))
            return layer._correct(raw)

        self._pass(correct)

    def _remember(self, fqn: str, layer: AnalogLayer, out: Tensor) -> None:
        self._reference.setdefault(fqn, []).append(_moments(layer, out))

    def _pass(self, see: Callable[[str, AnalogLayer, Tensor], Tensor | None]) -> None:
        handles = [
            layer.register_forward_hook(lambda _module, _args, out, fqn=fqn, layer=layer: see(fqn, layer, out))
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
    """Return the moments of outputs shaped as the layer gives them, over all but its output dimension."""
    marks = layer.over_outputs(
        torch.arange(len(layer.matrix())), out
    )  # broadcasts: its long dimension holds the outputs
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
    """Run a model in ``eval()`` mode and not compiled for a while: hooks must see its layers."""
    compiled, model._compiled_call_impl = model._compiled_call_impl, None
    try:
        with eval_mode(model):
            yield
    finally:
        model._compiled_call_impl = compiled
