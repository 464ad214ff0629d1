"""Reasons why an analog layer cannot replace a layer because of what is attached to the layer or wrapped around it."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

_DISTRIBUTED = ("DistributedDataParallel", "FullyShardedDataParallel")


def find_attached_reason(model: nn.Module, fqn: str, module: nn.Module) -> str:
    """Return the reason why no analog layer can replace a layer, or an empty string.

    Args:
        model: Model that contains the layer.
        fqn: Fully qualified name of the layer in the model.
        module: The layer.
    """
    if type(module).__call__ is not nn.Module.__call__:
        return f"{type(module).__name__} overrides __call__"
    if any(is_lazy(each) for each in module.parameters(recurse=False)):
        return "the weight has no shape before the first batch (lazy layer)"
    parts = fqn.split(".") if fqn else []
    for depth in range(len(parts)):
        around = model.get_submodule(".".join(parts[:depth]))
        name = type(around).__name__
        if name == "OptimizedModule" and around.get_submodule("_orig_mod") is module:
            return "the layer is compiled by itself, and the compiled code would go on without tiles"
        if isinstance(around, nn.DataParallel) and len(around.device_ids) > 1:
            return f"{name} runs the layer on {len(around.device_ids)} devices, which cannot share a source of noise"
        if name in _DISTRIBUTED:
            return f"{name} has registered the parameters of the digital layer; convert the module inside, then wrap it"
    return ""


def has_replaced_forward(module_type: type[nn.Module]) -> bool:
    """Return whether the forward of a class was replaced after the class was defined, as ``nn.Linear.forward = ...`` does."""
    owner = next(each for each in module_type.__mro__ if "forward" in each.__dict__)
    forward = owner.__dict__["forward"]
    if hasattr(forward, "__wrapped__"):
        return True
    name, module = getattr(forward, "__qualname__", None), getattr(forward, "__module__", None)
    return (module, name) != (owner.__module__, f"{owner.__qualname__}.forward")
