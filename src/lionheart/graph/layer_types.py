"""Layer types, each of which describes the projections (weight matrices) in the modules of one class.

A layer type is added with the decorator `register_layer_type`. The decorated function takes a module and returns the
projections of this module, with the names of the parameters that store the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, final

from torch import Tensor, nn

from lionheart.errors import ConfigError, check_type
from lionheart.graph.attachments import has_replaced_forward
from lionheart.graph.convolutions import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS, is_convolution
from lionheart.registry import Registry


@final
@dataclass(frozen=True)
class Projection:
    """A weight matrix in a module, and the parameters of the module that store the matrix and its bias.

    Args:
        layer_type: Name of the layer type in graphs, for example ``linear``.
        rows: Number of inputs of the weight matrix of one group.
        cols: Number of outputs of the weight matrix of one group.
        groups: Number of groups. Each group has its own weight matrix.
        name: Name of the projection within the module, for example ``in_proj.q``. If empty, the projection has the name of the
            module.
        weight: Name of the parameter that stores the weight. The name is dotted if a child module owns the parameter.
        bias: Name of the parameter that stores the bias, which is added to the outputs. None for no bias.
        outputs: First and last (exclusive) index of the projection along the first dimension of the parameter `weight`, if
            this parameter stores several projections. None if the projection is the whole parameter.
        bias_outputs: First and last (exclusive) index of the elements of the parameter `bias` that belong to the projection.
            None for all elements.
        inputs_first: Whether the weight is stored as ``(rows, cols)``, as in Hugging Face's ``Conv1D``, instead of
            ``(cols, rows)``.
        is_module: Whether the module computes only ``inputs @ matrix + bias`` over the last dimension of its inputs. If False,
            the analog version of the module runs the original forward, in which only the product is replaced. This flag has no
            effect for convolutions and for layer types that are registered with ``is_wrapped=True``.
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
        """Return the fully qualified name of the projection (weight matrix) in a model.

        Args:
            module_fqn: Fully qualified name of the module that contains the projection.
        """
        return ".".join(name for name in (module_fqn, self.name) if name)

    def stored_weight(self, module: nn.Module) -> Tensor:
        """Return the weight matrix of the projection as a view of the parameter of `module` that stores this matrix.

        The view has the same dimensions, in the same order, as the parameter.
        """
        return _slice(find_tensor(module, self.weight), self.outputs)

    def stored_bias(self, module: nn.Module) -> Tensor | None:
        """Return the bias of the projection (weight matrix), or None if the projection has no bias.

        The bias has the shape ``(groups * cols,)`` and is a view of the parameter of `module` that stores the bias.
        """
        return None if self.bias is None else _slice(find_tensor(module, self.bias), self.bias_outputs)


def _slice(whole: Tensor, outputs: tuple[int, int] | None) -> Tensor:
    return whole if outputs is None else whole[outputs[0] : outputs[1]]


Describe = Callable[[Any], list[Projection]]


@final
@dataclass(frozen=True)
class LayerType:
    """A layer type: a module class, and a function that returns the projections (weight matrices) of its modules.

    Args:
        module_type: Module class, or its dotted name if importing the class is slow. The layer type also applies to subclasses.
        describe: Function that takes a module of this class and returns its projections.
        is_wrapped: Whether the analog version of a module runs a forward from `lionheart.analog.layers.wrappers` instead of the
            original forward. If True, a module whose class overrides the forward of the registered class stays digital.
    """

    module_type: type[nn.Module] | str
    describe: Describe
    is_wrapped: bool = False


#: Layer types by the dotted names of their classes.
LAYER_TYPES: Registry[LayerType] = Registry("register_layer_type", "layer types")


