"""Which projections of a model go on tiles, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import final

from torch import nn

from lionheart.analog.calibration import find_uncalibrated
from lionheart.analog.convert import analog_layers, describe_present, find_unsupported_reason
from lionheart.candidates import explain_choices
from lionheart.devices import TileSpec
from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph
from lionheart.graph.layer_types import find_projections, find_tensor
from lionheart.mapping import LayerMapping, Placement
from lionheart.tables import Block, Printable, Table
from lionheart.units import format_duration

_UNUSED = "did not run on the example inputs"


@final
@dataclass(frozen=True)
class Choice:
    """A projection, or a weight outside known layer types, that rules can name."""

    fqn: str
    layer_type: str
    unsupported_reason: str = ""
    aliases: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class Conversion(Printable):
    """The layers of a model after a conversion.

    Args:
        model: The model itself, converted in place.
        mapping: Where each projection runs.
        layer_types: Projection -> its layer type.
        tiles: Analog layer -> its number of tiles.
        unsupported: Projections and other weights that cannot go analog -> why.
        by_choice: Projections that stay digital by the caller's wish -> why.
        tile: The tile that was asked for; None where nothing is analog.
        n_uncalibrated: Analog layers that had no input range yet.
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
        """Return the tile, then each projection with the place where it runs."""
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
    """Input ranges that were calibrated.

    Args:
        ranges: Analog layer -> its range, in units of the layer's input.
        dynamic: Analog layers that take the largest input of each vector instead.
        n_batches: Batches that the model ran on.
    """

    ranges: dict[str, float]
    dynamic: tuple[str, ...] = ()
    n_batches: int = 0

    def to_blocks(self) -> list[Block]:
        """Return each layer with its range."""
        rows = [(fqn, f"± {bound:.4g}") for fqn, bound in self.ranges.items()]
        rows += [(fqn, "dynamic") for fqn in self.dynamic]
        line = f"input ranges of {len(self.ranges)} analog layers from {self.n_batches} batches"
        return [line, Table(("layer", "input range"), tuple(rows), ("input range",))]


@final
@dataclass(frozen=True)
class ChipState(Printable):
    """The chip that a model is programmed on.

    Args:
        t_inference: Time since programming ended [s].
        seed: Seed of what was drawn.
        tiles: Analog layer -> its number of tiles.
        technology: Of the memory devices.
        is_training: Whether the model is in training mode, in which it does not use the chip.
    """

    t_inference: float
    seed: int
    tiles: dict[str, int]
    technology: str
    is_training: bool = False

    def to_blocks(self) -> list[Block]:
        """Return the age of the chip and the tiles of each layer."""
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
    """Return size, device and converters of a tile in one line."""

    def bits(n: int | None) -> str:
        return "ideal" if n is None else f"{n} bit"

    converters = f"DAC {bits(tile.dac_bits)}, ADC {bits(tile.adc_bits)}"
    return (
        f"{tile.rows}×{tile.cols}, {tile.device.technology}, {converters}, {tile.drift_compensation} drift compensation"
    )


def describe_chip(model: nn.Module, t_inference: float, seed: int) -> ChipState:
    """Return the state of the chip that a model with analog layers is programmed on."""
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
    """Return the layers that a model has now, with the reasons of those that are digital."""
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
    """Decide which projections of a model go on tiles.

    Args:
        model: With or without analog layers.
        include: Rules as in `find_candidates`; without any, every projection that can goes on tiles.
        exclude: Rules; what one of them matches stays digital.
        graph: Trace of the digital model: it knows weights that are multiplied outside layers, and layers that did not run.

    Returns:
        The mapping of all projections that modules hold, why projections and other weights cannot go analog, and which
        projections stay digital by choice, with the reason.

    Raises:
        ConfigError: A rule matches nothing, or nothing can go analog.
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
            f"layers: no layer of {type(model).__name__} that was chosen can go analog: {listed}",
            hint="choose others, wrap a single layer in nn.Sequential, or make its layer type known: "
            "lionheart.register_layer_type",
        )
    if not known:
        raise ConfigError(
            f"layers: {type(model).__name__} has no weight matrix, expected at least one linear layer or convolution",
            hint="give the network itself; lionheart.register_layer_type makes other layer types known",
        )
    return LayerMapping(placements), unsupported, choices


def list_choices(model: nn.Module, graph: LayerGraph | None = None) -> Iterator[Choice]:
    """Yield all projections, and weights of at least two dimensions that no layer type knows."""
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
    yield from _list_other_weights(model)
    known = {each.fqn for each in placed}
    aliases = {alias for node in traced.values() for alias in node.aliases}
    for node in traced.values():
        if node.layer_type == "functional" and node.fqn not in known | aliases:
            yield Choice(node.fqn, node.layer_type, node.unsupported_reason, node.aliases)


def _list_other_weights(model: nn.Module) -> Iterator[Choice]:
    """Yield modules that own parameters of two dimensions or more that belong to no projection."""
    placed = list(find_projections(model, describe_present))
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
