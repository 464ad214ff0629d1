"""Which modules hold projections, and how their parameters are laid out. One decorated function makes a new kind known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, final

from torch import Tensor, nn

from lionheart.errors import ConfigError
from lionheart.graph.convolutions import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS, is_convolution
from lionheart.registry import Registry


@final
@dataclass(frozen=True)
class Projection:
    """One weight matrix of a module, as a kind describes it.

    Args:
        layer_type: What it is called in graphs, for example ``linear``.
        rows: Inputs of one group's matrix.
        cols: Outputs of one group's matrix.
        groups: Number of such matrices.
        name: Within the module, for example ``in_proj.q``; empty when the module is the projection.
        weight: Parameter of the module that holds it, dotted where a child owns it.
        bias: Parameter that is added to its outputs, or None.
        outputs: First and last (exclusive) index of the weight's first dimension, where it holds several projections.
        bias_outputs: The same of the bias.
        inputs_first: The parameter is stored as ``(rows, cols)``, as in Hugging Face's ``Conv1D``.
        is_module: The module computes ``inputs @ matrix + bias`` over the last dimension and nothing else. Otherwise its own
            forward runs, and only the product in it is replaced.
    """

    layer_type: str
    rows: int
    cols: int
    groups: int = 1
    name: str = ""
    weight: str = "weight"
    bias: str | None = None
    outputs: tuple[int, int] | None = None
    bias_outputs: tuple[int, int] | None = None
    inputs_first: bool = False
    is_module: bool = False

    def fqn_in(self, module_fqn: str) -> str:
        """Return the projection's name in a model that has its module at `module_fqn`."""
        return ".".join(part for part in (module_fqn, self.name) if part)

    def stored_weight(self, module: nn.Module) -> Tensor:
        """Return the part of the module's parameter that holds it, a view."""
        return _part(find_tensor(module, self.weight), self.outputs)

    def stored_bias(self, module: nn.Module) -> Tensor | None:
        """Return the bias ``(groups * cols,)``, a view, or None."""
        return None if self.bias is None else _part(find_tensor(module, self.bias), self.bias_outputs)


def _part(whole: Tensor, outputs: tuple[int, int] | None) -> Tensor:
    return whole if outputs is None else whole[outputs[0] : outputs[1]]


Describe = Callable[[Any], list[Projection]]


@final
@dataclass(frozen=True)
class LayerType:
    """Modules that hold projections: those of a class, and of its subclasses.

    Args:
        module_type: The class, or its dotted name where importing it would be slow.
        describe: Returns the projections of such a module.
        is_wrapped: A forward of ours computes the analog module; a subclass with a forward of its own stays digital.
    """

    module_type: type[nn.Module] | str
    describe: Describe
    is_wrapped: bool = False


#: Layer types by the dotted names of their classes.
LAYER_TYPES: Registry[LayerType] = Registry("register_layer_type", "layer types")


def register_layer_type(
    module_type: type[nn.Module] | str, *, is_wrapped: bool = False
) -> Callable[[Describe], Describe]:
    """Make the modules of a type, and of its subclasses, known as holders of projections.

    The decorated function takes a module and returns its `Projection` list. The nearest ancestor of a module's class decides.
    A class that is defined again, as in a notebook, takes the place of the one that had its name.

    Args:
        module_type: The class, or its dotted name where importing it would be slow.
        is_wrapped: A wrapper in `lionheart.analog.layers.wrappers` computes the module's forward.

    Raises:
        ConfigError: The type is registered already.
    """

    def keep(describe: Describe) -> Describe:
        name = _dotted(module_type)
        if name in LAYER_TYPES:
            if LAYER_TYPES.find(name).module_type == module_type:
                raise ConfigError(
                    f"register_layer_type: {module_type} is registered already", hint="register a subclass"
                )
            LAYER_TYPES.remove(name)
        LAYER_TYPES.add(name, LayerType(module_type, describe, is_wrapped))
        return describe

    return keep


