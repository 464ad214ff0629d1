"""What all modules that compute a projection as tiles do share. They hold state; the physics are functions elsewhere."""

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
_REMEMBERED_CALLS = 16  # whose noise a backward pass can see again
_SMALLEST_RANGE = 1e-6  # a learned range stays positive


class AnalogLayer(nn.Module, ABC):
    """A linear or convolution layer on tiles; owns the same parameters as the digital layer it stands for.

    In ``train()`` it injects the tile's HWA noise. In ``eval()`` it uses the programmed chip if there is one, else the exact
    weights, and the tile's converters and output noise in both cases. The bias and the partial sums over tiles are digital.

    Args:
        digital: The layer to stand for; kept, and handed back by `convert_to_digital_`.
        partition: Its tiles.
        tile: Converters, noise, device.
        noise: Shared source of random numbers.
    """

    def __init__(self, digital: nn.Module, partition: TilePartition, tile: TileSpec, noise: NoiseSource) -> None:
        super().__init__()
        self._take_parameters(digital)
        self.__dict__["digital"] = digital  # not registered: its parameters are ours
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
        self._chip_job: MVMParams | None = None
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
        """Own the digital layer's parameters."""
        self.weight = cast(nn.Parameter, digital.weight)
        self.bias = cast(nn.Parameter | None, digital.bias)

    def weight_key(self) -> tuple[int, tuple[int, int] | None]:
        """Return what layers of one and the same weight have in common."""
        return id(self.weight), None

    @property
    def is_programmed(self) -> bool:
        """Whether a chip is programmed and read."""
        return bool(self._programmed)

    def matrix(self) -> Tensor:
        """Return the weight as ``(out, in)``, inputs in im2col order."""
        return self.weight.reshape(self.weight.shape[0], -1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projection; shapes as in the digital layer.

        Where gradient checkpointing runs a layer again within the backward pass, it sees the noise of the first time. A layer
        that runs several times within one checkpointed part sees them in reverse.
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
        job = self._job(x)
        if self.tile.reads_vectors:
            return cast(Tensor, self._forward_vectors(x, job))
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            out: Tensor = TileProduct.apply(  # type: ignore[no-untyped-call]
                x, self.weight, self.bias, self.analog_input_range, self, job, self.noise
            )
            return out
        return run_tiles(self, x, self.bias, job, self.noise)

    def _correct(self, out: Tensor) -> Tensor:
        """Apply the column correction of the programmed chip, if it has one."""
        if self._correction is None:
            return out
        gain, offset = (self.over_outputs(each.to(out.dtype), out) for each in self._correction)
        return torch.addcmul(offset, out, gain)

    def set_correction_(self, gain: Tensor, offset: Tensor) -> None:
        """Multiply each output of the programmed chip by `gain` and add `offset`, both ``(out,)``, until it is read again."""
        self._correction = gain, offset

    def check_range(self) -> bool:
        """Return whether inputs have a range, so that the next pass need not look for one."""
        self._has_range = self._has_range or self.tile.input_range == "dynamic" or bool(self.analog_input_range != 0)
        return self._has_range

    def prepare_pass_(self) -> None:
        """Make now what the next pass needs and a compiled pass cannot make."""
        if self.training and self.tile.hwa.weight_noise_kind in ("device", "programming"):
            self._step_weights = self._draw_step_weights()
        elif not self.training and self._programmed and self._has_range:
            kind, dtype = self.weight.device.type, self.weight.dtype
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else dtype
            self._chip_job = self._job(self.weight.detach().to(dtype))

    @contextmanager
    def same_weights(self) -> Iterator[None]:
        """Let all products of a while in training see one draw of weight noise, as the steps of a sequence do on a chip."""
        if not self.training or self._step_weights is not None:
            yield
            return
        self._step_weights = self._draw_step_weights()
        try:
            yield
        finally:
            self._step_weights = None

    def end_pass_(self) -> None:
        """Forget what was made for one pass only."""
        self._step_weights = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _forward_vectors(self, x: Tensor, job: MVMParams) -> Tensor:
        """Compute one im2col vector after another, as input scales or bounds that follow each vector demand."""
        limit = None
        if self.tile.input_range != "dynamic" and job.dac_bits is not None:
            limit = self.analog_input_range.clamp(min=_SMALLEST_RANGE)
        vectors = self._to_vectors(x)
        analog = run_vectors(vectors, self.weight, self.partition, self.tile, job, self.noise, limit=limit)
        out = self._from_vectors(analog, x)
        return out if self.bias is None else out + self.over_outputs(self.bias, out).to(out.dtype)

    # -- weights -----------------------------------------------------------------------------------------------------

    def _row_slices(self) -> list[tuple[int, int]]:
        return list(itertools.pairwise(itertools.accumulate(self.partition.row_sizes, initial=0)))

    def _col_slices(self) -> list[slice]:
        edges = itertools.accumulate(self.partition.col_sizes * self.partition.groups, initial=0)
        return [slice(first, last) for first, last in itertools.pairwise(edges)]

    def _normalised(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the weights of a row of tiles, largest of each column 1, and what 1 stands for."""
        weights = self.matrix()[:, first:last]
        column_max = weights.detach().abs().amax(dim=1) if self.tile.hwa.remap else self.analog_weight_bound
        column_scale = torch.where(column_max > 0, column_max, torch.ones_like(column_max))
        return weights / column_scale.unsqueeze(1), column_scale

    def _job(self, x: Tensor) -> MVMParams:
        """Return weights and converters of this pass; those of a programmed chip are made once."""
        uses_chip = bool(self._programmed) and not self.training
        if uses_chip and self._chip_job is not None and self._chip_job.dtype == x.dtype:
            return self._chip_job
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
        job = MVMParams(
            rows=rows,
            dtype=x.dtype,
            input_range=input_range,
            dac_bits=dac_bits,
            adc_bits=adc_bits,
            bound=bound,
            output_noise=tile.output_noise if not self.training or tile.hwa.output_noise else 0.0,
        )
        if not torch.compiler.is_compiling():
            self._chip_job = job if uses_chip else None
        return job

    @torch.no_grad()
    def _draw_step_weights(self) -> list[Tensor]:
        """Return each row of tiles as the HWA settings change it, all from one draw of noise [tile units]."""
        return [self._modified(self._normalised(first, last)[0]) for first, last in self._row_slices()]

    def _modified(self, weights: Tensor) -> Tensor:
        """Return a row of tiles as the HWA settings change it for one forward pass [tile units]."""
        return modify_weights(weights, self.tile, self.noise, drop_below=self._drop_below)

    # -- the chip ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def program_(self, generator: torch.Generator) -> None:
        """Program a fresh chip from the exact weights; read it with `drift_`."""
        self._chip, self._scales, self._reference = [], [], []
        compensated = self.tile.drift_compensation != "none"
        for first, last in self._row_slices():
            weights, column_scale = self._normalised(first, last)
            self._scales.append(column_scale)
            row = [program_crossbar(each, self.tile.device, generator=generator) for each in self._crossbars(weights)]
            self._chip.append(row)
            if compensated:
                self._reference.append([reference_read(each.weights, self.tile, generator) for each in row])
        self._programmed, self._chip_job, self._n_programmings = [], None, 0
        self._correction = None

    @torch.no_grad()
    def drift_(self, t_inference: float, generator: torch.Generator) -> None:
        """Let the programmed chip age to `t_inference` [s] and read its weights once.

        With `reprogram_after` the chip has been programmed anew at every multiple of that age.
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
        self._programmed, self._chip_job, self._correction = programmed, None, None

    def _crossbars(self, weights: Tensor) -> list[Tensor]:
        """Cut the weights of a row of tiles into crossbars ``(cols, rows)``; equal groups come as one stack."""
        groups = self.partition.groups
        if groups > 1 and len(self.partition.col_sizes) == 1:
            return [weights.view(groups, -1, weights.shape[1])]
        return [weights[cols] for cols in self._col_slices()]

    def take_read(self) -> ChipRead:
        """Return the present read of the programmed chip, for `use_read_`."""
        return ChipRead(self._programmed, self._correction)

    def share_chip_(self, owner: AnalogLayer) -> None:
        """Compute with the crossbars of a layer that has the same weight."""
        self._chip, self._programmed, self._chip_job = owner._chip, owner._programmed, None
        self._correction = None

    def use_read_(self, read: ChipRead) -> None:
        """Compute with a read taken before, until the chip is read again."""
        self._programmed, self._chip_job, self._correction = read.weights, None, read.correction

    def clear_chip_(self) -> None:
        """Forget the programmed chip; the exact weights were never touched."""
        self._chip, self._scales, self._reference, self._programmed = [], [], [], []
        self._chip_job, self._correction = None, None

    @torch.no_grad()
    def clip_weights_(self) -> None:
        """Keep the exact weights within the bounds of the HWA settings; called after each optimiser step."""
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
        """Set the weight, shaped like it."""
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
        """Take the largest input of a first batch where nobody calibrated."""
        if self.analog_input_range == 0:
            if not self.tile.has_input_range:
                self.analog_input_range.fill_(1.0)  # a tile without converters has no range
            else:
                warnings.warn(
                    "an analog layer had no input range and took the largest input of its first batch; "
                    "call calibrate_input_ranges_ on representative data",
                    CalibrationWarning,
                    stacklevel=3,
                )
                largest = x.detach().abs().amax().to(self.analog_input_range.dtype)
                self.analog_input_range.copy_(torch.where(largest > 0, largest, torch.ones_like(largest)))
        self._has_range = True

    @abstractmethod
    def _pad(self, x: Tensor) -> Tensor:
        """Return inputs as the product wants them."""

    @abstractmethod
    def kernel(self, weights: Tensor, first: int, last: int) -> Tensor:
        """Return ``weights (out, last - first)`` of rows ``first`` to ``last`` in the form that `multiply` takes."""

    @abstractmethod
    def rows_of(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the part of the inputs that rows ``first`` to ``last`` of the im2col matrix need."""

    @abstractmethod
    def multiply(self, codes: Tensor, kernel: Tensor) -> Tensor:
        """Multiply the codes of a row of tiles with its weights."""

    @abstractmethod
    def multiply_backward(
        self, grad: Tensor, codes: Tensor, weights: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of codes and ``weights (out, in)`` of the whole product, where wanted."""

    @abstractmethod
    def _to_vectors(self, x: Tensor) -> Tensor:
        """Return inputs as im2col vectors ``(n, groups * in)``."""

    @abstractmethod
    def _from_vectors(self, vectors: Tensor, x: Tensor) -> Tensor:
        """Return ``(n, out)`` in the shape of the outputs for inputs `x`."""

    @abstractmethod
    def over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        """Shape one value for each output so that it broadcasts over `outputs`."""

    # -- looking like the digital layer --------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            digital = self.__dict__.get("digital")
            if digital is None or name.startswith("_"):
                raise
            return getattr(digital, name)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in _BUFFERS:  # a digital state_dict has none of these: keep what conversion set
            state_dict.setdefault(prefix + name, getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._has_range = False

    def extra_repr(self) -> str:
        """Describe shape and tiles."""
        out, rows = self.matrix().shape
        return f"{rows}x{out} on {self.partition.n_tiles} tile(s) of {self.tile.rows}x{self.tile.cols}"
