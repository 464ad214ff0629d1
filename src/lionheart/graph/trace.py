"""Trace a model: run one forward pass, and record every projection (weight matrix) and every other operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lionheart.data import call_model, eval_mode
from lionheart.errors import GraphError, check_type
from lionheart.graph.layer_types import PlacedProjection, find_tensor
from lionheart.graph.nodes import LayerGraph
from lionheart.graph.ops import NAMES, NO_WORK, factors_of, has_addend, macs_of
from lionheart.graph.proxy import WeightProxy
from lionheart.graph.recorder import TraceRecorder
from lionheart.graph.storage import StorageTracker
from lionheart.graph.usage import multiply_digitally

_COPIES = {"_to_copy", "clone", "contiguous", "copy"}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the tensor operations of a forward pass, except operations that only move, view or allocate data."""

    def __init__(self, model: nn.Module, recorder: TraceRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder, self.tracker = recorder, StorageTracker(model)
        self.stack: list[tuple[str, nn.Module]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        packet, name = func._overloadpacket, func._overloadpacket.__name__.rstrip("_")
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        outputs = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        macs = macs_of(packet, args, kwargs or {}, result)
        if macs is not None and outputs:
            self._record_product(packet, args, macs, inputs, outputs)
            return result
        parameters = self.tracker.parameters(inputs)
        self.tracker.follow(inputs, outputs, copies=name in _COPIES, writes=func._schema.is_mutable)
        if name not in NO_WORK and outputs:
            producers = self.tracker.producers(inputs)
            self.recorder.add_operation(
                NAMES.get(name, name), inputs, outputs[0], producers=producers, parameters=parameters
            )
        return result

    def _record_product(
        self, packet: Any, args: tuple[Any, ...], macs: int, inputs: list[Tensor], outputs: list[Tensor]
    ) -> None:
        factors = factors_of(packet, args)
        parameters = self.tracker.parameters(inputs)
        if self.recorder.computes_weight(parameters):
            self.tracker.follow(inputs, outputs, copies=False, writes=False)
            return
        for x, weight in [] if factors is None else [factors, factors[::-1]]:
            origin = self.tracker.of(weight)
            if origin is not None and origin.names and weight.ndim >= 2:
                module = self.stack[-1] if self.stack else ("", None)
                producers = self.tracker.producers(inputs)
                bias = has_addend(packet, args)
                fqns = self.recorder.add_use(
                    origin, module, macs, x, weight, outputs[0], producers=producers, has_bias=bias
                )
                self.tracker.follow_product(outputs[0], fqns)
                return
        producers = self.tracker.producers(inputs)
        self.tracker.follow(inputs, outputs, copies=False, writes=False)
        self.recorder.add_operation("dynamic product", inputs, outputs[0], producers=producers, macs=macs)


def trace_graph(model: nn.Module, example_inputs: Any) -> LayerGraph:
    """Run `model` once in evaluation mode and return a graph of all its operations.

    Args:
        model: Model to trace. Its weights, buffers and training mode are not changed. A model on the ``meta`` device is traced
            without computing values.
        example_inputs: Inputs of one inference (batch 1): a tensor, a tuple of positional arguments, or a dict of keyword
            arguments.

    Returns:
        Graph of the model. Projections (weight matrices) are listed in ``nodes``. A parameter that is multiplied outside all
        layers of registered types has the layer type ``functional`` and a reason why it stays digital. A product without a
        weight parameter, such as attention scores, is listed in ``other_ops`` with the name ``dynamic product``.

    Raises:
        GraphError: The forward pass fails, or it multiplies no inputs with a weight matrix.
    """
    check_type(model, nn.Module, "model", hint="pass the network itself")
    recorder = TraceRecorder(model)
    watcher = _Recorder(model, recorder)
    try:
        with _prepared(model, watcher, recorder), watcher:
            call_model(model, example_inputs)
    except Exception as error:
        raise _explain(model, watcher, error) from error
    graph = recorder.to_graph()
    if not graph.nodes:
        raise GraphError(
            f"{type(model).__name__}: the forward pass computed no projection (product of inputs with a weight matrix)",
            hint="check that the model has layers with weights, and that its forward passes the example inputs to these layers",
        )
    return graph


@contextmanager
def _prepared(model: nn.Module, watcher: _Recorder, recorder: TraceRecorder) -> Iterator[None]:
    """Prepare `model` for tracing within the context, and restore its previous state at the end.

    The model is set to evaluation mode, fused kernels that hide products are disabled, and hooks track which module runs.
    """
    fused_attention = torch.backends.mha.get_fastpath_enabled()
    onednn = torch._C._get_mkldnn_enabled()
    handles: list[Any] = []
    proxies = _Probes(recorder)
    for fqn, module in model.named_modules():
        enter, leave = _watch(watcher.stack, fqn, proxies)
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(eval_mode(model))
            stack.enter_context(torch.no_grad())
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            torch._C._set_mkldnn_enabled(False)  # oneDNN computes recurrent layers as one operation
            yield
    finally:
        torch._C._set_mkldnn_enabled(onednn)
        torch.backends.mha.set_fastpath_enabled(fused_attention)
        for handle in handles:
            handle.remove()
        proxies.remove_all()


def _watch(
    stack: list[tuple[str, nn.Module]], fqn: str, probes: _Probes
) -> tuple[Callable[[nn.Module, Any], None], Callable[[nn.Module, Any, Any], None]]:
    def enter(module: nn.Module, args: Any) -> None:
        stack.append((fqn, module))
        probes.install(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        probes.remove(module)
        stack.pop()

    return enter, leave


class _Probes:
    """Installs weight proxies in the modules whose analog version runs the original forward.

    A weight proxy replaces a weight while the forward runs. The proxies record the products with the weight, and the first use
    of the weight that is not a product. A weight with a use that is not a product must stay digital.
    """

    def __init__(self, recorder: TraceRecorder) -> None:
        self._recorder = recorder
        self._installed: dict[nn.Module, dict[str, WeightProxy]] = {}

    def install(self, module: nn.Module) -> None:
        placed = self._recorder.probed.get(module)
        if not placed or module in self._installed:
            return
        proxies = {each.projection.weight: self._probe(module, each) for each in placed}
        module.__dict__.update(proxies)
        self._installed[module] = proxies

    def remove(self, module: nn.Module) -> None:
        for name in self._installed.pop(module, ()):
            module.__dict__.pop(name, None)

    def remove_all(self) -> None:
        for module in list(self._installed):
            self.remove(module)

    def _probe(self, module: nn.Module, placed: PlacedProjection) -> WeightProxy:
        name, weight = placed.projection.weight, find_tensor(module, placed.projection.weight)
        multiply, geometry = multiply_digitally(module, placed.projection, weight)

        def multiply_and_note(x: Tensor) -> Tensor:
            self._recorder.note_product(module, name)
            return multiply(x)

        return WeightProxy(
            weight,
            multiply_and_note,
            inputs_first=placed.projection.inputs_first,
            geometry=geometry,
            note=lambda use: self._recorder.note_use(module, name, use),
        )


def _explain(model: nn.Module, watcher: _Recorder, error: Exception) -> GraphError:
    """Return an error whose message names the module in which the forward pass of `model` failed with `error`."""
    where = type(model).__name__
    if watcher.stack and watcher.stack[-1][0]:
        fqn, module = watcher.stack[-1]
        where = f"{where}: {fqn} ({type(module).__name__})"
    hint = "check that the model itself runs on these inputs, for example on one batch of its validation data"
    if any(parameter.is_meta for parameter in model.parameters()):
        hint = "tensors on the meta device have no values; trace the model on the CPU if its forward depends on values"
    return GraphError(
        f"{where}: the forward pass failed on the example inputs: {type(error).__name__}: {error}", hint=hint
    )
