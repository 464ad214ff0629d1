"""Modules that compute a projection as tiles do. They hold state; the physics are functions elsewhere."""

from __future__ import annotations

import itertools
import math
import warnings
from abc import ABC, abstractmethod
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.analog.tile.converters import convert_inputs, convert_outputs
from lionheart.analog.tile.crossbar import ProgrammedCrossbar, program_crossbar, read_crossbar
from lionheart.analog.tile.noise import NoiseSource
from lionheart.candidates import TilePartition
from lionheart.errors import CalibrationWarning
from lionheart.specs import TileSpec

_BUFFERS = ("analog_input_range", "analog_weight_bound")
_SMALLEST_READOUT = 1e-4  # floor of the reference read, as in AIHWKIT


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
        self.weight = cast(nn.Parameter, digital.weight)
        self.bias = cast(nn.Parameter | None, digital.bias)
        self.partition, self.tile, self.noise = partition, tile, noise
        column_max = self.weight.detach().reshape(self.weight.shape[0], -1).abs().amax(dim=1)
        self.register_buffer("analog_input_range", torch.zeros_like(column_max[0]))
        self.register_buffer("analog_weight_bound", column_max)
        self._chip: list[list[ProgrammedCrossbar]] = []
        self._scales: list[Tensor] = []
        self._reference: list[Tensor] = []
        self._programmed: list[tuple[Tensor, Tensor]] = []
        self.__dict__["digital"] = digital  # not registered: its parameters are ours
        self.train(digital.training)

    analog_input_range: Tensor
    analog_weight_bound: Tensor

    @property
    def is_programmed(self) -> bool:
        """Whether a chip is programmed and read."""
        return bool(self._programmed)

    def matrix(self) -> Tensor:
        """Return the weight as ``(out, in)``, inputs in im2col order."""
        return self.weight.reshape(self.weight.shape[0], -1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projection; shapes as in the digital layer."""
        tile, training = self.tile, self.training
        converters = not training or tile.hwa.converters
        x = self._pad(x)
        codes, full_scale = convert_inputs(x, self._input_range(x), tile.dac_bits if converters else None)
        sigma = tile.output_noise if not training or tile.hwa.output_noise else 0.0
        total: Tensor | None = None
        for index, (first, last) in enumerate(self._row_slices()):
            weights, column_scale = self._tile_weights(index, first, last)
            z = self._multiply(codes, weights, first, last)
            part = convert_outputs(
                z,
                self.noise.normal_like(z) if sigma > 0 else None,
                self._over_outputs(column_scale * self.analog_input_range, z),
                sigma=sigma,
                full_scale=full_scale,
                bits=tile.adc_bits if converters else None,
                bound=tile.output_bound if converters else None,
            )
            total = part if total is None else total + part
        assert total is not None  # noqa: S101  a partition has at least one row of tiles
        return total if self.bias is None else total + self._over_outputs(self.bias, total).to(total.dtype)

    # -- weights -----------------------------------------------------------------------------------------------------

    def _row_slices(self) -> list[tuple[int, int]]:
        return list(itertools.pairwise(itertools.accumulate(self.partition.row_sizes, initial=0)))

    def _col_slices(self) -> list[slice]:
        edges = itertools.accumulate(self.partition.col_sizes, initial=0)
        return [slice(first, last) for first, last in itertools.pairwise(edges)]

    def _normalised(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return the weights of a row of tiles, largest of each column 1, and what 1 stands for."""
        weights = self.matrix()[:, first:last]
        column_max = weights.detach().abs().amax(dim=1)
        column_scale = torch.where(column_max > 0, column_max, torch.ones_like(column_max))
        return weights / column_scale.unsqueeze(1), column_scale

    def _tile_weights(self, index: int, first: int, last: int) -> tuple[Tensor, Tensor]:
        if self._programmed and not self.training:
            return self._programmed[index]
        weights, column_scale = self._normalised(first, last)
        if self.training:
            weights = weights + self._training_noise(weights.detach())
        return weights, column_scale

    def _training_noise(self, weights: Tensor) -> Tensor | float:
        """Return what the HWA settings add to the weights of a row of tiles for one forward pass [tile units]."""
        hwa, source = self.tile.hwa, self.noise
        if hwa.weight_noise_kind == "device":
            chip = program_crossbar(weights, self.tile.device, generator=source.generator)
            read = read_crossbar(
                chip, self.tile.device, t_inference=source.draw_time(hwa.t_longest), generator=source.generator
            )
            if self.tile.drift_compensation == "global":
                read *= chip.weights.abs().mean() / read.abs().mean().clamp(min=_SMALLEST_READOUT)
            return read - weights
        if hwa.weight_noise == 0:
            return 0.0
        noise = source.normal(weights.shape) * hwa.weight_noise
        return noise * weights if hwa.weight_noise_kind == "multiplicative" else noise

    # -- the chip ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def program_(self, generator: torch.Generator) -> None:
        """Program a fresh chip from the exact weights; read it with `drift_`."""
        self._chip, self._scales, self._reference = [], [], []
        for first, last in self._row_slices():
            weights, column_scale = self._normalised(first, last)
            self._scales.append(column_scale)
            row = [program_crossbar(weights[c], self.tile.device, generator=generator) for c in self._col_slices()]
            self._chip.append(row)
            if self.tile.drift_compensation == "global":
                self._reference.append(torch.stack([self._reference_read(t.weights, generator) for t in row]))
        self._programmed = []

    @torch.no_grad()
    def drift_(self, t_inference: float, generator: torch.Generator) -> None:
        """Let the programmed chip age to `t_inference` [s] and read its weights once."""
        programmed = []
        for index, (row, column_scale) in enumerate(zip(self._chip, self._scales, strict=True)):
            parts, factors = [], []
            for number, crossbar in enumerate(row):
                read = read_crossbar(crossbar, self.tile.device, t_inference=t_inference, generator=generator)
                parts.append(read)
                alpha = torch.ones_like(column_scale[0])
                if self.tile.drift_compensation == "global":
                    alpha = self._reference[index][number] / self._reference_read(read, generator)
                factors.append(alpha.expand(len(read)))
            programmed.append((torch.cat(parts), column_scale * torch.cat(factors)))
        self._programmed = programmed

    def clear_chip_(self) -> None:
        """Forget the programmed chip; the exact weights were never touched."""
        self._chip, self._scales, self._reference, self._programmed = [], [], [], []

    def _reference_read(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean magnitude of the tile's response to one full-scale input after another, with all its noise."""
        sigma = self.tile.output_noise
        read = convert_outputs(
            weights,
            torch.empty_like(weights).normal_(generator=generator) if sigma > 0 else None,
            torch.ones_like(weights[0, 0]),
            sigma=sigma,
            full_scale=1.0,
            bits=self.tile.adc_bits,
            bound=self.tile.output_bound,
        )
        return read.abs().mean().clamp(min=_SMALLEST_READOUT)

    @torch.no_grad()
    def clip_weights_(self) -> None:
        """Keep the exact weights within the bounds of the HWA settings; called after each optimiser step."""
        hwa = self.tile.hwa
        if hwa.weight_clip is not None:
            bound = (self.analog_weight_bound * hwa.weight_clip).view(-1, *[1] * (self.weight.ndim - 1))
            self.weight.clamp_(-bound, bound)
        if hwa.weight_clip_sigma is not None:
            limit = float(self.weight.std() * hwa.weight_clip_sigma)
            self.weight.clamp_(-limit, limit)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _input_range(self, x: Tensor) -> float:
        if self.analog_input_range == 0:
            if self.tile.dac_bits is None and self.tile.output_noise == 0 and self.tile.output_bound is None:
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
        return float(self.analog_input_range)

    @abstractmethod
    def _pad(self, x: Tensor) -> Tensor:
        """Return inputs as the product wants them."""

    @abstractmethod
    def _multiply(self, codes: Tensor, weights: Tensor, first: int, last: int) -> Tensor:
        """Multiply rows ``first`` to ``last`` of the im2col'ed codes with ``weights (out, last - first)``."""

    @abstractmethod
    def _over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
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

    def extra_repr(self) -> str:
        """Describe shape and tiles."""
        out, rows = self.matrix().shape
        return f"{rows}x{out} on {self.partition.n_tiles} tile(s) of {self.tile.rows}x{self.tile.cols}"


@final
class AnalogLinear(AnalogLayer):
    """`nn.Linear` on tiles."""

    def _pad(self, x: Tensor) -> Tensor:
        return x

    def _multiply(self, codes: Tensor, weights: Tensor, first: int, last: int) -> Tensor:
        return F.linear(codes[..., first:last], weights)

    def _over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        return values


_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


@final
class AnalogConv(AnalogLayer):
    """`nn.Conv1d`, `nn.Conv2d` or `nn.Conv3d` with one group, on tiles.

    The input range is static, so inputs are quantised before the convolution instead of after im2col: the same numbers
    without building the im2col matrix.
    """

    def _pad(self, x: Tensor) -> Tensor:
        conv = cast(nn.Conv2d, self.digital)
        if conv.padding_mode == "zeros":
            return x
        return F.pad(x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)

    def _multiply(self, codes: Tensor, weights: Tensor, first: int, last: int) -> Tensor:
        conv = cast(nn.Conv2d, self.digital)
        taps = math.prod(conv.kernel_size)
        begin, end = first // taps, math.ceil(last / taps)
        if first % taps or last % taps:  # a tile boundary inside a channel: the other tile's taps get weight 0
            weights = F.pad(weights, (first - begin * taps, end * taps - last))
        kernel = weights.view(len(weights), end - begin, *conv.kernel_size)
        if kernel.ndim == 4:
            kernel = kernel.contiguous(memory_format=torch.channels_last)
        channels = codes.ndim - kernel.ndim + 1  # inputs may come without a batch dimension
        inputs = codes if end - begin == codes.shape[channels] else codes.narrow(channels, begin, end - begin)
        padding = 0 if conv.padding_mode != "zeros" else conv.padding
        product: Tensor = _CONVOLUTIONS[self.weight.ndim](inputs, kernel, None, conv.stride, padding, conv.dilation)
        return product

    def _over_outputs(self, values: Tensor, outputs: Tensor) -> Tensor:
        return values.view(-1, *[1] * (self.weight.ndim - 2))
