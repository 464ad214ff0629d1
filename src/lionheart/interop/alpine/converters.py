"""Converters of the tiles of an emitted program: the settings of a mapping run, and how far a program has them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import nn

from lionheart.analog import AnalogLayer, analog_layers
from lionheart.analog.base import SMALLEST_RANGE
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.interop.alpine.operations import Floats

BITS = 8  # resolution of the DAC and the ADC of ALPINE's tile
#: Values of tile settings that a program has, and what it does.
_SINGLE = {
    "n_reads": (1, "a program reads each tile once for each product"),
    "row_copies": (1, "a program stores each weight once"),
    "column_copies": (1, "a program stores each weight once"),
    "digital_weights": (0, "a program stores all weights of a layer on its tiles"),
}


@final
@dataclass(frozen=True)
class TileConverters:
    """Settings of the converters of one analog layer.

    Args:
        input_range: Magnitude of a full-scale input; None = no value for all inputs.
        clips_inputs: Whether the DAC clips inputs beyond the range.
        output_bound: Largest output of the ADC, in full-scale input times largest weight of the column; None = no bound.
        headroom: Weight that a full-scale conductance represents, divided by the largest weight of the column, ``(out,)``;
            None = a full-scale conductance represents the largest weight of the column on each tile.
    """

    input_range: float | None
    clips_inputs: bool
    output_bound: float | None
    headroom: Floats | None = None

    @property
    def saturates(self) -> bool:
        """Whether the ADC saturates at a known magnitude."""
        return self.output_bound is not None and self.input_range is not None


def read_converters(model: nn.Module) -> dict[str, TileConverters]:
    """Return the settings of the converters of each analog layer in `model`, by the fully qualified name of the layer.

    Raises:
        ConfigError: The input range of a layer is not calibrated, or a read policy has no counterpart in a program.
    """
    layers = analog_layers(model)
    require_single_reads(layers)
    return {fqn: _converters_of(fqn, layer) for fqn, layer in layers.items()}


def require_single_reads(layers: Mapping[str, AnalogLayer]) -> None:
    """Raise a `ConfigError` that lists the read policies of `layers` that an emitted program does not have.

    A program reads each tile once for each product, with one copy of all weights. Several device pairs of a weight are a matter
    of the tile.
    """
    faults = []
    for name, (expected, meaning) in _SINGLE.items():
        found = {fqn: getattr(layer.tile_in_use, name) for fqn, layer in layers.items()}
        chosen = {fqn: value for fqn, value in found.items() if value != expected}
        values = ", ".join(map(str, sorted(set(chosen.values()))))
        faults += [f"export: {_list(chosen)}: {name}: got {values}, expected {expected}: {meaning}"] if chosen else []
    if faults:
        raise ConfigError(
            "\n".join(faults),
            hint="set these values, or keep the layers digital; runs with the preset quick have one read",
        )


@torch.no_grad()
def _converters_of(fqn: str, layer: AnalogLayer) -> TileConverters:
    tile = layer.tile
    is_static = not tile.finds_range and tile.has_input_range
    input_range = float(layer.analog_input_range)
    if is_static and input_range == 0:
        raise ConfigError(
            f"export: {fqn!r}: the analog layer has no input range",
            hint="call calibrate_input_ranges_ with representative inputs before the export",
        )
    headroom = None
    if not tile.hwa.remap:
        largest = layer.matrix().abs().amax(dim=1)
        bound = layer.analog_weight_bound
        bound = torch.where(bound > 0, bound, torch.ones_like(bound))
        ratio = torch.where(largest > 0, bound / largest, torch.ones_like(largest))
        headroom = ratio.double().cpu().numpy()
    return TileConverters(
        input_range=max(input_range, SMALLEST_RANGE) if is_static else None,
        clips_inputs=tile.dac_bits is not None,
        output_bound=None if tile.bound_management == "iterative" else tile.output_bound,
        headroom=headroom,
    )


def describe_differences(tiles: Mapping[str, TileSpec]) -> tuple[str, ...]:
    """Return one sentence for each setting of the tiles that an emitted program does not have.

    Args:
        tiles: Tile settings of each analog layer, by the fully qualified name of the layer.
    """
    found = []
    for name, converter in (("dac_bits", "DAC"), ("adc_bits", "ADC")):
        for bits in sorted({getattr(tile, name) for tile in tiles.values()} - {BITS}, key=str):
            layers = _list(fqn for fqn, tile in tiles.items() if getattr(tile, name) == bits)
            given = "an ideal" if bits is None else f"a {bits}-bit"
            found.append(f"{layers}: the run has {given} {converter}, the program has one of {BITS} bits.")
    for name, value, text in (
        (
            "input_range",
            "dynamic",
            "the run scales each input vector, the program uses one range from the calibration samples",
        ),
        (
            "input_range",
            "sample",
            "the run scales each sample, the program uses one range from the calibration samples",
        ),
        (
            "bound_management",
            "iterative",
            "the run repeats saturated products, the program avoids saturation by its ADC scale",
        ),
    ):
        chosen = [fqn for fqn, tile in tiles.items() if getattr(tile, name) == value]
        found += [f"{_list(chosen)}: {text}."] if chosen else []
    return tuple(found)


def _list(fqns: Iterable[str]) -> str:
    names = list(fqns)
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more layers"


def column_scales(weights: Floats, row_sizes: Iterable[int], headroom: Floats | None) -> Floats:
    """Return the weight that a full-scale conductance represents, for each row of tiles and each output.

    Args:
        weights: Weights ``(out, rows)``, in the order of the rows of the tiles.
        row_sizes: Number of inputs of each row of tiles.
        headroom: See `TileConverters`.

    Returns:
        Weights ``(rows of tiles, out)``; 0 for a column without weights.
    """
    sizes = list(row_sizes)
    if headroom is not None:
        return np.tile(np.abs(weights).max(axis=1) * headroom, (len(sizes), 1))
    edges = np.cumsum([0, *sizes])
    return np.stack([np.abs(weights[:, a:b]).max(axis=1) for a, b in itertools.pairwise(edges)])
