"""Compilation of models with analog layers by `torch.compile`.

The compiler fuses the operations for converters, noise and partial sums with neighbouring operations.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    Steps that cannot be compiled run before each forward pass. These steps prepare the weights of a programmed chip, draw the
    hardware-aware training noise that simulates devices, and choose the random numbers that the pass uses.

    Compilation takes tens of seconds in each mode (``eval()``, ``train()``) and needs a C++ compiler. In each mode, the model
    is compiled for the shapes of the first inputs. Inputs with other shapes run eagerly, unless ``dynamic=True`` is passed.
    The first forward pass also runs eagerly if it has to set an input range.

    Args:
        model: Model with analog layers, changed in place. `uncompile_` undoes the change. Copies of the model are not compiled.
        options: Keyword arguments for `torch.compile`.

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
    """Undo `compile_model_` in place and return `model`, which then runs eagerly again."""
    model._compiled_call_impl = None
    return model


@contextmanager
def running_eagerly(model: nn.Module) -> Iterator[None]:
    """Within the context, a model that `compile_model_` has compiled runs eagerly, for example with hooks on its layers."""
    compiled = model._compiled_call_impl
    model._compiled_call_impl = None
    try:
        yield
    finally:
        model._compiled_call_impl = compiled


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
    """Return a copy of `function` with a new code object, as PyTorch limits how often one code object is compiled."""
    code = function.__code__.replace(co_name=f"forward_{next(_numbers)}")
    return FunctionType(code, function.__globals__, closure=function.__closure__)
