"""Backend that computes analog layers on AIHWKIT's torch tiles (AIHWKIT's simulation of analog tiles in PyTorch).

LionHeart still performs search, training and evaluation. A LionHeart layer owns the weights, the bias and the input range, so
checkpoints, optimisers and `convert_to_digital_` work as without AIHWKIT. In every forward pass, AIHWKIT's layers use the
weights of the LionHeart layer. Gradients are computed through AIHWKIT's code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from aihwkit.simulator.parameters.enums import NoiseManagementType, WeightClipType
from torch import Tensor, nn

from lionheart.analog import AnalogLayer, analog_layers, convert_to_analog_
from lionheart.analog.base import SMALLEST_RANGE
from lionheart.analog.convert import swap_analog_layer_
from lionheart.analog.hwa import draw_age
from lionheart.analog.layers.conv import AnalogConv
from lionheart.analog.layers.linear import AnalogLinear
from lionheart.analog.layers.views import ProjectionView
from lionheart.devices import TileSpec
from lionheart.interop.aihwkit.config import examine_tile, report_faults
from lionheart.interop.aihwkit.models import PlacedTile, build_linears, placed_tiles
from lionheart.mapping import LayerMapping

_ON_DEVICES = ("programming", "device")


@final
class AIHWKITBackend:
    """Backend that computes analog layers on AIHWKIT's torch tiles (AIHWKIT's simulation of analog tiles in PyTorch).

    AIHWKIT computes the matrix products, the noise in hardware-aware training, weight clipping, programming, drift, and drift
    compensation.
    """

    def check_tile(self, tile: TileSpec) -> None:
        """Raise a `ConfigError` if settings of `tile` have no counterpart in AIHWKIT's torch tiles.

        The message lists all such settings.
        """
        report_faults(examine_tile(_as_config(tile))[1], "AIHWKIT's torch tiles", strict=True)

    def convert_(self, model: nn.Module, mapping: LayerMapping, tile: TileSpec) -> nn.Module:
        """Replace each layer that is analog in `mapping` by a layer that computes on AIHWKIT's tiles with the settings `tile`.

        The model is changed in place and returned.

        Raises:
            ConfigError: Settings have no counterpart in AIHWKIT's torch tiles.
        """
        self.check_tile(tile)
        convert_to_analog_(model, mapping, tile)
        for fqn, layer in analog_layers(model).items():
            if not isinstance(layer, _OnTheirTiles):
                kinds = (
                    (_TheirConvView, _TheirLinearView)
                    if isinstance(layer, ProjectionView)
                    else (_TheirConv, _TheirLinear)
                )
                kind = kinds[0] if isinstance(layer, AnalogConv) else kinds[1]
                swap_analog_layer_(model, fqn, kind(layer.digital, layer.partition, layer.tile, layer.noise))
        return model


def _as_config(tile: TileSpec) -> TileSpec:
    """Return a copy of `tile` for the conversion to AIHWKIT, in which settings that this backend applies itself are disabled.

    These settings are the column calibration and the training noise that simulates programmed devices. AIHWKIT has no weight
    modifier for such noise.
    """
    tile = tile.replace(column_calibration="none")
    if tile.hwa.weight_noise_kind not in _ON_DEVICES:
        return tile
    return tile.replace(hwa=tile.hwa.replace(weight_noise_kind="multiplicative", weight_noise=0.0))


@contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Seed PyTorch's global random generator, from which AIHWKIT draws, with a random number from `generator`.

    On exit from the context, the earlier state of the global generator is restored.
    """
    devices = [generator.device] if generator.device.type != "cpu" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(torch.randint(1 << 62, (), generator=generator, device=generator.device)))
        yield


def _is_scaled_by_constant(place: PlacedTile) -> bool:
    return bool(place.tile.rpu_config.forward.noise_management == NoiseManagementType.CONSTANT)


def _expect_full_scale(linear: nn.Module) -> None:
    """Set the input scale of each tile in `linear` to 1 if the tile scales its inputs by a constant.

    AIHWKIT's drift compensation reads the tiles with inputs of magnitude 1.
    """
    for place in placed_tiles(linear):
        if _is_scaled_by_constant(place):
            place.tile.rpu_config.forward.nm_thres = 1.0


