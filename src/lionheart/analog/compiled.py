"""Whole models with analog layers under `torch.compile`: converters, noise and sums run in the passes of their neighbours."""

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

    What cannot be compiled is done before each pass: programmed chips are taken as they are, HWA noise that programs devices
    is drawn, and the output noise gets its place in the pool. Compilation takes tens of seconds in each mode (``eval()``,
    ``train()``) and needs a C++ compiler; so only the shapes of the first inputs in each mode are compiled, others run eagerly,
    unless `options` say ``dynamic=True``. Layers without an input range take theirs in a first eager pass.

    Args:
        model: With analog layers; changed in place. `uncompile_` undoes it, a copy of the model is not compiled.
        options: For `torch.compile`.

    Returns:
        The model.
    """
    uncompile_(model)
    eager: Callable[..., Any] = model._call_impl

    def forward(*args: Any, **kwargs: Any) -> Any:  # a frame of ours: PyTorch does not compile its own containers'
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
    """Run a model eagerly again."""
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
    """Return a twin with code of its own: PyTorch gives up on a function that was compiled for too many models."""
    code = function.__code__.replace(co_name=f"forward_{next(_numbers)}")
    return FunctionType(code, function.__globals__, closure=function.__closure__)
