"""Cache of the digital prefix: modules before the first analog layer give the same outputs on every chip and run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lionheart.analog import AnalogLayer


def find_prefix(model: nn.Module, run: Callable[[], Any]) -> list[nn.Module]:
    """Return the outermost modules that run once and finish before the first analog layer starts, in the order of their runs.

    Args:
        model: Model with analog layers.
        run: Function that runs the model once.
    """
    finished: list[nn.Module] = []
    calls: dict[nn.Module, int] = {}
    begun = False

    def enter(module: nn.Module, args: Any) -> None:
        nonlocal begun
        begun = begun or isinstance(module, AnalogLayer)
        calls[module] = calls.get(module, 0) + 1

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if not begun:
            finished.append(module)

    handles = [module.register_forward_pre_hook(enter) for module in model.modules()]
    handles += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    inside = {inner for module in finished for inner in module.modules() if inner is not module}
    return [module for module in finished if module not in inside and calls[module] == 1]


class PrefixCache:
    """Outputs of modules for the current batch. Call `clear` before the next batch."""

    def __init__(self) -> None:
        self._outputs: dict[nn.Module, tuple[Any, list[int]]] = {}

    def clear(self) -> None:
        """Discard all outputs."""
        self._outputs.clear()

    def output_of(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the output of `forward` for the current batch; compute it again if it was modified in place."""
        if module in self._outputs:
            output, versions = self._outputs[module]
            if versions == _versions(output):
                return output
        output = forward(*args, **kwargs)
        self._outputs[module] = (output, _versions(output))
        return output


@contextmanager
def computing_once(modules: list[nn.Module]) -> Iterator[PrefixCache]:
    """Within the context, let each module compute only once until the cache is cleared."""
    cache = PrefixCache()
    try:
        for module in modules:
            module.__dict__["forward"] = _cached(cache, module, module.forward)
        yield cache
    finally:
        for module in modules:
            module.__dict__.pop("forward", None)


def _cached(cache: PrefixCache, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    def lookup(*args: Any, **kwargs: Any) -> Any:
        return cache.output_of(module, forward, *args, **kwargs)

    return cast(Callable[..., Any], torch.compiler.disable(lookup))  # type: ignore[no-untyped-call]


def _versions(output: Any) -> list[int]:
    return [leaf._version for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