class _OnTheirTiles(AnalogLayer):
    """Analog layer whose matrix products are computed by AIHWKIT, with one AIHWKIT linear layer for each channel group.

    A convolution passes its input patches to the linear layers.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        config = examine_tile(_as_config(self.tile))[0]
        self.__dict__["theirs"] = build_linears(self, config, bias=False)  # not registered: the parameters are copies
        self._step_scales: list[list[Tensor]] = []

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Apply the linear layer or convolution to `input` on AIHWKIT's tiles, add the bias, and return the outputs.

        In evaluation mode, the outputs are also corrected by the column calibration, if the tile has one. The shapes of `input`
        and of the outputs are those of the digital layer that this layer replaces.
        """
        kind = input.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else input.dtype
        with torch.autocast(kind, enabled=False), _drawing_from(self.noise.generator):
            x = self._pad(input.float())
            out = self._from_vectors(self._read_vectors(self._to_vectors(x), self._range_for(x)), x)
            if self.bias is not None:
                out = out + self.over_outputs(self.bias, out)
            out = self.arrange(out, x)
        return (out if self.training else self._correct(out)).to(dtype)

    def use_tile_(self, tile: TileSpec) -> None:
        """Change the tile settings, and build AIHWKIT's tiles again with these settings. The programmed chip is discarded.

        Raises:
            ConfigError: Settings have no counterpart in AIHWKIT's torch tiles.
        """
        config, faults = examine_tile(_as_config(tile))
        report_faults(faults, "AIHWKIT's torch tiles", strict=True)
        super().use_tile_(tile)
        self.__dict__["theirs"] = build_linears(self, config, bias=False)

    def prepare_pass_(self, *args: Any) -> None:
        """Do nothing. Layers on AIHWKIT's tiles are never compiled, so no weights are prepared before a forward pass."""

    def _range_for(self, x: Tensor) -> Tensor:
        detached = self._input_range(x)
        if self.tile.input_range != "learned":
            return detached.view(1)
        return self.analog_input_range.clamp(min=SMALLEST_RANGE).view(1)

    def _read_vectors(self, vectors: Tensor, input_range: Tensor) -> Tensor:
        """Return the outputs ``(n, out)`` of the tiles for the input `vectors` ``(n, groups * in)``, without the bias.

        `input_range` holds the input range of the layer, shape ``(1,)``.
        """
        weights = self._weights_of_pass()
        outputs = []
        parts = vectors.chunk(self.partition.groups, dim=1)
        for linear, part, tiles in zip(self._linears(), parts, weights, strict=True):
            lent: dict[str, Tensor] = {}
            for place, (tile_weights, scale) in zip(placed_tiles(linear), tiles, strict=True):
                if _is_scaled_by_constant(place):
                    place.tile.rpu_config.forward.nm_thres = float(input_range.detach())
                lent[f"{place.name}.tile.weight"] = tile_weights
                lent[f"{place.name}.mapping_scales"] = scale
                lent[f"{place.name}.alpha"] = torch.ones_like(scale[:1])
                if place.tile.input_range is not None:
                    lent[f"{place.name}.input_range"] = input_range
            linear.train(self.training)
            outputs.append(torch.func.functional_call(linear, lent, (part,)))
        return torch.cat(outputs, dim=1)

    def _linears(self) -> list[nn.Module]:
        return cast(list[nn.Module], self.__dict__["theirs"])

    # -- weights -----------------------------------------------------------------------------------------------------

    def _weights_of_pass(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Return a pair (normalised weights, output scales) for each channel group and tile, for the next forward pass.

        The normalised weights ``(out, in)`` times the scales ``(out,)`` are the weights that the tile applies. In evaluation
        mode, these are the weights read from the programmed chip, or the exact weights if no chip is programmed. In training,
        these are the exact weights, to which the settings of the tile can add the noise of a newly programmed chip.
        """
        if self._programmed and not self.training:
            return self._cut(self._programmed)
        exact = [self._normalised(first, last) for first, last in self._row_slices()]
        if not self.training:
            return self._cut(exact)
        self._step_scales = [[scale for _, scale in tiles] for tiles in self._cut(exact)]
        if self.tile.hwa.weight_noise_kind in _ON_DEVICES:
            used = self._fresh_chip()
            exact = [
                (weights + (chip - weights).detach(), scale) for (weights, scale), chip in zip(exact, used, strict=True)
            ]
        return self._cut(exact)

    def _cut(self, rows: list[tuple[Tensor, Tensor]]) -> list[list[tuple[Tensor, Tensor]]]:
        """Split the weights and scales of each row of tiles into the weights and scales of single tiles.

        A row of tiles comprises all tiles with the same inputs, and its weights have the shape ``(out, rows)``, where `rows` is
        the number of these inputs. The result has one list for each channel group, in the order of `placed_tiles`.
        """
        n_cols = len(self.partition.col_sizes)
        columns = self._col_slices()
        return [
            [(weights[cols], scale[cols]) for weights, scale in rows for cols in columns[g * n_cols : (g + 1) * n_cols]]
            for g in range(self.partition.groups)
        ]

    def _joined(self, tiles: list[list[Tensor]]) -> list[Tensor]:
        """Return one tensor ``(out, rows)`` for each row of tiles, concatenated from the tensors of the single tiles.

        `tiles` has one list of tile tensors for each channel group. This method reverses the splitting in `_cut`.
        """
        n_cols = len(self.partition.col_sizes)
        return [
            torch.cat([each for group in tiles for each in group[row * n_cols : (row + 1) * n_cols]])
            for row in range(len(self.partition.row_sizes))
        ]

    def _places(self) -> list[list[PlacedTile]]:
        return [list(placed_tiles(linear)) for linear in self._linears()]

    def _fresh_chip(self) -> list[Tensor]:
        """Program a chip with AIHWKIT's noise model and return the normalised weights ``(out, rows)`` of each row of tiles.

        If the setting 'weight_noise_kind' is 'device', drift for a random time is simulated too, and the returned weights are
        multiplied by the drift compensation factors.
        """
        with torch.no_grad():
            self._program()
            if self.tile.hwa.weight_noise_kind == "programming":
                return self._joined([[place.tile.tile.get_weights() for place in places] for places in self._places()])
            reads = self._age(draw_age(self.tile, self.noise))
            return [weights * alpha.unsqueeze(1) for weights, alpha in reads]

    def _program(self) -> None:
        exact = self._cut([self._normalised(first, last) for first, last in self._row_slices()])
        for linear, tiles in zip(self._linears(), exact, strict=True):
            for place, (weights, _) in zip(placed_tiles(linear), tiles, strict=True):
                place.tile.set_weights(weights, None, apply_weight_scaling=False)
            _expect_full_scale(linear)
            cast(Any, linear.eval()).program_analog_weights()

    def _age(self, t_inference: float) -> list[tuple[Tensor, Tensor]]:
        """Simulate drift of the programmed chip until `t_inference` [s] after programming, and read the weights.

        Return the normalised weights ``(out, rows)`` and the drift compensation factors ``(out,)`` of each row of tiles. The
        weights are not yet multiplied by the factors.
        """
        for linear in self._linears():
            _expect_full_scale(linear)
            cast(Any, linear.eval()).drift_analog_weights(t_inference)
        weights, factors = [], []
        for places in self._places():
            weights.append([place.tile.tile.get_weights() for place in places])
            factors.append([place.tile.alpha.flatten().expand(place.tile.out_size) for place in places])
        return list(zip(self._joined(weights), self._joined(factors), strict=True))

    # -- the chip ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def program_(self, generator: torch.Generator) -> None:
        """Program a new chip from the exact weights of the layer, with noise that is drawn from `generator`.

        Call `drift_` next. Until `drift_` is called, forward passes in evaluation mode use the exact weights.
        """
        with _drawing_from(generator):
            self._program()
        self._scales = [self._normalised(first, last)[1] for first, last in self._row_slices()]
        self._chip, self._programmed, self._correction = [[]], [], None

    @torch.no_grad()
    def drift_(self, t_inference: float, generator: torch.Generator) -> None:
        """Simulate drift of the programmed chip until `t_inference` [s] after programming, and read its weights once.

        All later forward passes in evaluation mode use the weights from this read. Noise is drawn from `generator`.
        """
        with _drawing_from(generator):
            reads = self._age(t_inference)
        self._programmed = [(w.clone(), scale * alpha) for (w, alpha), scale in zip(reads, self._scales, strict=True)]
        self._correction = None

    @torch.no_grad()
    def clip_weights_(self, *, strength: float = 1.0) -> None:
        """Clip the weights of the layer in place with AIHWKIT's clipping rule.

        This method must be called after each training step. The rule applies to the weights divided by the output scales of the
        last forward pass in training. An output scale is the factor between the normalised weights and the layer weights of one
        output. AIHWKIT's remapping of weights to the conductance range needs no action, because every forward pass computes
        new output scales. Limits from the spread of the weights are those of LionHeart: AIHWKIT computes them again after each
        step, from weights that are already clipped.
        """
        if self.has_frozen_weight():
            return
        if self.tile.hwa.clips_by_spread:
            super().clip_weights_(strength=strength)
            return
        exact = self.matrix()
        for group, (places, scales) in enumerate(zip(self._places(), self._step_scales, strict=False)):
            n = len(exact) // self.partition.groups
            of_group = exact[group * n : (group + 1) * n]
            for place, scale in zip(places, scales, strict=True):
                clip = place.tile.rpu_config.clip
                if clip.type == WeightClipType.NONE:
                    return
                part = of_group[place.outputs, place.inputs]
                place.tile.tile.set_weights(part / scale.unsqueeze(1))
                place.tile.tile.clip_weights(clip)
                part.copy_(place.tile.tile.get_weights() * scale.unsqueeze(1))
        if exact.data_ptr() != self.weight.data_ptr():
            self._write_weight_(exact.view_as(self.weight))


@final
class _TheirLinear(_OnTheirTiles, AnalogLinear):  # AIHWKIT computes the products
    """Analog replacement of `nn.Linear`, computed on AIHWKIT's tiles."""


@final
class _TheirConv(_OnTheirTiles, AnalogConv):  # AIHWKIT computes the products
    """Analog replacement of `nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d`, computed on AIHWKIT's tiles over input patches."""


@final
class _TheirLinearView(ProjectionView, _OnTheirTiles, AnalogLinear):  # type: ignore[override]
    """Linear projection (weight matrix) inside a module such as attention, computed on AIHWKIT's tiles."""


@final
class _TheirConvView(ProjectionView, _OnTheirTiles, AnalogConv):  # type: ignore[override]
    """Convolution inside a module, or weight matrix of a transposed convolution, computed on AIHWKIT's tiles."""
