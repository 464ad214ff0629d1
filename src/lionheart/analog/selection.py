"""Selection of the projections (weight matrices) of a model to run on tiles.

The module also defines the objects that conversion, calibration and programming return.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import final

from torch import nn

from lionheart.analog.calibration import find_uncalibrated
from lionheart.analog.convert import analog_layers, describe_present, find_unsupported_reason
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph
from lionheart.graph.layer_types import PlacedProjection, find_projections, find_tensor
from lionheart.graph.rules import explain_choices
from lionheart.mapping import LayerMapping, Placement
from lionheart.tables import Block, Printable, Table
from lionheart.units import format_duration

_UNUSED = "did not run on the example inputs"


@final
@dataclass(frozen=True)
class Choice:
    """A weight that the rules for conversion can name: a projection, or a weight of a module without a registered layer type.

    Args:
        fqn: Fully qualified name of the projection or module.
        layer_type: Registered layer type, or the class name of a module without a registered layer type.
        unsupported_reason: Reason why the weight cannot run on tiles, or an empty string if the weight can run on tiles.
        aliases: Other names of the same weight, if several projections share the weight.
    """

    fqn: str
    layer_type: str
    unsupported_reason: str = ""
    aliases: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Conversion(Printable):
    """Result of a conversion: the converted model, and the placement of each projection (weight matrix).

    Args:
        model: The model, which was converted in place.
        mapping: Placement of each projection, analog or digital.
        layer_types: Layer type of each projection, by fully qualified name.
        tiles: Number of tiles of each analog layer, by fully qualified name.
        unsupported: Reason why each unsupported projection or other weight cannot run on tiles, by fully qualified name.
        by_choice: Reason why the caller's rules keep a projection digital, for each such projection by fully qualified name.
        tile: Tile settings that the caller requested; None = no tile settings requested.
        n_uncalibrated: Number of analog layers that need an input range but have none.
    """

    model: nn.Module = field(repr=False)
    mapping: LayerMapping
    layer_types: dict[str, str]
    tiles: dict[str, int]
    unsupported: dict[str, str] = field(default_factory=dict)
    by_choice: dict[str, str] = field(default_factory=dict)
    tile: TileSpec | None = None
    n_uncalibrated: int = 0

    def to_blocks(self) -> list[Block]:
        """Return summary lines, and a table of all projections: placement, number of tiles, and reason if digital."""
        lines = [f"{len(self.tiles)} of {len(self.layer_types)} projections on {sum(self.tiles.values())} tiles"]
        lines += [] if self.tile is None or not self.tiles else [f"tile: {describe_tile(self.tile)}"]
        if self.n_uncalibrated:
            lines.append(f"layers without an input range: {self.n_uncalibrated}; call calibrate_(model, data)")
        rows, sizes = [], []
        for fqn in dict.fromkeys([*self.layer_types, *self.unsupported]):
            n_tiles, reason = self.tiles.get(fqn, 0), self.unsupported.get(fqn) or self.by_choice.get(fqn, "")
            runs = "analog" if n_tiles else "digital"
            rows.append((fqn, runs, self.layer_types.get(fqn, ""), str(n_tiles or ""), reason))
            sizes.append(float("inf") if fqn in self.unsupported else float(n_tiles))  # shown before the others
        columns = ("projection", "runs", "type", "tiles", "reason")
        return [*lines, Table(columns, tuple(rows), ("tiles",), tuple(sizes))]


@final
@dataclass(frozen=True)
class InputRanges(Printable):
    """Result of a calibration of the input ranges of analog layers.

    Args:
        ranges: Calibrated input range of each analog layer by name, in units of the layer's input.
        dynamic: Names of the analog layers that scale each input vector by its largest magnitude and need no calibrated range.
        n_batches: Number of batches on which the ranges were calibrated.
        sample: Names of the analog layers that scale each sample by its largest magnitude and need no calibrated range.
    """

    ranges: dict[str, float]
    dynamic: tuple[str, ...] = ()
    n_batches: int = 0
    sample: tuple[str, ...] = ()

    def to_blocks(self) -> list[Block]:
        """Return a summary line, and a table of the analog layers with their input ranges."""
        rows = [(fqn, f"± {bound:.4g}") for fqn, bound in self.ranges.items()]
        rows += [(fqn, "dynamic") for fqn in self.dynamic] + [(fqn, "sample") for fqn in self.sample]
        line = f"input ranges of {len(self.ranges)} analog layers from {self.n_batches} batches"
        return [line, Table(("layer", "input range"), tuple(rows), ("input range",))]


@final
@dataclass(frozen=True)
class ChipState(Printable):
    """State of the simulated chip on which a model is programmed.

    Args:
        t_inference: Time since programming ended [s].
        seed: Seed of the generator for programming and reading.
        tiles: Number of tiles of each analog layer, by name.
        technology: Technology of the memory devices; several technologies are separated by commas.
        is_training: Whether the model is in training mode. In training mode the model does not use the chip.
    """

    t_inference: float
    seed: int
    tiles: dict[str, int]
    technology: str
    is_training: bool = False

    def to_blocks(self) -> list[Block]:
        """Return a line with the time since programming, and a table with the number of tiles of each analog layer."""
        line = (
            f"chip: {len(self.tiles)} layers on {sum(self.tiles.values())} tiles of {self.technology}, read "
            f"{format_duration(self.t_inference)} after programming (seed {self.seed})"
        )
        mode = (
            ["The model is in training mode and does not use the chip: call model.eval()"] if self.is_training else []
        )
        rows = tuple((fqn, str(n)) for fqn, n in self.tiles.items())
        return [line, *mode, Table(("layer", "tiles"), rows, ("tiles",), tuple(map(float, self.tiles.values())))]


def describe_tile(tile: TileSpec) -> str:
    """Return one line of text with the crossbar size, device technology, converters and drift compensation of a tile."""

    def bits(n: int | None) -> str:
        return "ideal" if n is None else f"{n} bit"

    converters = f"DAC {bits(tile.dac_bits)}, ADC {bits(tile.adc_bits)}"
    return (
        f"{tile.rows}×{tile.cols}, {tile.device.technology}, {converters}, {tile.drift_compensation} drift compensation"
    )


def describe_chip(model: nn.Module, t_inference: float, seed: int) -> ChipState:
    """Return the state of the simulated chip on which a model with analog layers is programmed.

    Args:
        model: Model with a programmed chip.
        t_inference: Time since programming ended [s].
        seed: Seed of the generator for programming and reading.
    """
    layers = analog_layers(model)
    technologies = dict.fromkeys(layer.tile.device.technology for layer in layers.values())
    tiles = {fqn: layer.partition.n_tiles for fqn, layer in layers.items()}
    return ChipState(t_inference, seed, tiles, ", ".join(technologies), model.training)


def describe_conversion(
    model: nn.Module,
    *,
    unsupported: dict[str, str] | None = None,
    by_choice: dict[str, str] | None = None,
    tile: TileSpec | None = None,
) -> Conversion:
    """Return a `Conversion` with the present placement (analog or digital) of each projection of a model.

    Args:
        model: Model with or without analog layers.
        unsupported: Reason why each unsupported projection cannot run on tiles, by fully qualified name. None = no projection.
        by_choice: Reason why the caller's rules keep a projection digital, by fully qualified name. Names of analog layers are
            ignored. None = no projection.
        tile: Tile settings to include in the result. None = no tile settings.
    """
    layers = analog_layers(model)
    types = {each.fqn: each.projection.layer_type for each in find_projections(model, describe_present)}
    tiles = {fqn: layer.partition.n_tiles for fqn, layer in layers.items()}
    return Conversion(
        model=model,
        mapping=LayerMapping({fqn: Placement.ANALOG if fqn in layers else Placement.DIGITAL for fqn in types}),
        layer_types=types,
        tiles=tiles,
        unsupported=unsupported or {},
        by_choice={fqn: reason for fqn, reason in (by_choice or {}).items() if fqn not in layers},
        tile=tile,
        n_uncalibrated=len(find_uncalibrated(model)),
    )


def select_projections(
    model: nn.Module, include: Iterable[str] = (), exclude: Iterable[str] = (), graph: LayerGraph | None = None
) -> tuple[LayerMapping, dict[str, str], dict[str, str]]:
    """Select the projections (weight matrices) of a model to run on tiles.

    Args:
        model: Model with or without analog layers.
        include: Rules that select projections, with the syntax of `find_candidates`. Projections that match no rule stay
            digital. Empty = all projections that can run on tiles.
        exclude: Rules that select projections to keep digital, even if an include rule matches them.
        graph: Graph traced from the digital model. Weights that are used outside of layers are added from the
            graph. Layers that did not run in the trace count as unsupported. None = only modules are considered.

    Returns:
        A mapping with the placement of every projection, a dictionary with the reason why each unsupported weight cannot run
        on tiles, and a dictionary with the reason why the rules keep projections digital. Keys are fully qualified names.

    Raises:
        ConfigError: A rule is invalid or matches nothing, no selected projection can run on tiles, or the model has no weights.
    """
    known = list(list_choices(model, graph))
    options = ("convert_to_analog_: layers", "convert_to_analog_: exclude")
    choices = explain_choices(known, include, exclude, options=options)
    unsupported = {
        each.fqn: each.unsupported_reason for each in known if each.unsupported_reason and each.fqn not in choices
    }
    placements = {
        each.fqn: Placement.DIGITAL if each.fqn in choices or each.fqn in unsupported else Placement.ANALOG
        for each in find_projections(model, describe_present)
    }
    if unsupported and Placement.ANALOG not in placements.values():
        listed = "; ".join(f"{fqn}: {reason}" for fqn, reason in list(unsupported.items())[:5])
        raise ConfigError(
            f"layers: none of the selected layers of {type(model).__name__} can run on tiles: {listed}",
            hint="select other layers, wrap a model that is a single layer in nn.Sequential, or register the layer type with "
            "lionheart.register_layer_type",
        )
    if not known:
        raise ConfigError(
            f"layers: {type(model).__name__} has no weight matrix, expected at least one linear layer or convolution",
            hint="pass the whole network, or register other layer types with lionheart.register_layer_type",
        )
    return LayerMapping(placements), unsupported, choices


def list_choices(model: nn.Module, graph: LayerGraph | None = None) -> Iterator[Choice]:
    """Yield a `Choice` for each projection (weight matrix) of a model, and for each other weight with two or more dimensions.

    Args:
        model: Model with or without analog layers.
        graph: Graph traced from the digital model. Weights that are used outside of layers are added from the
            graph. Layers that did not run in the trace count as unsupported. None = only modules are considered.
    """
    placed = list(find_projections(model, describe_present))
    names: dict[object, list[str]] = {}
    for each in placed:
        names.setdefault(each.key(), []).append(each.fqn)
    traced = {} if graph is None else {node.fqn: node for node in graph.nodes}
    for each in placed:
        reason = find_unsupported_reason(each, model)
        aliases = set(names[each.key()]) - {each.fqn}
        if each.fqn in traced:
            reason = reason or traced[each.fqn].unsupported_reason
            aliases |= set(traced[each.fqn].aliases)
        elif graph is not None and each.fqn in graph.unused:
            reason = reason or _UNUSED
        yield Choice(each.fqn, each.projection.layer_type, reason, tuple(sorted(aliases)))
    yield from _list_other_weights(model, placed)
    known = {each.fqn for each in placed}
    aliases = {alias for node in traced.values() for alias in node.aliases}
    for node in traced.values():
        if node.layer_type in ("functional", "stacked") and node.fqn not in known | aliases:
            yield Choice(node.fqn, node.layer_type, node.unsupported_reason, node.aliases)


def _list_other_weights(model: nn.Module, placed: Sequence[PlacedProjection]) -> Iterator[Choice]:
    """Yield a `Choice` for each module that has a parameter of two or more dimensions outside of the projections `placed`."""
    weights = {id(find_tensor(each.module, each.projection.weight)) for each in placed if not each.is_computed}
    computed = tuple(f"{each.module_fqn}." if each.module_fqn else "" for each in placed if each.is_computed)
    for fqn, module in model.named_modules():
        others = [
            name
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.ndim >= 2 and id(parameter) not in weights
        ]
        if others and not (computed and fqn.startswith(computed)):
            name = type(module).__name__
            yield Choice(fqn or others[0], name, f"layer type unknown: {name}")
