"""The base class of modules that compute a projection on tiles; it holds their state, and other modules have the physics."""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import NormalDist
from typing import Any, cast

import torch
from torch import Tensor, nn

from lionheart.analog.converters import adc_step, full_scale
from lionheart.analog.crossbar import ProgrammedCrossbar, program_crossbar
from lionheart.analog.hwa import modify_weights
from lionheart.analog.noise import NoiseSource, NoiseState, may_run_again
from lionheart.analog.product import MVMParams, TileProduct, TileSlice, run_tiles
from lionheart.analog.readout import ChipRead, read_row, reference_read
from lionheart.analog.vectors import run_vectors
from lionheart.devices import TileSpec
from lionheart.errors import CalibrationWarning
from lionheart.partition import TilePartition

_BUFFERS = ("analog_input_range", "analog_weight_bound")
_REMEMBERED_CALLS = 16  # calls whose noise a backward pass can repeat
_SMALLEST_RANGE = 1e-6  # lower bound of a learned input range


class AnalogLayer(nn.Module, ABC):
    """A linear or convolution layer on tiles; owns the same parameter objects as the digital layer that it replaces.

    In ``train()`` the layer injects the noise of the tile's hardware-aware (HWA) training settings. In ``eval()`` it uses the
    weights of the programmed chip, or the exact weights if no chip is programmed; converters and output noise apply in both
    cases. The bias and the partial sums over tiles are computed digitally. Weights in tile units are divided by the scale of
    their column, which usually is its largest magnitude.

    Args:
        digital: Digital layer to replace; `convert_to_digital_` puts the same object back.
        partition: Tiles of the layer.
        tile: Converters, noise and device.
        noise: Random numbers, shared by the layers of a model.
    """

    def __init__(self, digital: nn.Module, partition: TilePartition, tile: TileSpec, noise: NoiseSource) -> None:
        super().__init__()
        self._take_parameters(digital)
        self.__dict__["digital"] = digital  # not registered as a child: this layer owns the parameters
        self.partition, self.tile, self.noise = partition, tile, noise
        column_max = self.weight.detach().reshape(self.weight.shape[0], -1).abs().amax(dim=1)
        unset = torch.zeros_like(column_max[0])
        if tile.input_range == "learned":
            self.analog_input_range = nn.Parameter(unset)
        else:
            self.register_buffer("analog_input_range", unset)
        self.register_buffer("analog_weight_bound", column_max)
        self._chip: list[list[ProgrammedCrossbar]] = []
        self._scales: list[Tensor] = []
        self._reference: list[list[Tensor]] = []
        self._n_programmings = 0
        self._chip_params: MVMParams | None = None
        self._step_weights: list[Tensor] | None = None
        self._has_range = False
        dropped = tile.hwa.drop_connect
        self._drop_below = NormalDist().inv_cdf(dropped) if dropped > 0 else -math.inf
        self._programmed: list[tuple[Tensor, Tensor]] = []
        self._correction: tuple[Tensor, Tensor] | None = None
        self._past_noise: deque[NoiseState] = deque(maxlen=_REMEMBERED_CALLS)
        self.train(digital.training)

    analog_input_range: Tensor
    analog_weight_bound: Tensor

    def _take_parameters(self, digital: nn.Module) -> None:
        """Register the digital layer's parameters as parameters of this layer."""
        self.weight = cast(nn.Parameter, digital.weight)
        self.bias = cast(nn.Parameter | None, digital.bias)

    def weight_key(self) -> tuple[int, tuple[int, int] | None]:
        """Return a key that is equal for all layers that share one weight."""
        return id(self.weight), None

    @property
    def is_programmed(self) -> bool:
        """Whether a chip is programmed and its weights have been read."""
        return bool(self._programmed)

    def matrix(self) -> Tensor:
        """Return the weight as a matrix ``(out, in)``; the inputs of a convolution are in im2col order."""
        return self.weight.reshape(self.weight.shape[0], -1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projection; shapes as in the digital layer.

        Gradient checkpointing computes a layer again in the backward pass. The second computation then uses the noise of the
        first one. If a layer runs several times within a checkpointed region, the noise of its calls is used in reverse order.
        """
        if not self.training:
            return self._correct(self._compute(x))
        if torch.compiler.is_compiling():
            return self._compute(x)
        if torch._C._current_graph_task_id() != -1 and self._past_noise:
            with self.noise.drawing_again(self._past_noise.pop()):
                return self._compute(x)
        if may_run_again():
            self._past_noise.append(self.noise.remember())
        return self._compute(x)

    def _compute(self, x: Tensor) -> Tensor:
        x = self._pad(x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        params = self._mvm_params(x)
        if self.tile.reads_vectors:
            return cast(Tensor, self._forward_vectors(x, params))
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            out: Tensor = TileProduct.apply(  # type: ignore[no-untyped-call]
                x, self.weight, self.bias, self.analog_input_range, self, params, self.noise
            )
            return out
        return run_tiles(self, x, self.bias, params, self.noise)

    def _correct(self, out: Tensor) -> Tensor:
        """Apply the column correction of the programmed chip, if it has one."""
        if self._correction is None:
            return out
        gain, offset = (self.over_outputs(each.to(out.dtype), out) for each in self._correction)
        return torch.addcmul(offset, out, gain)

    def set_correction_(self, gain: Tensor, offset: Tensor) -> None:
        """Multiply each output by `gain` and add `offset`, both ``(out,)``, until the programmed chip is read again."""
        self._correction = gain, offset

    def check_range(self) -> bool:
        """Return whether the input range is known, so that the next pass does not have to set it."""
        self._has_range = self._has_range or self.tile.input_range == "dynamic" or bool(self.analog_input_range != 0)
        return self._has_range

    def prepare_pass_(self) -> None:
        """Prepare the weights of the next pass where their computation cannot be compiled."""
        if self.training and self.tile.hwa.weight_noise_kind in ("device", "programming"):
            self._step_weights = self._draw_step_weights()
        elif not self.training and self._programmed and self._has_range:
            device_type, dtype = self.weight.device.type, self.weight.dtype
            dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else dtype
            self._chip_params = self._mvm_params(self.weight.detach().to(dtype))

    @contextmanager
    def same_weights(self) -> Iterator[None]:
        """Use one draw of weight noise for all products in training within the context, as for the time steps of a sequence."""
        if not self.training or self._step_weights is not None:
            yield
            return
        self._step_weights = self._draw_step_weights()
        try:
            yield
        finally:
            self._step_weights = None

    def end_pass_(self) -> None:
        """Discard the weights that `prepare_pass_` drew."""
        self._step_weights = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _forward_vectors(self, x: Tensor, params: MVMParams) -> Tensor:
        """Compute the layer on its im2col matrix, for tiles whose input scale or ADC bound depends on the single vector."""
        limit = None
        if self.tile.input_range != "dynamic" and params.dac_bits is not None:
            limit = self.analog_input_range.clamp(min=_SMALLEST_RANGE)
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
        """Return the weights ``(out, last - first)`` of a row of tiles [tile units] and the scale of each column ``(out,)``."""
        weights = self.matrix()[:, first:last]
        column_max = weights.detach().abs().amax(dim=1) if self.tile.hwa.remap else self.analog_weight_bound
        column_scale = torch.where(column_max > 0, column_max, torch.ones_like(column_max))
        return weights / column_scale.unsqueeze(1), column_scale

    def _mvm_params(self, x: Tensor) -> MVMParams:
        """Return weights and converters of this pass; those of a programmed chip are cached until the chip is read again."""
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
        """Return the weights of each row of tiles with the training noise of the HWA settings, from one draw [tile units]."""
        return [self._modified(self._normalised(first, last)[0]) for first, last in self._row_slices()]

    def _modified(self, weights: Tensor) -> Tensor:
        """Return the weights of a row of tiles with the training noise of the HWA settings [tile units]."""
        return modify_weights(weights, self.tile, self.noise, drop_below=self._drop_below)

    # -- the chip ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def program_(self, generator: torch.Generator) -> None:
        """Program a fresh chip from the exact weights. Call `drift_` next to read its weights."""
        self._chip, self._scales, self._reference = [], [], []
        compensated = self.tile.drift_compensation != "none"
        for first, last in self._row_slices():
            weights, column_scale = self._normalised(first, last)
            self._scales.append(column_scale)
            row = [program_crossbar(each, self.tile.device, generator=generator) for each in self._crossbars(weights)]
            self._chip.append(row)
            if compensated:
                self._reference.append([reference_read(each.weights, self.tile, generator) for each in row])
        self._programmed, self._chip_params, self._n_programmings = [], None, 0
        self._correction = None

    @torch.no_grad()
    def drift_(self, t_inference: float, generator: torch.Generator) -> None:
        """Let the programmed chip age to `t_inference` [s] after programming and read its weights once.

        If the tile has a `reprogram_after`, the chip is reprogrammed at every multiple of that time.
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

    def _crossbars(self, weights: Tensor) -> list[Tensor]:
        """Split the weights of a row of tiles into crossbars ``(cols, rows)``; groups with one crossbar each are stacked."""
        groups = self.partition.groups
        if groups > 1 and len(self.partition.col_sizes) == 1:
            return [weights.view(groups, -1, weights.shape[1])]
        return [weights[cols] for cols in self._col_slices()]

    def take_read(self) -> ChipRead:
        """Return the current weights of the programmed chip, for `use_read_`."""
        return ChipRead(self._programmed, self._correction)

    def share_chip_(self, owner: AnalogLayer) -> None:
        """Use the crossbars of `owner`, a layer with the same weight."""
        self._chip, self._programmed, self._chip_params = owner._chip, owner._programmed, None
        self._correction = None

    def use_read_(self, read: ChipRead) -> None:
        """Use weights that `take_read` returned earlier, until the chip is read again."""
        self._programmed, self._chip_params, self._correction = read.weights, None, read.correction

    def clear_chip_(self) -> None:
        """Discard the programmed chip. Programming never changes the exact weights."""
        self._chip, self._scales, self._reference, self._programmed = [], [], [], []
        self._chip_params, self._correction = None, None

    @torch.no_grad()
    def clip_weights_(self) -> None:
        """Clip the exact weights to the bounds of the HWA settings; called after each optimiser step."""
        hwa = self.tile.hwa
        if hwa.weight_clip is not None:
            largest = self.analog_weight_bound
            largest = torch.where(largest > 0, largest * hwa.weight_clip, math.inf)  # a column of zeros may learn
            bound = largest.view(-1, *[1] * (self.weight.ndim - 1))
            self._write_weight_(torch.clamp(self.weight, -bound, bound))
        if hwa.weight_clip_sigma is not None:
            limit = float(self.weight.std() * hwa.weight_clip_sigma)
            self._write_weight_(self.weight.clamp(-limit, limit))
        if hwa.weight_clip_average is not None:
            limit = float(self.matrix().abs().amax(dim=1).mean() * hwa.weight_clip_average)
            self._write_weight_(self.weight.clamp(-limit, limit))

    def _write_weight_(self, weight: Tensor) -> None:
        """Set the weight; the argument has the same shape."""
        self.weight.copy_(weight)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _input_range(self, x: Tensor) -> Tensor:
        if self.tile.input_range == "dynamic":
            return torch.ones((), device=x.device)
        if not self._has_range:
            self._find_range(x)
        return self.analog_input_range.detach().clamp(min=_SMALLEST_RANGE)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    @torch.no_grad()
    def _find_range(self, x: Tensor) -> None:
        """Set the input range to the largest magnitude of the first batch if the range was not calibrated."""
        if self.analog_input_range == 0:
            if not self.tile.has_input_range:
                self.analog_input_range.fill_(1.0)  # a tile without converters has no range
            else:
                warnings.warn(
                    "an analog layer had no input range and uses the largest input of its first batch instead; "
                    "call calibrate_input_ranges_ with representative data before evaluation",
                    CalibrationWarning,
                    stacklevel=3,
                )
                largest = x.detach().abs().amax().to(self.analog_input_range.dtype)
                self.analog_input_range.copy_(torch.where(largest > 0, largest, torch.ones_like(largest)))
        self._has_range = True

    @abstractmethod
    def _pad(self, x: Tensor) -> Tensor:
        """Return the inputs with the padding that `multiply` does not add itself."""

    @abstractmethod
    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """Return ``weights (out, last - first)`` of rows ``first`` to ``last`` in the shape that `multiply` takes."""

    @abstractmethod
    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the inputs that rows ``first`` to ``last`` of the im2col matrix read."""

    @abstractmethod
    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Multiply the DAC codes of a row of tiles with its weights."""

    @abstractmethod
    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of the codes and of ``weights (out, in)``, or None where `wanted` is False."""

    @abstractmethod
    def _to_vectors(self, x: Tensor) -> Tensor:
        """Return the inputs as im2col vectors ``(n, groups * in)``."""

    @abstractmethod
    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        """Return ``vectors (n, out)`` in the shape of the layer's outputs for the inputs `x`."""

    @abstractmethod
    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Reshape ``values (out,)`` so that they broadcast over `outputs`."""

    # -- attributes of the digital layer -------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            digital = self.__dict__.get("digital")
            if digital is None or name.startswith("_"):
                raise
            return getattr(digital, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in _BUFFERS:  # the state_dict of a digital model lacks these: keep the values set by conversion
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._has_range = False

    def extra_repr(self) -> str:
        """Describe shape and tiles."""
        out, rows = self.matrix().shape
        return f"{rows}x{out} on {self.partition.n_tiles} tile(s) of {self.tile.rows}x{self.tile.cols}"
