"""Wrappers that run projections (weight matrices) of a module on tiles, for example in attention or recurrent layers.

A wrapper has the parameters, buffers and child modules of the wrapped module under the same names. Optimisers and the
``state_dict`` of the digital model therefore remain valid. The analog layers are in an additional child module, ``analog``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast, final

import torch
from torch import Tensor, nn

from lionheart.analog.base import AnalogLayer
from lionheart.analog.layers.attention import AttentionInputs, attend
from lionheart.analog.layers.conv import like_convolution
from lionheart.analog.layers.recurrent import RecurrentSettings, run_cell, run_recurrent
from lionheart.analog.layers.views import (
    DigitalProjection,
    ProjectionView,
    add_up_taps,
    analog_view,
    digital_projection,
)
from lionheart.analog.likeness import Likeness
from lionheart.analog.noise import NoiseSource
from lionheart.devices import TileSpec, differ_in_policy
from lionheart.errors import UnsupportedLayerError
from lionheart.graph.convolutions import is_convolution, is_transposed_convolution
from lionheart.graph.layer_types import Projection, describe_module, find_tensor, has_own_forward, needs_proxy
from lionheart.graph.proxy import WeightProxy, proxied
from lionheart.graph.usage import multiply_digitally

CHILD = "analog"  # name under which a wrapper registers its analog layers


class AnalogWrapper(Likeness):
    """Base class of modules that replace a digital module and run some or all of its projections (weight matrices) on tiles.

    The remaining projections are computed digitally.

    Args:
        digital: Digital module to wrap; `convert_to_digital_` restores the same object.
    """

    adds_bias = True
    own_attributes: ClassVar[Mapping[str, type]] = {"digital": nn.Module, CHILD: nn.ModuleDict}

    def __init__(self, digital: nn.Module) -> None:
        super().__init__()
        self.stand_for_(digital)
        owner = self if self.adds_bias else digital
        self._views = {
            layout.name: digital_projection(digital, owner, layout, with_bias=self.adds_bias)
            for layout in describe_module(digital)
        }
        self._modules[CHILD] = nn.ModuleDict()

    def weight_names(self) -> Collection[str]:
        """Return the names of the parameters that store the weights of the wrapped module."""
        return {view.projection.weight for view in self.__dict__.get("_views", {}).values()}

    def analog_views(self) -> Iterator[tuple[str, AnalogLayer]]:
        """Yield pairs of a projection name and the analog layer of this wrapper that computes the projection."""
        for layer in cast(nn.ModuleDict, self._modules[CHILD]).values():
            yield cast(DigitalProjection, layer.digital).projection.name, cast(AnalogLayer, layer)

    def move_(self, wanted: Mapping[str, TileSpec], noise: NoiseSource) -> None:
        """Convert the wrapped module so that exactly the projections named in `wanted` run on tiles.

        Analog layers that remain analog keep their state, unless their read policy changes.

        Args:
            wanted: Tile settings of the projections that run on tiles, by their names within the module.
            noise: Source of noise in the new analog layers.
        """
        layers = cast(nn.ModuleDict, self._modules[CHILD])
        for name, view in self._views.items():
            key = name.replace(".", "_") or "tile"
            if key in layers and (name not in wanted or differ_in_policy(cast(Any, layers[key]).tile, wanted[name])):
                del layers[key]
            if name in wanted and key not in layers:
                layers[key] = analog_view(view, wanted[name], noise).train(self.training)

    def holds(self, layer: AnalogLayer) -> bool:
        """Return whether `layer` is one of the analog layers of this wrapper."""
        return any(each is layer for _, each in self.analog_views())

    def swap_(self, old: AnalogLayer, new: AnalogLayer) -> None:
        """Replace the analog layer `old` of this wrapper by the analog layer `new`."""
        layers = cast(nn.ModuleDict, self._modules[CHILD])
        layers[next(key for key, each in layers.items() if each is old)] = new

    def release(self) -> nn.Module:
        """Return the wrapped digital module with the current weights, and discard the analog layers."""
        del self._modules[CHILD]
        digital = self.leave_()
        if isinstance(digital, nn.RNNBase):
            digital._flat_weights = [getattr(digital, name) for name in digital._flat_weights_names]
        return digital

    def project(self, name: str, x: Tensor) -> Tensor:
        """Return the product of `x` and the weight matrix `name`, computed on tiles if this projection is analog.

        The bias of the projection is added, unless the wrapper or its digital module adds the bias elsewhere.
        """
        layers = cast(nn.ModuleDict, self._modules[CHILD])
        key = name.replace(".", "_") or "tile"
        if key in layers:
            return cast(AnalogLayer, layers[key]).call(x)
        return cast(Tensor, self._views[name](x))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load parameters, and tell the analog layers, which are loaded next, whether their weights are among them."""
        for _, layer in self.analog_views():
            if prefix + cast(DigitalProjection, layer.digital).projection.weight in state_dict:
                cast(ProjectionView, layer).expect_weight_()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Return the class name of the wrapped module, as text for ``print(model)``."""
        return f"for {type(self.__dict__['digital']).__name__}"


@final
class AnalogMultiheadAttention(AnalogWrapper):
    """Wrapper that replaces `nn.MultiheadAttention` and runs some or all of its projections (weight matrices) on tiles."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Return outputs and attention weights. Arguments and results are those of ``nn.MultiheadAttention.forward``."""
        return attend(self.__dict__["digital"], self.project, AttentionInputs(*args, **kwargs))


