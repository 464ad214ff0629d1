"""Base class of the layers that compute a projection (weight matrix) on analog tiles.

The class holds the input range of a layer and computes its outputs; `lionheart.analog.weights` holds the programmed chip. The
other modules of this package implement converters, crossbars and noise.
"""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import NormalDist
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from lionheart.analog.converters import full_scale
from lionheart.analog.hwa import modify_weights
from lionheart.analog.noise import NoiseSource, NoiseState, may_run_again
from lionheart.analog.policy import describe_read
from lionheart.analog.product import MVMParams, TileProduct, TileSlice, run_tiles
from lionheart.analog.vectors import run_vectors
from lionheart.analog.weights import ProgrammedWeight
from lionheart.devices import TileSpec
from lionheart.errors import CalibrationWarning
from lionheart.partition import TilePartition

_REMEMBERED_CALLS = 16  # calls whose noise a backward pass can repeat
SMALLEST_RANGE = 1e-6  # lower bound of an input range, which training may change [units of the input]


class AnalogLayer(ProgrammedWeight):
    """A linear or convolution layer on analog tiles, with the parameters, hooks and attributes of the layer that it replaces.

    In ``train()`` the layer injects the noise that the tile's settings for hardware-aware (HWA) training define. In ``eval()``
    it uses the weights read from the programmed chip, or the exact weights if no chip is programmed. Converters and output
    noise are simulated in ``eval()``, and in ``train()`` if the HWA settings enable them. The bias, the partial sums over tiles
    and the products of digital weights are added digitally.

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
        self.set_up_chip_()
        self._step_weights: list[Tensor] | None = None
        self._has_range = False
        dropped = tile.hwa.drop_connect
        self._drop_below = NormalDist().inv_cdf(dropped) if dropped > 0 else -math.inf
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

    def forward(self, input: Tensor) -> Tensor:  # named as in the digital layers
        """Return the digital layer's outputs for `input`, computed on tiles, in the digital layer's shape and memory layout.

        Gradient checkpointing computes a layer a second time in the backward pass. The second computation repeats the noise
        from the forward pass. If a layer runs several times within a checkpointed region, the first call of the second
        computation uses the noise of the last call in the forward pass, and so on in reverse order.
        """
        if not self.training or torch.compiler.is_compiling():
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
        x = self._prepare(x)
        scale = None
        if self.tile.input_range == "sample":
            with torch.no_grad():
                scale = self.sample_scale(x)
        out = self.arrange(self._run_tiles(x, scale), x)
        if not self.training:
            out = self._correct(out)
        return out if self.digital_places() is None else self._add_digital(out, x)

    def _prepare(self, x: Tensor) -> Tensor:
        """Return the inputs `x` with the padding that `multiply` does not add, in the data type of autocast."""
        x = self._pad(x)
        return x.to(torch.get_autocast_dtype(x.device.type)) if torch.is_autocast_enabled(x.device.type) else x

    def _run_tiles(self, x: Tensor, scale: Tensor | None) -> Tensor:
        """Return the outputs of the tiles and the bias. `scale` is the full-scale input of each sample; None = that of all."""
        params, bias = self._mvm_params(x), self.bias
        if self.tile.reads_vectors and scale is not None:
            out: Tensor = self._forward_vectors(x / scale, None, params) * scale
            return out if bias is None else out + self.over_outputs(bias, out).to(out.dtype)
        if self.tile.reads_vectors:
            return cast(Tensor, self._forward_vectors(x, bias, params))
        if scale is not None:
            params = params.for_samples(scale)
        if torch.is_grad_enabled() and any(e.requires_grad for e in (x, self.weight, self.analog_input_range)):
            weight = self.weight if self.digital_places() is None else self.tile_matrix().view_as(self.weight)
            product: Tensor = TileProduct.apply(  # type: ignore[no-untyped-call]
                x, weight, bias, self.analog_input_range, self, params, self.noise
            )
            return product
        return run_tiles(self, x, bias, params, self.noise)

    def _add_digital(self, out: Tensor, x: Tensor) -> Tensor:
        """Return the outputs `out` plus the products of the digital weights and the prepared inputs `x`."""
        places = cast(tuple[Tensor, Tensor], self.digital_places())
        products = self.multiply_single(x, places, self.matrix()[places].to(x.dtype))
        add = out.index_add if torch.is_grad_enabled() else out.index_add_  # `out` has no other owner
        return add(self.output_dim, places[0], products.to(out.dtype))

    def digital_part(self, x: Tensor, out: Tensor) -> Tensor:
        """Return what the digital weights add to the outputs `out` for the layer inputs `x`; None are 0."""
        part = torch.zeros_like(out)
        return part if self.digital_places() is None else self._add_digital(part, self._prepare(x))

    def check_range(self) -> bool:
        """Return whether the input range is set or needs no value. If False, the next batch sets the range."""
        self._has_range = self._has_range or self.tile.finds_range or bool(self.analog_input_range != 0)
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
    def _forward_vectors(self, x: Tensor, bias: Tensor | None, params: MVMParams) -> Tensor:
        """Return the layer outputs for the inputs `x`, with separate input scaling and noise for each im2col vector of `x`."""
        limit = None
        if not self.tile.finds_range and params.dac_bits is not None:
            limit = self.analog_input_range.clamp(min=SMALLEST_RANGE)
        vectors, tile = self._to_vectors(x), self.tile_in_use
        analog = run_vectors(vectors, self.tile_matrix(), self.partition, tile, params, self.noise, limit=limit)
        out = self._from_vectors(analog, x)
        return out if bias is None else out + self.over_outputs(bias, out).to(out.dtype)

    # -- weights of a pass -------------------------------------------------------------------------------------------

    def _mvm_params(self, x: Tensor) -> MVMParams:
        """Return the weights, converter settings and noise strength for a forward pass with the inputs `x`.

        In ``eval()`` with a programmed chip, the result is cached until the chip is read again or the data type of `x` changes.
        """
        uses_chip = bool(self._programmed) and not self.training
        if uses_chip and self._chip_params is not None and self._chip_params.dtype == x.dtype:
            return cast(MVMParams, self._chip_params)
        tile, input_range = self.tile_in_use, self._input_range(x)
        converters = not self.training or tile.hwa.converters
        copies = self._programmed[0][0].shape[:-2].numel() if uses_chip else 1  # that are read one by one
        read = describe_read(
            tile,
            with_noise=not self.training or tile.hwa.output_noise,
            with_converters=converters,
            is_one_copy=copies > 1,
        )
        dac_bits = tile.dac_bits if converters else None
        rows = []
        with torch.no_grad():
            for index, (first, last) in enumerate(self._row_slices()):
                weights, scale = self._programmed[index] if uses_chip else self._normalised(first, last)
                if self.training:
                    weights = self._modified(weights) if self._step_weights is None else self._step_weights[index]
                scale = scale if copies == 1 else scale / copies
                for copy in weights.view(copies, *weights.shape[-2:]):
                    kernel = self.kernel((copy / (full_scale(dac_bits) * read.step)).to(x.dtype), first, last)
                    out_scale = self.over_outputs((scale * (input_range * read.step)).to(x.dtype), x)
                    rows.append(TileSlice(first, last, copy.to(x.dtype), scale, kernel, out_scale))
        params = MVMParams(rows=rows, dtype=x.dtype, input_range=input_range, dac_bits=dac_bits, read=read)
        if not torch.compiler.is_compiling():
            self._chip_params = params if uses_chip else None
        return params

    @torch.no_grad()
    def _draw_step_weights(self) -> list[Tensor]:
        """Return one matrix ``(out, rows)`` per row of tiles: weights divided by their column scale, with training noise."""
        return [self._modified(self._normalised(first, last)[0]) for first, last in self._row_slices()]

    def _modified(self, weights: Tensor) -> Tensor:
        """Return `weights` ``(out, rows)``, divided by their column scale, with the noise of hardware-aware training."""
        return modify_weights(weights, self.tile_in_use, self.noise, drop_below=self._drop_below)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _input_range(self, x: Tensor) -> Tensor:
        if self.tile.finds_range:
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
