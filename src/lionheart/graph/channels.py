"""Channels of activations: which parameters divide or multiply a channel between two layers without changing the outputs.

A channel may be divided by a factor in the parameters that produce it, and multiplied by this factor in the weights that read
it, if every operation between them passes the factor on. The channels are followed through the operations of one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lionheart.data import call_model, eval_mode
from lionheart.errors import GraphError, check_type
from lionheart.graph.channel_book import ChannelBook, ChannelMap
from lionheart.graph.channel_rules import follow_operation


def find_channels(model: nn.Module, inputs: Any) -> ChannelMap:
    """Find the channels of a network whose factors are free, and their largest magnitudes on `inputs`.

    The channels of a layer are free if its outputs reach only weights of projections, through operations that pass a positive
    factor of a channel on: ReLU and leaky ReLU, pooling, products with values that do not depend on the channel, sums over
    other dimensions, and changes of shape. Every other use of a channel, such as a sum with another tensor, keeps its factor 1.

    Args:
        model: Model in floating point. It runs once, in ``eval()`` mode. It is not changed.
        inputs: One batch of inputs: a tensor, a tuple of arguments or a dict of keyword arguments.

    Raises:
        GraphError: The forward pass fails.

    Assumes:
        The operations do not depend on the values of the inputs. What the forward pass stores in attributes is not read later.
    """
    check_type(model, nn.Module, "model", hint="pass the network itself")
    book = ChannelBook(model)
    try:
        with _watching(model, book), _Follower(book):
            output = call_model(model, inputs)
    except Exception as error:
        raise GraphError(
            f"{type(model).__name__}: the forward pass failed on the inputs: {type(error).__name__}: {error}",
            hint="check that the model itself runs on these inputs",
        ) from error
    book.block(tree_leaves(output), "the network returns it")
    return book.close()


@final
class _Follower(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the channels through every tensor operation of a forward pass, after the operation has run."""

    def __init__(self, book: ChannelBook) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._book = book

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        follow_operation(self._book, func, args, kwargs or {}, result)
        return result


@contextmanager
def _watching(model: nn.Module, book: ChannelBook) -> Iterator[None]:
    """Prepare a model for the forward pass within the context: no fused attention, and hooks of users seen."""
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    handles = []

    def watch(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        book.block(tree_leaves((args, kwargs, output)), f"{type(module).__name__} has a hook, which may read it")

    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # it supports no hooks
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            handles.append(module.register_forward_hook(watch, with_kwargs=True))
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with eval_mode(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for handle in handles:
            handle.remove()
