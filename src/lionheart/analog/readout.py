"""Functions that read drifted weights from a programmed chip and compute the digital factors that compensate drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from lionheart.analog.converters import average_reads
from lionheart.analog.crossbar import ProgrammedCrossbar, read_crossbar
from lionheart.analog.policy import average_copies, average_rows, describe_read, merges_copies
from lionheart.analog.reference import SignReference, choose_reference, read_inputs, take_sign_reference
from lionheart.devices import TileSpec

SMALLEST_READOUT = 1e-4  # lower bound of a reference read, as in AIHWKIT
#: Mean magnitude of the outputs after programming, or sign vectors with exact outputs.
Reference = Tensor | SignReference


@final
@dataclass(frozen=True)
class ChipRead:
    """The weights of one layer, as read from one programmed chip at one time.

    Args:
        weights: Two tensors for each row of tiles: weights ``(out, rows)``, divided by the scale of their column, and the
            factor for each output ``(out,)`` that converts these weights to the units of the digital layer's weight. Copies on
            columns that are read one by one have weights ``(copies, out, rows)``.
        correction: Digital gain and offset for each output, ``(out,)`` each; None = no column calibration.
    """

    weights: list[tuple[Tensor, Tensor]]
    correction: tuple[Tensor, Tensor] | None = None

    def matrix(self) -> Tensor:
        """Return the weights ``(out, in)`` in the units of the digital layer's weight, with drift compensation."""
        rows = [mean_of_copies(weights) * scale.unsqueeze(1) for weights, scale in self.weights]
        return torch.cat(rows, dim=1)

    @property
    def size_bytes(self) -> int:
        """Memory that the tensors in this object use in total [bytes]."""
        pairs = [*self.weights, *([] if self.correction is None else [self.correction])]
        return sum(each.numel() * each.element_size() for pair in pairs for each in pair)


def mean_of_copies(weights: Tensor) -> Tensor:
    """Return weights as in `ChipRead` as their mean over copies ``(out, rows)``."""
    return weights if weights.ndim == 2 else weights.mean(dim=0)


def read_row(
    row: Sequence[ProgrammedCrossbar],
    references: Sequence[Reference] | None,
    tile: TileSpec,
    *,
    t_inference: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Read the weights of a row of tiles once from the programmed crossbars, and compute the factors that compensate drift.

    Args:
        row: Programmed crossbars of all tiles in the row, with all copies of the weights.
        references: Result of `take_references`, called directly after programming; None = no drift
            compensation.
        tile: Settings of converters, noise and memory devices.
        t_inference: Time since programming ended [s].
        generator: Source of the read noise.

    Returns:
        Weights ``(out, rows)``, divided by the scale of their column, and the factor for each column ``(out,)`` that
        compensates drift. The weights are the mean of all copies, or ``(copies, out, rows)`` if the copies on columns must be
        read one by one (`merges_copies`). The factor belongs to the mean of all copies and reads.
    """
    weights, factors = [], []
    for number, crossbar in enumerate(row):
        copies = read_crossbar(crossbar, tile.device, t_inference=t_inference, generator=generator)
        read = average_copies(copies, tile)
        weights.append(read.flatten(0, -2) if merges_copies(tile) else average_rows(copies, tile).flatten(1, -2))
        alpha = torch.ones_like(read[..., :1])
        reference = None if references is None else references[number]
        if isinstance(reference, SignReference):
            alpha = alpha * reference.factor(read, tile, generator)
        elif reference is not None:
            alpha = alpha * (reference / reference_read(read, tile, generator))
        factors.append(alpha.flatten())
    return torch.cat(weights, dim=-2), torch.cat(factors)


def take_references(
    exact: Sequence[Tensor], row: Sequence[ProgrammedCrossbar], tile: TileSpec, generator: torch.Generator
) -> list[Reference]:
    """Return the reference of each crossbar in a row of tiles, with which later reference reads are compared.

    Call this function directly after programming.

    Args:
        exact: Exact weights ``(..., cols, rows)`` of each crossbar, divided by the scale of their column.
        row: Programmed crossbars.
        tile: Settings of converters, noise and drift compensation.
        generator: Source of the noise.
    """
    return [
        take_sign_reference(weights, average_copies(crossbar.weights, tile), tile, generator)
        if choose_reference(weights, tile) == "signs"
        else reference_read(average_copies(crossbar.weights, tile), tile, generator)
        for weights, crossbar in zip(exact, row, strict=True)
    ]


def reference_read(weights: Tensor, tile: TileSpec, generator: torch.Generator) -> Tensor:
    """Return the mean magnitude of the outputs of crossbars when a full-scale input is applied to one row after another.

    The outputs include noise and ADC. Drift compensation divides the mean after programming by the mean after drift.

    Args:
        weights: Weights ``(..., cols, rows)`` of the crossbars, divided by the scale of their column.
        tile: Settings of converters, noise and drift compensation.
        generator: Source of the noise.

    Returns:
        Mean over each crossbar ``(..., 1, 1)`` if ``drift_compensation="global"``, else over each column ``(..., cols, 1)``.
    """
    dims = (-2, -1) if tile.drift_compensation == "global" else (-1,)
    read: Tensor
    if tile.disturbs_products:
        rows = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
        size = weights.shape[-2:]
        read = torch.stack([read_inputs(each, rows, tile, generator) for each in weights.reshape(-1, *size)])
        read = read.view(weights.shape)
    else:
        read = average_reads(
            weights.clone(), lambda z: torch.empty_like(z).normal_(generator=generator), describe_read(tile)
        )
    return read.abs_().mean(dim=dims, keepdim=True).clamp_(min=SMALLEST_READOUT)