def unregister_layer_type(module_type: type[nn.Module] | str) -> None:
    """Forget a kind that `register_layer_type` made known."""
    LAYER_TYPES.remove(_dotted(module_type))


def _dotted(module_type: type | str) -> str:
    return module_type if isinstance(module_type, str) else f"{module_type.__module__}.{module_type.__qualname__}"


def _find_layer_type(module: nn.Module) -> tuple[type[nn.Module], LayerType] | None:
    """Return the nearest registered class among a module's class and its ancestors, with its layer type, or None."""
    return next(_layer_types(module), None)


def _layer_types(module: nn.Module) -> Iterator[tuple[type[nn.Module], LayerType]]:
    """Yield a module's class and its ancestors as far as they are registered, the nearest first."""
    for each in type(module).__mro__:
        name = _dotted(each)
        if name in LAYER_TYPES:
            found = LAYER_TYPES.find(name)
            if found.module_type in (each, name):  # else another class of the same name
                yield each, found


def describe_module(module: nn.Module) -> list[Projection]:
    """Return the projections of a module itself, without those of its children; none if no kind knows it."""
    found = _find_layer_type(module)
    return [] if found is None else found[1].describe(module)


def has_own_forward(module: nn.Module) -> bool:
    """Return whether a module of a known kind overrides the forward of the class that the kind is registered for."""
    found = _find_layer_type(module)
    return found is not None and type(module).forward is not found[0].forward


def needs_proxy(module: nn.Module) -> bool:
    """Return whether a module's own forward runs on stand-ins of its weights, because it may do more than the product."""
    projections = describe_module(module)
    if not projections or _is_wrapped(module):
        return False
    is_known = all(each.is_module for each in projections) or is_convolution(module)
    return has_own_forward(module) or not is_known


def _is_wrapped(module: nn.Module) -> bool:
    """Return whether a module's class or one of its ancestors is computed by a wrapper."""
    return any(found.is_wrapped for _, found in _layer_types(module))


def find_tensor(module: nn.Module, name: str) -> Tensor:
    """Return the parameter, buffer or attribute `name` of a module, dotted where a child owns it."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path) if path else module
    found = owner._parameters.get(leaf)  # before attributes: a stand-in may hide it
    return found if found is not None else cast(Tensor, getattr(owner, leaf))


@final
@dataclass(frozen=True)
class PlacedProjection:
    """A projection of a model.

    Args:
        fqn: Fully qualified name.
        module_fqn: Name of its module.
        module: Its module.
        projection: Its layout.
    """

    fqn: str
    module_fqn: str
    module: nn.Module
    projection: Projection

    @property
    def is_computed(self) -> bool:
        """Whether the weight is no parameter but computed from others, as by a parametrisation."""
        owner, _, leaf = self.projection.weight.rpartition(".")
        return leaf not in self.module.get_submodule(owner)._parameters

    def key(self) -> tuple[int, tuple[int, int] | None]:
        """Return what projections of one and the same weight have in common."""
        if self.is_computed:
            return id(self.module), self.projection.outputs
        return id(find_tensor(self.module, self.projection.weight)), self.projection.outputs


def find_projections(
    model: nn.Module, describe: Callable[[nn.Module], list[Projection]] = describe_module
) -> Iterator[PlacedProjection]:
    """Yield the projections of a model in the order of its modules; a module that appears twice comes once.

    A child whose weight its parent's kind claims, as the output projection of attention, is not asked.
    """
    claimed: set[int] = set()
    for fqn, module in model.named_modules():
        if id(module) in claimed:
            continue
        for projection in describe(module):
            path, _, _ = projection.weight.rpartition(".")
            if path:
                claimed.add(id(module.get_submodule(path)))
            yield PlacedProjection(projection.fqn_in(fqn), fqn, module, projection)


# -- PyTorch's own ------------------------------------------------------------------------------------------------------


def _bias(module: nn.Module, name: str = "bias") -> str | None:
    return name if getattr(module, name, None) is not None else None


@register_layer_type(nn.Linear)
def _describe_linear(linear: nn.Linear) -> list[Projection]:
    return [Projection("linear", linear.in_features, linear.out_features, bias=_bias(linear), is_module=True)]


@register_layer_type("transformers.pytorch_utils.Conv1D")
def _describe_hf_conv1d(layer: Any) -> list[Projection]:
    rows, cols = layer.weight.shape
    return [Projection("hf_conv1d", rows, cols, bias=_bias(layer), inputs_first=True, is_module=True)]


def _describe_convolution(layer_type: str, conv: nn.Conv2d) -> list[Projection]:
    rows = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
    return [Projection(layer_type, rows, conv.out_channels // conv.groups, conv.groups, bias=_bias(conv))]


def _describe_transposed(layer_type: str, conv: nn.ConvTranspose2d) -> list[Projection]:
    """Each input position is one vector; its products with the kernel's taps are added up digitally where they fall."""
    rows, cols = conv.in_channels // conv.groups, conv.out_channels // conv.groups * math.prod(conv.kernel_size)
    return [Projection(layer_type, rows, cols, conv.groups)]


