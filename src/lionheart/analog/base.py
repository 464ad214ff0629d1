"""Base class of the layers that compute a projection (weight matrix) on analog tiles.

The class holds the weights, the input range and the programmed chip of a layer. The other modules of this package implement
converters, crossbars and noise.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import NormalDist
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from lionheart.analog.clipping import ClippedWeight
from lionheart.analog.converters import adc_step, full_scale
from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar
from lionheart.analog.hwa import modify_weights
from lionheart.analog.noise import NoiseSource, NoiseState, may_run_again
from lionheart.analog.operation import TileOperation
from lionheart.analog.product import MVMParams, TileProduct, TileSlice, run_tiles
from lionheart.analog.readout import ChipRead, Reference, read_row, take_references
from lionheart.analog.reference import choose_reference
from lionheart.analog.vectors import run_vectors
from lionheart.devices import TileSpec
from lionheart.errors import CalibrationWarning
from lionheart.partition import TilePartition

_REMEMBERED_CALLS = 16  # calls whose noise a backward pass can repeat
SMALLEST_RANGE = 1e-6  # lower bound of an input range, which training may change [units of the input]


class AnalogLayer(ClippedWeight, TileOperation):
    """A linear or convolution layer on analog tiles, with the parameters, hooks and attributes of the layer that it replaces.

    In ``train()`` the layer injects the noise that the tile's settings for hardware-aware (HWA) training define. In ``eval()``
    it uses the weights read from the programmed chip, or the exact weights if no chip is programmed. Converters and output
    noise are simulated in ``eval()``, and in ``train()`` if the HWA settings enable them. The bias and the partial sums over
    tiles are added digitally.

    A column holds the weights of one output. Crossbars store each weight divided by the scale of its column. The scale is the
    largest weight magnitude in the column at the time of the conversion. If the HWA setting ``remap`` is True, the scale is
    computed from the present weights instead, separately for each row of tiles.

    Args:
        digital: Digital layer to replace; `convert_to_digital_` restores the same object.
        partition: Partition of the weight matrix over tiles.
        tile: Settings of converters, noise and memory devices.
        noise: Source of random numbers, shared by the analog layers of a model.
    """

    def __init__(self, digital: nn.Module, partition: TilePartition, tile: TileSpec, noise: NoiseSource) -> None:
        super().__init__()
        self.stand_for_(digital)
        self.__dict__.update(partition=partition, tile=tile, noise=noise)
        unset = self.weight.new_zeros(())
        if tile.input_range == "learned":
            self.analog_input_range = nn.Parameter(unset)
        else:
            self.register_buffer("analog_input_range", unset)
        self.register_limits_()
        self._chip: list[list[ProgrammedCrossbar]] = []
        self._scales: list[Tensor] = []
        self._reference: list[list[Reference]] = []
        self._n_programmings = 0
        self._chip_params: MVMParams | None = None
        self._step_weights: list[Tensor] | None = None
        self._has_range = False
        dropped = tile.hwa.drop_connect
        self._drop_below = NormalDist().inv_cdf(dropped) if dropped > 0 else -math.inf
        self._programmed: list[tuple[Tensor, Tensor]] = []
        self._correction: tuple[Tensor, Tensor] | None = None
        self._past_noise: deque[NoiseState] = deque(maxlen=_REMEMBERED_CALLS)

    analog_input_range: Tensor
    own_attributes: ClassVar[Mapping[str, type]] = {
        "digital": nn.Module,
        "partition": TilePartition,
        "tile": TileSpec,
        "noise": NoiseSource,
    }

    def weight_key(self) -> tuple[int, tuple[int, int] | None]:
        """Return a key for the layer's weight. The keys of two layers are equal if both layers use the same weight."""
        return id(self.weight), None

    @property
    def is_programmed(self) -> bool:
        """Whether this layer has weights that were read from a programmed chip."""
        return bool(self._programmed)

    def forward(self, input: Tensor) -> Tensor:  # named as in the digital layers
        """Return the digital layer's outputs for `input`, computed on tiles, in the digital layer's shape and memory layout.

        Gradient checkpointing computes a layer a second time in the backward pass. The second computation repeats the noise
        from the forward pass. If a layer runs several times within a checkpointed region, the first call of the second
        computation uses the noise of the last call in the forward pass, and so on in reverse order.
        """
        if not self.training:
            return self._correct(self._compute(input))
        if torch.compiler.is_compiling():
            return self._compute(input)
        if torch._C._current_graph_task_id() != -1 and self._past_noise:
            with self.noise.drawing_again(self._past_noise.pop()):
                return self._compute(input)
        if may_run_again():
            self._past_noise.append(self.noise.remember())
        return self._compute(input)

    def call(self, x: Tensor) -> Tensor:
        """Return the outputs for the inputs `x`. Global hooks do not run, unless this layer has hooks of its own."""
        has_hooks = self._forward_hooks or self._forward_pre_hooks
        return cast(Tensor, self(x) if has_hooks else self.forward(x))

    def _compute(self, x: Tensor) -> Tensor:
        x = self._pad(x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        params = self._mvm_params(x)
        if self.tile.reads_vectors:
            return self.arrange(self._forward_vectors(x, params), x)
        if torch.is_grad_enabled() and any(each.requires_grad for each in (x, self.weight, self.analog_input_range)):
            out: Tensor = TileProduct.apply(  # type: ignore[no-untyped-call]
                x, self.weight, self.bias, self.analog_input_range, self, params, self.noise
            )
            return self.arrange(out, x)
        return self.arrange(run_tiles(self, x, self.bias, params, self.noise), x)

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

    def check_range(self) -> bool:
        """Return whether the input range is set, or is dynamic and needs no value. If False, the next batch sets the range."""
        self._has_range = self._has_range or self.tile.input_range == "dynamic" or bool(self.analog_input_range != 0)
        return self._has_range

    def prepare_pass_(self) -> None:
        """Compute the weights for the next forward pass in advance if `torch.compile` cannot compile the computation.

        In ``eval()``, these are the weights read from a programmed chip. In ``train()``, these are the weights with noise
        from simulated memory devices. The method does nothing if no chip is programmed or the noise simulates no devices.
        """
        if self.training and self.tile.hwa.weight_noise_kind in ("device", "programming"):
            self._step_weights = self._draw_step_weights()
        elif not self.training and self._programmed and self._has_range:
            device_type, dtype = self.weight.device.type, self.weight.dtype
            dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else dtype
            self._chip_params = self._mvm_params(self.weight.detach().to(dtype))

    @contextmanager
    def same_weights(self) -> Iterator[None]:
        """Use one draw of training weight noise for all calls of this layer in the context, such as the steps of a sequence."""
        if not self.training or self._step_weights is not None:
            yield
            return
        self._step_weights = self._draw_step_weights()
        try:
            yield
        finally:
            self._step_weights = None

    def end_pass_(self) -> None:
        """Discard the noisy training weights that `prepare_pass_` drew."""
        self._step_weights = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _forward_vectors(self, x: Tensor, params: MVMParams) -> Tensor:
        """Return the layer outputs for the inputs `x`, with separate input scaling and noise for each im2col vector of `x`."""
        limit = None
        if self.tile.input_range != "dynamic" and params.dac_bits is not None:
            limit = self.analog_input_range.clamp(min=SMALLEST_RANGE)
        vectors = self._to_vectors(x)
        analog = run_vectors(vectors, self.weight, self.partition, self.tile, params, self.noise, limit=limit)
        out = self._from_vectors(analog, x)
        return out if self.bias is None else out + self.over_outputs(self.bias, out).to(out.dtype)

    # -- weights -----------------------------------------------------------------------------------------------------

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
        weights = self.matrix()[:, first:last]
        column_max = weights.detach().abs().amax(dim=1) if self.tile.hwa.remap else self.analog_weight_bound
        column_scale = torch.where(column_max > 0, column_max, torch.ones_like(column_max))
        return weights / column_scale.unsqueeze(1), column_scale

    def _mvm_params(self, x: Tensor) -> MVMParams:
        """Return the weights, converter settings and noise strength for a forward pass with the inputs `x`.

        In ``eval()`` with a programmed chip, the result is cached until the chip is read again or the data type of `x` changes.
        """
        uses_chip = bool(self._programmed) and not self.training
        if uses_chip and self._chip_params is not None and self._chip_params.dtype == x.dtype:
            return self._chip_params
        tile, input_range = self.tile, self._input_range(x)
        converters = not self.training or tile.hwa.converters
        dac_bits = tile.dac_bits if converters else None
        adc_bits, bound = (tile.adc_bits, tile.output_bound) if converters else (None, None)
        step = adc_step(adc_bits, bound)
        rows = []
        with torch.no_grad():
            for index, (first, last) in enumerate(self._row_slices()):
                weights, scale = self._programmed[index] if uses_chip else self._normalised(first, last)
                if self.training:
                    weights = self._modified(weights) if self._step_weights is None else self._step_weights[index]
                kernel = self.kernel((weights / (full_scale(dac_bits) * step)).to(x.dtype), first, last)
                out_scale = self.over_outputs((scale * (input_range * step)).to(x.dtype), x)
                rows.append(TileSlice(first, last, weights.to(x.dtype), scale, kernel, out_scale))
        params = MVMParams(
            rows=rows,
            dtype=x.dtype,
            input_range=input_range,
            dac_bits=dac_bits,
            adc_bits=adc_bits,
            bound=bound,
            output_noise=tile.output_noise if not self.training or tile.hwa.output_noise else 0.0,
        )
        if not torch.compiler.is_compiling():
            self._chip_params = params if uses_chip else None
        return params

    @torch.no_grad()
    def _draw_step_weights(self) -> list[Tensor]:
        """Return one matrix ``(out, rows)`` per row of tiles: weights divided by their column scale, with training noise."""
        return [self._modified(self._normalised(first, last)[0]) for first, last in self._row_slices()]

    def _modified(self, weights: Tensor) -> Tensor:
        """Return `weights` ``(out, rows)``, divided by their column scale, with the noise of hardware-aware training."""
        return modify_weights(weights, self.tile, self.noise, drop_below=self._drop_below)

    # -- the chip ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def program_(self, generator: torch.Generator) -> None:
        """Program the exact weights of this layer on new crossbars. Call `drift_` next to read the programmed weights."""
        self._chip, self._scales, self._reference = [], [], []
        for first, last in self._row_slices():
            weights, column_scale = self._normalised(first, last)
            self._scales.append(column_scale)
            exact = self._crossbars(weights)
            row = [program_crossbar(each, self.tile.device, generator=generator) for each in exact]
            self._chip.append(row)
            if self.tile.drift_compensation != "none":
                self._reference.append(take_references(exact, row, self.tile, generator))
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
            weights, factors = read_row(row, references, self.tile, t_inference=t_inference, generator=generator)
            programmed.append((weights, column_scale * factors))
        self._programmed, self._chip_params, self._correction = programmed, None, None

    @torch.no_grad()
    def choose_references(self) -> set[str]:
        """Return how reference reads of the tiles are done, ``rows`` or ``signs`` or both; empty without drift compensation."""
        if self.tile.drift_compensation == "none":
            return set()
        rows = (self._crossbars(self._normalised(first, last)[0]) for first, last in self._row_slices())
        return {choose_reference(weights, self.tile) for row in rows for weights in row}

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

    def share_chip_(self, owner: AnalogLayer) -> None:
        """Use the programmed crossbars and the weights last read by `owner`, another analog layer with the same weight."""
        self._chip, self._programmed, self._chip_params = owner._chip, owner._programmed, None
        self._correction = None

    def use_read_(self, read: ChipRead) -> None:
        """Use the weights and column correction in `read`, a result of `take_read`, until the chip is read again."""
        self._programmed, self._chip_params, self._correction = read.weights, None, read.correction

    def clear_chip_(self) -> None:
        """Discard the programmed chip of this layer. The layer then uses its exact weights again."""
        self._chip, self._scales, self._reference, self._programmed = [], [], [], []
        self._chip_params, self._correction = None, None

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _input_range(self, x: Tensor) -> Tensor:
        if self.tile.input_range == "dynamic":
            return torch.ones((), device=x.device)
        if not self._has_range:
            self._find_range(x)
        return self.analog_input_range.detach().clamp(min=SMALLEST_RANGE)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _find_range(self, x: Tensor) -> None:
        """Set the input range to the largest magnitude in `x`, the inputs from the first batch, unless a range is set.

        If the tile needs no input range or all inputs are 0, set the range to 1.
        """
        if self.analog_input_range == 0:
            if not self.tile.has_input_range:
                self.analog_input_range.fill_(1.0)  # a tile without converters has no range
            elif x.numel() == 0:
                return  # of no inputs: the next batch decides
            else:
                if not self.memory().pop("unseen", False):  # else calibration has named the layer
                    warnings.warn(
                        "an analog layer had no input range and uses the largest magnitude in its first batch instead; "
                        "call calibrate_input_ranges_ with representative data before evaluation",
                        CalibrationWarning,
                        stacklevel=3,
                    )
                largest = x.detach().abs().amax().to(self.analog_input_range.dtype)
                self.analog_input_range.copy_(torch.where(largest > 0, largest, torch.ones_like(largest)))
        self._has_range = True

    # -- saving --------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without what the next pass computes again."""
        passing: dict[str, Any] = {
            "_chip_params": None,
            "_step_weights": None,
            "_past_noise": deque(maxlen=_REMEMBERED_CALLS),
        }
        return {**self.__dict__, **passing}

    def extra_repr(self) -> str:
        """Return the size of the weight matrix, the number of tiles and the size of one tile, as text for ``print(model)``."""
        out, rows = self.matrix().shape
        return f"{rows}x{out} on {self.partition.n_tiles} tile(s) of {self.tile.rows}x{self.tile.cols}"
