"""Cache for the outputs of the modules that run before the first analog layer.

The outputs of these digital modules are the same on every chip, so the modules run only once for each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lionheart.analog import AnalogLayer


def find_prefix(model: nn.Module, run: Callable[[], Any]) -> list[nn.Module]:
    """Return the modules whose outputs are the same on every chip, in the order in which the modules finish.

    A module is returned if it runs exactly once, and finishes before the first analog layer starts. Submodules of a module that
    finishes before the first analog layer are omitted.

    Args:
        model: Model with analog layers.
        run: Function without arguments that runs the model once.
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
    """Cache for the outputs of modules on the current batch. The method `clear` must be called before the next batch."""

    def __init__(self) -> None:
        self._outputs: dict[nn.Module, tuple[Any, list[int]]] = {}

    def clear(self) -> None:
        """Discard all cached outputs."""
        self._outputs.clear()

    def output_of(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the cached output of a module for the current batch.

        If no output is cached, or the cached output was modified in place, call `forward` with `args` and `kwargs`, and cache
        the result.
        """
        if module in self._outputs:
            output, versions = self._outputs[module]
            if versions == _versions(output):
                return output
        output = forward(*args, **kwargs)
        self._outputs[module] = (output, _versions(output))
        return output


@contextmanager
def computing_once(modules: list[nn.Module]) -> Iterator[PrefixCache]:
    """Cache the outputs of `modules` within the context, and yield the cache.

    Each module runs once. Further calls of the module return the cached output until the cache is cleared.
    """
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
