"""Models with analog layers under `torch.compile`, which fuses converters, noise and sums with neighbouring operations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lionheart.analog.base import AnalogLayer
from lionheart.analog.convert import analog_layers

_numbers = itertools.count()


def compile_model_(model: nn.Module, **options: Any) -> nn.Module:
    """Compile a model with analog layers in place, like `nn.Module.compile`, for evaluation and training.

    Steps that cannot be compiled run before each pass: preparing the weights of a programmed chip, drawing HWA noise that
    programs devices, and choosing the slices of the noise pool. Compilation takes tens of seconds in each mode (``eval()``,
    ``train()``) and needs a C++ compiler. Only the shapes of the first inputs in each mode are compiled. Inputs of other shapes
    run eagerly, unless `options` contain ``dynamic=True``. If a layer has no input range, the pass that sets it is eager.

    Args:
        model: Model with analog layers, changed in place. `uncompile_` undoes the change; copies of the model are not compiled.
        options: Keyword arguments of `torch.compile`.

    Returns:
        The same model.
    """
    uncompile_(model)
    eager: Callable[..., Any] = model._call_impl

    def forward(
        *args: Any, **kwargs: Any
    ) -> Any:  # own frame, because PyTorch does not compile those of its containers
        return eager(*args, **kwargs)

    compiled = torch.compile(_with_own_code(forward), **options)
    first_shapes: dict[tuple[bool, bool], list[Any]] = {}

    def run(*args: Any, **kwargs: Any) -> Any:
        layers = list(analog_layers(model).values())
        shapes = [(x.shape, x.dtype) for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        first = first_shapes.setdefault((model.training, torch.is_grad_enabled()), shapes)
        is_known = options.get("dynamic") or shapes == first
        if not is_known or not all([layer.check_range() for layer in layers]):
            return eager(*args, **kwargs)
        _begin_pass(layers)
        try:
            return compiled(*args, **kwargs)
        finally:
            _end_pass(layers)

    model._compiled_call_impl = run
    return model


def uncompile_(model: nn.Module) -> nn.Module:
    """Undo `compile_model_`, so that the model runs eagerly again."""
    model._compiled_call_impl = None
    return model


def _begin_pass(layers: list[AnalogLayer]) -> None:
    for source in {id(layer.noise): layer.noise for layer in layers}.values():
        source.begin_pass()
    for layer in layers:
        layer.prepare_pass_()


def _end_pass(layers: list[AnalogLayer]) -> None:
    for layer in layers:
        layer.noise.end_pass()
        layer.end_pass_()


def _with_own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a function with its own code object, because PyTorch limits the recompilations of each code object."""
    code = function.__code__.replace(co_name=f"forward_{next(_numbers)}")
    return FunctionType(code, function.__globals__, closure=function.__closure__)
