"""Run a model once and write down its work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lionheart.errors import GraphError
from lionheart.graph.nodes import DigitalOp, LayerGraph, LayerNode

PROJECTION_KINDS: dict[type[nn.Module], str] = {
    nn.Linear: "linear",
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Conv3d: "conv3d",
}
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "_scaled_dot_product")
_NO_WORK = {
    *("view", "reshape", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "slice", "select", "detach"),
    *("alias", "_to_copy", "clone", "contiguous", "as_strided", "split", "chunk", "unbind", "_unsafe_view"),
    *("empty", "empty_like"),
}
_NAMES = {
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "cudnn_batch_norm": "batch_norm",
    "_adaptive_avg_pool2d": "avg_pool",
    "avg_pool2d": "avg_pool",
    "mean": "avg_pool",
    "max_pool2d_with_indices": "max_pool",
    "native_layer_norm": "layer_norm",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
}


def kind_of(module: nn.Module) -> str | None:
    """Return the kind of projection that `module` is, subclasses included, or None."""
    return next((kind for base, kind in PROJECTION_KINDS.items() if isinstance(module, base)), None)


def obstacle_of(module: nn.Module) -> str:
    """Return why another layer cannot take the place of a projection module, or an empty string."""
    if not isinstance(module.weight, nn.Parameter):
        return "its weight is computed (parametrised)"
    if type(module).forward not in {kind.forward for kind in PROJECTION_KINDS}:
        return f"{type(module).__name__} has a forward of its own"
    return ""


def matrix_shape(module: nn.Module) -> tuple[int, int, int]:
    """Return ``(rows, cols, groups)`` of a projection module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features, 1
    conv = cast(nn.Conv2d, module)
    rows = conv.in_channels // conv.groups * math.prod(conv.kernel_size)
    return rows, conv.out_channels // conv.groups, conv.groups


class _Call:
    """Sizes of one layer, summed over its calls."""

    def __init__(self) -> None:
        self.n_calls = self.n_inputs = self.n_outputs = 0


class _OperationLog(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every tensor operation that is more than a view or an allocation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[str, list[int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        if name not in _NO_WORK and not name.startswith(_PRODUCTS):
            outputs = result if isinstance(result, (tuple, list)) else (result,)
            first = next((item for item in outputs if isinstance(item, Tensor)), None)
            if first is not None:
                entry = self.sizes.setdefault(_NAMES.get(name, name), [0, 0, 0])
                entry[0] += 1
                entry[1] += first.numel()
                entry[2] += sum(item.numel() for item in tree_leaves(args) if isinstance(item, Tensor))
        return result


def trace_graph(model: nn.Module, example_inputs: Any) -> LayerGraph:
    """Run `model` once in ``eval()`` and describe every operation.

    Args:
        model: Left exactly as it was, mode included.
        example_inputs: Inputs of one inference (batch 1): a tensor, a tuple of arguments, or a dict of keyword arguments.

    Returns:
        The graph; products outside known projections (attention scores, calls on bare parameters) are in ``other_ops``.

    Raises:
        GraphError: The forward pass fails, or the model has no projection.
    """
    calls: dict[str, _Call] = {}
    handles = [
        module.register_forward_hook(_recorder(calls, fqn))
        for fqn, module in model.named_modules()
        if kind_of(module) is not None
    ]
    was_training = {module: module.training for module in model.modules()}
    log, flops = _OperationLog(), FlopCounterMode(display=False)
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # like a fused attention kernel, it would hide its products
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), log, flops:
            call_model(model, example_inputs)
    except Exception as error:
        raise GraphError(
            f"{type(model).__name__}: the forward pass failed on the example inputs: {type(error).__name__}: {error}",
            hint="check that the model runs on one batch of its validation data",
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for handle in handles:
            handle.remove()
        for module, mode in was_training.items():
            module.training = mode
    nodes = _describe_projections(model, calls)
    if not nodes:
        raise GraphError(
            f"{type(model).__name__}: no linear or convolution layer ran",
            hint="is this the right model, and the right inputs?",
        )
    ops = [DigitalOp(name, *sizes) for name, sizes in log.sizes.items()]
    hidden_macs = flops.get_total_flops() // 2 - sum(node.macs for node in nodes)
    if hidden_macs > 0:
        ops.append(DigitalOp("product outside known projections", 0, 0, 0, macs=hidden_macs))
    return LayerGraph(nodes=tuple(nodes), other_ops=tuple(ops))


def _recorder(calls: dict[str, _Call], fqn: str) -> Callable[[nn.Module, Any, Any], None]:
    def record(module: nn.Module, inputs: Sequence[Any], output: Tensor) -> None:
        call = calls.setdefault(fqn, _Call())
        call.n_calls += 1
        call.n_inputs += inputs[0].numel() if inputs else 0
        call.n_outputs += output.numel()

    return record


def _describe_projections(model: nn.Module, calls: Mapping[str, _Call]) -> list[LayerNode]:
    owners: dict[int, str] = {}
    nodes = []
    modules = dict(model.named_modules())
    weights = {fqn: modules[fqn].weight for fqn in calls}  # held: a parametrised weight is a new object at each access
    for fqn, call in calls.items():
        module = modules[fqn]
        rows, cols, groups = matrix_shape(module)
        owner = owners.setdefault(id(weights[fqn]), fqn)
        nodes.append(
            LayerNode(
                fqn=fqn,
                kind=kind_of(module) or "",
                rows=rows,
                cols=cols,
                groups=groups,
                n_mvms=call.n_outputs // (cols * groups),
                n_calls=call.n_calls,
                n_inputs=call.n_inputs,
                n_outputs=call.n_outputs,
                has_bias=module.bias is not None,
                tied_to=None if owner == fqn else owner,
                obstacle=obstacle_of(module),
            )
        )
    return nodes


def call_model(model: Callable[..., Any], inputs: Any) -> Any:
    """Call `model` with a tensor, a tuple of arguments or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)