def register_layer_type(
    module_type: type[nn.Module] | str, *, is_wrapped: bool = False
) -> Callable[[Describe], Describe]:
    """Return a decorator that registers a layer type for a module class and its subclasses.

    The decorated function takes a module and returns a list with one `Projection` for each weight matrix in the module. If
    several classes in the inheritance chain of a module are registered, the nearest class is used. If a class is defined again,
    for example in a notebook, its new definition replaces the registered class with the same name.

    Args:
        module_type: Module class, or its dotted name if importing the class is slow.
        is_wrapped: Whether the analog version of a module runs a forward from `lionheart.analog.layers.wrappers` instead of the
            original forward.

    Raises:
        ConfigError: `module_type` is neither a class nor a string, or a layer type is already registered for this class.
    """
    check_type(module_type, (type, str), "register_layer_type", hint="give a module class, or its dotted name")

    def keep(describe: Describe) -> Describe:
        name = _dotted(module_type)
        if name in LAYER_TYPES:
            if LAYER_TYPES.find(name).module_type == module_type:
                raise ConfigError(
                    f"register_layer_type: a layer type for {module_type} is already registered",
                    hint="remove this layer type with unregister_layer_type first, or register a subclass",
                )
            LAYER_TYPES.remove(name)
        LAYER_TYPES.add(name, LayerType(module_type, describe, is_wrapped))
        return describe

    return keep


def unregister_layer_type(module_type: type[nn.Module] | str) -> None:
    """Remove the layer type that was registered for a module class with `register_layer_type`.

    Args:
        module_type: Module class, or its dotted name. A class without a registered layer type is ignored.
    """
    LAYER_TYPES.remove(_dotted(module_type))


def _dotted(module_type: type | str) -> str:
    return module_type if isinstance(module_type, str) else f"{module_type.__module__}.{module_type.__qualname__}"


def _find_layer_type(module: nn.Module) -> tuple[type[nn.Module], LayerType] | None:
    """Return the layer type that applies to a module, as a pair ``(class, layer type)``.

    The class is the first class in the inheritance chain of the module for which a layer type is registered. Return None if no
    class in the chain is registered.
    """
    return next(_layer_types(module), None)


def _layer_types(module: nn.Module) -> Iterator[tuple[type[nn.Module], LayerType]]:
    """Yield a pair ``(class, layer type)`` for each registered class in the inheritance chain of a module.

    Subclasses precede their base classes.
    """
    for each in type(module).__mro__:
        name = _dotted(each)
        if name in LAYER_TYPES:
            found = LAYER_TYPES.find(name)
            if found.module_type in (each, name):  # not another class of the same name
                yield each, found


def describe_module(module: nn.Module) -> list[Projection]:
    """Return the projections (weight matrices) of a module according to its layer type.

    The list is empty if no layer type is registered for the class of the module or for a base class. Child modules are not
    searched for projections.
    """
    found = _find_layer_type(module)
    return [] if found is None else found[1].describe(module)


def has_own_forward(module: nn.Module) -> bool:
    """Return whether a module overrides the forward of the registered class in its inheritance chain.

    The registered class is the first class in the chain for which a layer type is registered. Return False if there is no such
    class. The forward may be overridden by a subclass, by the attribute ``forward`` of the module, or by an assignment to the
    registered class.
    """
    found = _find_layer_type(module)
    if found is None:
        return False
    is_replaced = "forward" in module.__dict__ or has_replaced_forward(found[0])
    return is_replaced or type(module).forward is not found[0].forward


def needs_proxy(module: nn.Module) -> bool:
    """Return whether the analog version of a module must run the original forward with weight proxies.

    A weight proxy replaces a weight while the forward runs, so that the products with the weight can be computed on tiles.
    Proxies are needed if the forward may compute more than a product with the weight and the addition of a bias.
    """
    projections = describe_module(module)
    if not projections or _is_wrapped(module):
        return False
    is_known = all(each.is_module for each in projections) or is_convolution(module)
    return has_own_forward(module) or not is_known


def _is_wrapped(module: nn.Module) -> bool:
    """Return whether a class in the inheritance chain of a module is registered with ``is_wrapped=True``."""
    return any(found.is_wrapped for _, found in _layer_types(module))


def find_tensor(module: nn.Module, name: str) -> Tensor:
    """Return the parameter, buffer or attribute `name` of a module.

    The name is dotted if a child module owns the tensor, for example ``out_proj.weight``.
    """
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path) if path else module
    found = owner._parameters.get(leaf)  # before attributes, because a weight proxy may hide the parameter
    return found if found is not None else cast(Tensor, getattr(owner, leaf))