@final
@dataclass
class _Recurrent:
    """Settings of a recurrent layer, under the attribute names of `nn.RNN`, `nn.LSTM` and `nn.GRU`."""

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int
    training: bool


@final
class AnalogRecurrent(AnalogWrapper):
    """Wrapper that replaces `nn.RNN`, `nn.LSTM` or `nn.GRU` and runs some or all of the weight matrices on tiles.

    A forward pass in training uses one draw of weight noise for all time steps.
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Return the outputs for the sequences `input` and the final states, shaped as in the wrapped recurrent layer."""
        with ExitStack() as stack:
            for _, layer in self.analog_views():
                stack.enter_context(layer.same_weights())
            return run_recurrent(self._settings(), self.project, input, hx)

    def _settings(self) -> RecurrentSettings:
        """Return the settings of the recurrent layer as an object that `torch.compile` can trace."""
        return _Recurrent(**self._options, training=self.training)

    def __init__(self, digital: nn.Module) -> None:
        super().__init__(digital)
        self._options = {
            each.name: getattr(digital, each.name) for each in fields(_Recurrent) if each.name != "training"
        }


@final
class AnalogRecurrentCell(AnalogWrapper):
    """Wrapper that replaces `nn.RNNCell`, `nn.LSTMCell` or `nn.GRUCell` and runs some or all weight matrices on tiles."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Return the state after one time step. Arguments and results have the shapes of the wrapped cell."""
        return run_cell(self.__dict__["digital"], self.project, input, hx)


@final
class AnalogConvTranspose(AnalogWrapper):
    """Wrapper that runs a transposed convolution on tiles.

    The tiles receive the channels of one input position as one input vector and multiply the vector with the weights of
    all kernel positions. The products are added up digitally.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the transposed convolution of `input`. Arguments and result are those of the wrapped module's ``forward``."""
        conv = self.__dict__["digital"]
        n = len(conv.kernel_size)
        batched = input.ndim == n + 2
        geometry = (conv.stride, conv.padding, conv.kernel_size, n, conv.dilation)
        output_padding = conv._output_padding(input, output_size, *geometry)
        taps = self.project("", input if batched else input.unsqueeze(0))
        out = add_up_taps(taps, conv, tuple(output_padding))
        if conv.bias is not None:
            out = out + conv.bias.view(-1, *[1] * n).to(out.dtype)
        return like_convolution(out if batched else out.squeeze(0), input, conv.weight)


@final
class AnalogProduct(AnalogWrapper):
    """Wrapper of a module that computes one linear projection and is not an `nn.Linear`, such as Hugging Face's ``Conv1D``."""

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        """Return the outputs ``(..., out)`` of the projection for the one argument ``(..., in)``, whatever its name is."""
        (x,) = (*args, *kwargs.values())
        return self.project("", x)


@final
class AnalogInside(AnalogWrapper):
    """Wrapper for modules with their own ``forward``, in which products with analog weights are computed on tiles."""

    adds_bias = False

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result of ``forward`` of the wrapped module. The arguments are passed on unchanged."""
        digital: nn.Module = self.__dict__["digital"]
        with proxied(digital, self._proxies(digital)):
            return digital.forward(*args, **kwargs)

    def _proxies(self, digital: nn.Module) -> Mapping[str, WeightProxy]:
        found: dict[str, list[Projection]] = {}
        for view in self._views.values():
            found.setdefault(view.projection.weight, []).append(view.projection)
        proxies = {}
        for name, layouts in found.items():
            weight = find_tensor(digital, name)
            geometry = multiply_digitally(digital, layouts[0], weight)[1]
            proxies[name] = WeightProxy(
                weight, self._multiply(layouts), inputs_first=layouts[0].inputs_first, geometry=geometry
            )
        return proxies

    def _multiply(self, layouts: list[Projection]) -> Callable[[Tensor], Tensor]:
        wants_gradients = torch.is_grad_enabled()

        def multiply(x: Tensor) -> Tensor:
            if wants_gradients and not torch.is_grad_enabled():
                raise UnsupportedLayerError(
                    f"{type(self.__dict__['digital']).__name__}: its forward multiplies its weight without gradients, as in an "
                    "autograd function of its own, whose backward pass would not know the tiles",
                    hint="keep the layer digital, or run it under torch.no_grad()",
                )
            parts = [self.project(layout.name, x) for layout in layouts]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

        return multiply


def wrapper_for(module: nn.Module) -> type[AnalogWrapper] | None:
    """Return the wrapper class that replaces `module`, or None if an analog layer replaces the module without a wrapper."""
    if needs_proxy(module):
        return AnalogInside
    if isinstance(module, nn.MultiheadAttention):
        return AnalogMultiheadAttention
    if isinstance(module, nn.RNNBase):
        return AnalogRecurrent
    if isinstance(module, nn.RNNCellBase):
        return AnalogRecurrentCell
    if is_transposed_convolution(module):
        return AnalogConvTranspose
    return None if isinstance(module, nn.Linear) or is_convolution(module) else AnalogProduct


def wrapper_unsupported_reason(module: nn.Module) -> str:
    """Return the reason why no wrapper can replace `module`, or an empty string if the module can be replaced."""
    needs_ours = wrapper_for(module) not in (None, AnalogInside, AnalogProduct)
    return f"{type(module).__name__} overrides forward" if needs_ours and has_own_forward(module) else ""


def is_view(layer: nn.Module) -> bool:
    """Return whether `layer` is an analog layer that belongs to a wrapper."""
    return isinstance(getattr(layer, "digital", None), DigitalProjection)
