"""Weights of a layer on its crossbars: scales of columns, programming, drift and reads of a chip, and column correction."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from lionheart.analog.clipping import ClippedWeight
from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar
from lionheart.analog.operation import TileOperation
from lionheart.analog.policy import repeat_copies, with_real_copies
from lionheart.analog.readout import ChipRead, Reference, mean_of_copies, read_row, take_references
from lionheart.analog.reference import choose_reference
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.partition import TilePartition

#: Settings that decide what is programmed. Layers with the same weight share the programmed crossbars.
_OF_CHIPS = ("row_copies", "column_copies", "device_pairs", "digital_weights")


class ProgrammedWeight(ClippedWeight, TileOperation):
    """Base class of analog layers: the weights on the layer's crossbars, and the chip on which they are programmed."""

    partition: TilePartition

    def set_up_chip_(self) -> None:
        """Create the attributes of this class. Called once, when the layer is created."""
        self._tile_in_use = (self.tile, with_real_copies(self.tile, self.partition))
        self._chip: list[list[ProgrammedCrossbar]] = []
        self._scales: list[Tensor] = []
        self._reference: list[list[Reference]] = []
        self._n_programmings = 0
        self._chip_params: Any = None
        self._programmed: list[tuple[Tensor, Tensor]] = []
        self._correction: tuple[Tensor, Tensor] | None = None

    @property
    def tile_in_use(self) -> TileSpec:
        """Tile settings with the numbers of copies on rows and columns that fit on the tiles of this layer."""
        if self._tile_in_use[0] is not self.tile:
            self._tile_in_use = (self.tile, with_real_copies(self.tile, self.partition))
        return self._tile_in_use[1]

    def use_tile_(self, tile: TileSpec) -> None:
        """Change the tile settings. The programmed chip is discarded.

        If the number of digital weights changes, the digital weights and the limits of clipping are chosen again.

        Args:
            tile: New settings. The size of the crossbar and whether the input range is learned must be as before.
        """
        chooses = tile.digital_weights != self.tile.digital_weights
        self.tile = tile
        self._has_range = False
        self.clear_chip_()
        if chooses:
            self.register_digital_()
            self.fix_limits_(again=True)

    @property
    def is_programmed(self) -> bool:
        """Whether this layer has weights that were read from a programmed chip."""
        return bool(self._programmed)

    def _row_slices(self) -> list[tuple[int, int]]:
        return list(itertools.pairwise(itertools.accumulate(self.partition.row_sizes, initial=0)))

    def _col_slices(self) -> list[slice]:
        edges = itertools.accumulate(self.partition.col_sizes * self.partition.groups, initial=0)
        return [slice(first, last) for first, last in itertools.pairwise(edges)]

    def _normalised(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the weights of inputs `first` to `last` (exclusive), each divided by its column scale, and the column scales.

        Returns:
            Scaled weights ``(out, last - first)``, and the scale of each column ``(out,)``.
        """
        weights = self.tile_matrix()[:, first:last]
        column_max = weights.detach().abs().amax(dim=1) if self.tile.hwa.remap else self.analog_weight_bound
        column_scale = torch.where(column_max > 0, column_max, torch.ones_like(column_max))
        return weights / column_scale.unsqueeze(1), column_scale

    @torch.no_grad()
    def program_(self, generator: torch.Generator) -> None:
        """Program the exact weights of this layer on new crossbars. Call `drift_` next to read the programmed weights.

        Every copy of the weights on rows and columns and every device pair is programmed separately.
        """
        tile = self.tile_in_use
        self._chip, self._scales, self._reference = [], [], []
        for first, last in self._row_slices():
            weights, column_scale = self._normalised(first, last)
            self._scales.append(column_scale)
            exact = self._crossbars(weights)
            row = [program_crossbar(repeat_copies(each, tile), tile.device, generator=generator) for each in exact]
            self._chip.append(row)
            if tile.drift_compensation != "none":
                self._reference.append(take_references(exact, row, tile, generator))
        self._programmed, self._chip_params, self._n_programmings = [], None, 0
        self._correction = None

    @torch.no_grad()
    def drift_(self, t_inference: float, generator: torch.Generator) -> None:
        """Let the programmed chip drift until `t_inference` [s] after programming and read its weights once.

        If the tile setting ``reprogram_after`` [s] is given, the chip is reprogrammed at every multiple of this time, and drift
        starts again.
        """
        if self.tile.reprogram_after is not None:
            n_programmings, t_inference = divmod(t_inference, self.tile.reprogram_after)
            if n_programmings > self._n_programmings:
                self.program_(generator)
                self._n_programmings = int(n_programmings)
        programmed = []
        for index, (row, column_scale) in enumerate(zip(self._chip, self._scales, strict=True)):
            references = self._reference[index] if self.tile.drift_compensation != "none" else None
            weights, factors = read_row(row, references, self.tile_in_use, t_inference=t_inference, generator=generator)
            programmed.append((weights, column_scale * factors))
        self._programmed, self._chip_params, self._correction = programmed, None, None

    @torch.no_grad()
    def choose_references(self) -> set[str]:
        """Return how reference reads of the tiles are done, ``rows`` or ``signs`` or both; empty without drift compensation."""
        if self.tile.drift_compensation == "none":
            return set()
        rows = (self._crossbars(self._normalised(first, last)[0]) for first, last in self._row_slices())
        return {choose_reference(weights, self.tile_in_use) for row in rows for weights in row}

    def _crossbars(self, weights: Tensor) -> list[Tensor]:
        """Split the weights of a row of tiles into one matrix ``(cols, rows)`` for each crossbar.

        If each group of a grouped layer has exactly one crossbar, the crossbars are stacked in one tensor
        ``(groups, cols, rows)``.
        """
        groups = self.partition.groups
        if groups > 1 and len(self.partition.col_sizes) == 1:
            return [weights.view(groups, -1, weights.shape[1])]
        return [weights[cols] for cols in self._col_slices()]

    def take_read(self) -> ChipRead:
        """Return the weights last read from the programmed chip and the column correction, which `use_read_` can restore."""
        return ChipRead(self._programmed, self._correction)

    def share_chip_(self, owner: ProgrammedWeight) -> None:
        """Use the programmed crossbars and the weights last read by `owner`, another analog layer with the same weight.

        Raises:
            ConfigError: The tile settings of both layers differ in what is programmed.
        """
        for name in _OF_CHIPS:
            ours, theirs = getattr(self.tile, name), getattr(owner.tile, name)
            if ours != theirs:
                raise ConfigError(
                    f"tiles: {name}: got {ours} and {theirs} for two layers that share a weight, expected one value",
                    hint="give all layers with this weight the same settings: they use the same programmed devices",
                )
        pairs = zip(self.digital_places() or (), owner.digital_places() or (), strict=True)
        if not all(torch.equal(ours, theirs) for ours, theirs in pairs):
            raise ConfigError(
                "tiles: got different digital weights for two layers that share a weight, expected the same",
                hint="convert the model again, so that both layers choose them from the same weights",
            )
        self._chip, self._programmed, self._chip_params = owner._chip, owner._programmed, None
        self._correction = None

    def programmed_rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return weights ``(out, rows)`` and factors ``(out,)`` as in `ChipRead`, the weights as the mean of all copies."""
        return [(mean_of_copies(weights), scale) for weights, scale in self._programmed]

    def use_read_(self, read: ChipRead) -> None:
        """Use the weights and column correction in `read`, a result of `take_read`, until the chip is read again."""
        self._programmed, self._chip_params, self._correction = read.weights, None, read.correction

    def clear_chip_(self) -> None:
        """Discard the programmed chip of this layer. The layer then uses its exact weights again."""
        self._chip, self._scales, self._reference, self._programmed = [], [], [], []
        self._chip_params, self._correction = None, None

    def _correct(self, out: Tensor) -> Tensor:
        """Return the layer outputs `out` times the gain plus the offset from `set_correction_`, or `out` if no gain is set."""
        if self._correction is None:
            return out
        gain, offset = (self.over_outputs(each.to(out.dtype), out) for each in self._correction)
        return torch.addcmul(offset, out, gain)

    def set_correction_(self, gain: Tensor, offset: Tensor) -> None:
        """Set a digital gain and offset that correct the outputs in ``eval()`` until the programmed chip is read again.

        Args:
            gain: Factor of each output ``(out,)``.
            offset: Number to add to each output ``(out,)`` after the multiplication.
        """
        self._correction = gain, offset