@final
@dataclass(frozen=True)
class PlacedProjection:
    """A projection (weight matrix) in a model, with its name and the module that contains it.

    Args:
        fqn: Fully qualified name of the projection.
        module_fqn: Fully qualified name of the module that contains the projection.
        module: Module that contains the projection.
        projection: Layout of the projection in the parameters of the module.
    """

    fqn: str
    module_fqn: str
    module: nn.Module
    projection: Projection

    @property
    def is_computed(self) -> bool:
        """Whether the weight is not a parameter but is computed from other parameters, for example by a parametrisation."""
        owner, _, leaf = self.projection.weight.rpartition(".")
        return leaf not in self.module.get_submodule(owner)._parameters

    def key(self) -> tuple[int, tuple[int, int] | None]:
        """Return a dictionary key that is the same for all projections (weight matrices) that use the same weight.

        The key is the `id` of the parameter that stores the weight and the field `outputs` of the projection. If the weight is
        computed from other parameters, the `id` of the module is used instead.
        """
        if self.is_computed:
            return id(self.module), self.projection.outputs
        return id(find_tensor(self.module, self.projection.weight)), self.projection.outputs


def find_projections(
    model: nn.Module, describe: Callable[[nn.Module], list[Projection]] = describe_module
) -> Iterator[PlacedProjection]:
    """Yield the projections (weight matrices) of a model in the order of its modules.

    If a model contains a module several times, its projections are yielded once. A child module is skipped if a projection of
    its parent uses the weight of the child. An example is the child ``out_proj`` of `nn.MultiheadAttention`.

    Args:
        model: Model to search.
        describe: Function that takes one module and returns the projections in this module.
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


# -- layer types of PyTorch ---------------------------------------------------------------------------------------------


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
    """Return a list with the projection (weight matrix) of a transposed convolution.

    The matrix multiplies one vector for each input position. Products that belong to the same output position are added
    digitally.
    """
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
        packed, outputs = attention._qkv_same_embed_dim, (index * size, (index + 1) * size)
        projections.append(
            Projection(
                "mha",
                rows,
                size,
                name=f"in_proj.{name}",
                weight="in_proj_weight" if packed else f"{name}_proj_weight",
                bias=bias,
                outputs=outputs if packed else None,
                bias_outputs=outputs,
            )
        )
    out_bias = "out_proj.bias" if attention.out_proj.bias is not None else None
    return [*projections, Projection("mha", size, size, name="out_proj", weight="out_proj.weight", bias=out_bias)]


@register_layer_type(nn.RNN, is_wrapped=True)
@register_layer_type(nn.LSTM, is_wrapped=True)
@register_layer_type(nn.GRU, is_wrapped=True)
def _describe_recurrent(rnn: nn.RNNBase) -> list[Projection]:
    """Return the projections (weight matrices) of a recurrent layer.

    All gates read the same vector, so the weights of all gates form one matrix. The inputs and the hidden states have separate
    matrices. An LSTM with ``proj_size`` also has a matrix that projects the hidden states.
    """
    layer_type, projections = rnn.mode.lower().partition("_")[0], []
    for layer in range(rnn.num_layers):
        for suffix in ("", "_reverse") if rnn.bidirectional else ("",):
            for matrix in ("ih", "hh", "hr") if rnn.proj_size else ("ih", "hh"):
                weight = f"weight_{matrix}_l{layer}{suffix}"
                cols, rows = getattr(rnn, weight).shape
                bias = _bias(rnn, f"bias_{matrix}_l{layer}{suffix}")
                projections.append(
                    Projection(layer_type, rows, cols, name=weight.removeprefix("weight_"), weight=weight, bias=bias)
                )
    return projections


@register_layer_type(nn.RNNCell, is_wrapped=True)
@register_layer_type(nn.LSTMCell, is_wrapped=True)
@register_layer_type(nn.GRUCell, is_wrapped=True)
def _describe_cell(cell: nn.RNNCellBase) -> list[Projection]:
    layer_type, projections = type(cell).__name__.removesuffix("Cell").lower(), []
    for matrix in ("ih", "hh"):
        cols, rows = getattr(cell, f"weight_{matrix}").shape
        bias = _bias(cell, f"bias_{matrix}")
        projections.append(Projection(layer_type, rows, cols, name=matrix, weight=f"weight_{matrix}", bias=bias))
    return projections
