"""Whether a long evaluation or retraining runs under `torch.compile`, and what happens if the compiler fails."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lionheart.analog import analog_layers, compile_model_, uncompile_
from lionheart.data import device_of

_WORTH_COMPILING = 1_000  # passes: each saves some 0.1 s of a small network, compiling takes a minute
_WORTH_COMPILING_MACS = 2e12  # MACs: one to two minutes of a CPU core, of which compiling saves nearly half
_FEWEST_PASSES = 100  # fewer passes of a large network save less than a minute
_COMPILERS = ("c++", "g++", "clang++")


@contextmanager
def compiling(model: nn.Module, n_passes: int, *, enabled: bool | None, n_macs: float = 0.0) -> Iterator[None]:
    """Run the model under `torch.compile` inside the ``with`` block, if the block is long enough to save time.

    Args:
        model: Model to compile, changed in place; reverted at the end of the block.
        n_passes: Number of forward passes in the block.
        enabled: True = compile if there are at least 1000 passes; False = never; None = compile if the block has at least 2e12
            MACs, runs on a CPU with our simulator, and a C++ compiler is installed. If compilation then fails, the model runs
            eagerly.
        n_macs: Number of MACs of all passes together; only used if `enabled` is None.
    """
    if enabled is None:
        is_worth = n_macs >= _WORTH_COMPILING_MACS and n_passes >= _FEWEST_PASSES and _has_compiler(model)
    else:
        is_worth = enabled and n_passes >= _WORTH_COMPILING
    if not is_worth:
        yield
        return
    eager: Callable[..., Any] = model._call_impl
    compile_model_(model)
    compiled = model._compiled_call_impl
    if enabled is None and compiled is not None:
        model._compiled_call_impl = _or_eagerly(model, compiled, eager)
    try:
        yield
    finally:
        uncompile_(model)


def _has_compiler(model: nn.Module) -> bool:
    """Return whether the model has layers of our simulator, on a CPU for which compiled code can be built."""
    if not analog_layers(model) or device_of(model).type != "cpu":
        return False
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), *_COMPILERS) if name)


def _or_eagerly(model: nn.Module, compiled: Callable[..., Any], eager: Callable[..., Any]) -> Callable[..., Any]:
    """Return a forward pass that runs compiled, and eagerly from the first failure of the compiler on."""
    from torch._dynamo.exc import TorchDynamoException

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return compiled(*args, **kwargs)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            warnings.warn(f"torch.compile failed, so the network runs eagerly: {reason}", stacklevel=2)
            model._compiled_call_impl = None
            return eager(*args, **kwargs)

    return run