for _each in CONVOLUTIONS:
    register_layer_type(_each.module_type)(partial(_describe_convolution, _each.layer_type))
for _each in TRANSPOSED_CONVOLUTIONS:
    register_layer_type(_each.module_type, is_wrapped=True)(partial(_describe_transposed, _each.layer_type))


@register_layer_type(nn.MultiheadAttention, is_wrapped=True)
def _describe_attention(attention: nn.MultiheadAttention) -> list[Projection]:
    size, bias = attention.embed_dim, _bias(attention, "in_proj_bias")
    projections = []
    for index, (name, rows) in enumerate(zip("qkv", (size, attention.kdim, attention.vdim), strict=True)):
        packed, part = attention._qkv_same_embed_dim, (index * size, (index + 1) * size)
        projections.append(
            Projection(
                "mha",
                rows,
                size,
                name=f"in_proj.{name}",
                weight="in_proj_weight" if packed else f"{name}_proj_weight",
                bias=bias,
                outputs=part if packed else None,
                bias_outputs=part,
            )
        )
    out_bias = "out_proj.bias" if attention.out_proj.bias is not None else None
    return [*projections, Projection("mha", size, size, name="out_proj", weight="out_proj.weight", bias=out_bias)]


@register_layer_type(nn.RNN, is_wrapped=True)
@register_layer_type(nn.LSTM, is_wrapped=True)
@register_layer_type(nn.GRU, is_wrapped=True)
def _describe_recurrent(rnn: nn.RNNBase) -> list[Projection]:
    """All gates of a layer read the same vector, so they are the columns of one matrix; one for inputs, one for states."""
    layer_type, projections = rnn.mode.lower().partition("_")[0], []
    for layer in range(rnn.num_layers):
        for suffix in ("", "_reverse") if rnn.bidirectional else ("",):
            for part in ("ih", "hh", "hr") if rnn.proj_size else ("ih", "hh"):
                weight = f"weight_{part}_l{layer}{suffix}"
                cols, rows = getattr(rnn, weight).shape
                bias = _bias(rnn, f"bias_{part}_l{layer}{suffix}")
                projections.append(
                    Projection(layer_type, rows, cols, name=weight.removeprefix("weight_"), weight=weight, bias=bias)
                )
    return projections


@register_layer_type(nn.RNNCell, is_wrapped=True)
@register_layer_type(nn.LSTMCell, is_wrapped=True)
@register_layer_type(nn.GRUCell, is_wrapped=True)
def _describe_cell(cell: nn.RNNCellBase) -> list[Projection]:
    layer_type, projections = type(cell).__name__.removesuffix("Cell").lower(), []
    for part in ("ih", "hh"):
        cols, rows = getattr(cell, f"weight_{part}").shape
        bias = _bias(cell, f"bias_{part}")
        projections.append(Projection(layer_type, rows, cols, name=part, weight=f"weight_{part}", bias=bias))
    return projections
