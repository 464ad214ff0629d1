"""Trace a model: run one forward pass, and record every projection (weight matrix) and every other operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lionheart.data import call_model, eval_mode
from lionheart.errors import GraphError, check_type
from lionheart.graph.layer_types import PlacedProjection, find_tensor
from lionheart.graph.nodes import LayerGraph
from lionheart.graph.ops import (
    GATHERS,
    LEFT_OR_RIGHT,
    NAMES,
    NO_WORK,
    as_matrix,
    factors_of,
    group_shares,
    has_addend,
    hides_product,
    macs_of,
    pick_shares,
    run_operation,
)
from lionheart.graph.proxy import WeightProxy
from lionheart.graph.recorder import TraceRecorder
from lionheart.graph.rows import Module, where_in
from lionheart.graph.samples import cut_batch, is_one_of
from lionheart.graph.stacks import is_stack
from lionheart.graph.storage import Origin, StorageTracker
from lionheart.graph.usage import multiply_digitally

_NO_BATCH = (
    "no batch dimension was found in the example inputs (first dimension: {}); all inputs count as one inference"
)
_COPIES = {"_to_copy", "clone", "contiguous", "copy"}


class _Call(NamedTuple):
    """A call of an operation, with its arguments."""

    packet: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the tensor operations of a forward pass, except operations that only move, view or allocate data."""

    def __init__(self, model: nn.Module, recorder: TraceRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recorder, self.tracker = recorder, StorageTracker(model)
        self.stack: list[tuple[str, nn.Module]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = run_operation(func, args, kwargs or {})
        packet = func._overloadpacket
        inputs = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        outputs = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        macs = macs_of(packet, args, kwargs or {}, result)
        if macs is not None and outputs:
            self._record_product(_Call(packet, args, kwargs or {}), macs, inputs, outputs)
        elif not outputs or not self._record_packed(func, (args, kwargs), inputs, outputs):
            self._record_operation(func, args, inputs, outputs)
        return result

    def _record_operation(self, func: Any, args: tuple[Any, ...], inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Record a call of an operation that is not a product."""
        name = func._overloadpacket.__name__.rstrip("_")
        known = NAMES.get(name, name)
        origins, parameters = [self.tracker.of(each) for each in inputs], self.tracker.parameters(inputs)
        picked = self._pick(name, args, origins)
        self.tracker.follow(inputs, outputs, copies=name in _COPIES, writes=func._schema.is_mutable)
        if name == "lift_fresh":
            self.tracker.mark_constant(outputs[0])
        if name in NO_WORK or not outputs:
            self.recorder.reads.note_view(where_in(self._module), origins)
            return
        if picked is not None:
            self.tracker.mark(outputs[0], picked)
        else:
            pairs, hides = zip(inputs, origins, strict=True), hides_product(func, known)
            self.recorder.reads.note(known, where_in(self._module), pairs, outputs[0], hides=hides)
        producers = self.tracker.producers(inputs)
        self.recorder.add_operation(known, inputs, outputs[0], producers=producers, parameters=parameters)

    @property
    def _module(self) -> Module:
        """Name of the module that runs, and the module."""
        return self.stack[-1] if self.stack else ("", None)

    def _pick(self, name: str, args: tuple[Any, ...], origins: list[Origin | None]) -> Origin | None:
        """Return the origin of the result of an operation by which inputs choose matrices of a stack; None for any other."""
        first = origins[0] if origins else None
        if name not in GATHERS or first is None or len(first.names) != 1 or not isinstance(args[0], Tensor):
            return None
        if all(origin is not None for origin in origins) or args[0].ndim != 3 or not is_stack(args[0]):
            return None
        return Origin(first.names, None, pick_shares(args, len(args[0])))

    def _record_packed(self, func: Any, given: Any, inputs: list[Tensor], outputs: list[Tensor]) -> bool:
        """Record a call of an operation on packed weights, which no tensor stores.

        Return whether the operation belongs to a layer of known sizes. All other operations remain to be recorded.
        """
        name = func._overloadpacket.__name__.rstrip("_")
        has_object = any(isinstance(each, torch.ScriptObject) for each in tree_leaves(given))
        if not has_object and func.namespace != "quantized" and not name.startswith("quantized_"):
            return False
        producers = self.tracker.producers(inputs)
        fqns = self.recorder.add_packed_use(self._module, inputs, outputs[0], producers) if inputs else None
        if fqns is not None:
            self.tracker.follow_product(outputs[0], fqns)
            return True
        if has_object and "embedding" not in name:
            fqn, module = self._module
            self.recorder.reads.note_packed(fqn, type(module).__name__, name)
        return False

    def _record_product(self, call: _Call, macs: int, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Record a product: with a weight for its projections, otherwise as a product of two activations."""
        parameters, is_layer = self.tracker.parameters(inputs), self.recorder.is_layer(self._module[1])
        is_constant = not is_layer and self.recorder.reads.are_weights(parameters)
        if is_constant or self.recorder.operations.computes_weight(parameters):
            self.tracker.follow(inputs, outputs, copies=False, writes=False)
            return
        factors, picks = factors_of(call.packet, call.args), group_shares(call.packet, call.args, call.kwargs)
        for x, weight in [] if factors is None else [factors, factors[::-1]]:
            origin = self.tracker.of(weight)
            if origin is not None and origin.names and weight.ndim >= 2:
                if picks is not None or call.packet not in LEFT_OR_RIGHT:
                    origin = replace(origin, picks=picks or ())
                is_left = weight is not x and weight is inputs[-2] and call.packet in LEFT_OR_RIGHT
                seen = weight.transpose(-1, -2) if is_left else as_matrix(call.packet, call.args, weight)
                self.recorder.reads.note_input(where_in(self._module), self.tracker.of(x))
                producers, bias = self.tracker.producers(inputs), has_addend(call.packet, call.args)
                fqns = self.recorder.add_use(
                    origin, self._module, macs, x, seen, outputs[0], producers=producers, has_bias=bias
                )
                self.tracker.follow_product(outputs[0], fqns)
                return
        producers = self.tracker.producers(inputs)
        self.tracker.follow(inputs, outputs, copies=False, writes=False)
        self.recorder.add_operation("dynamic product", inputs, outputs[0], producers=producers, macs=macs)


def trace_graph(model: nn.Module, example_inputs: Any) -> LayerGraph:
    """Run `model` in evaluation mode and return a graph of all operations of one inference.

    The model runs again on one sample if the inputs may be a batch of several.

    Args:
        model: Model to trace. Its weights, buffers and training mode are not changed. A model on the ``meta`` device is traced
            without computing values.
        example_inputs: Inputs of one inference: a tensor, a tuple of positional arguments, or a dict of keyword arguments. If
            the inputs are a batch of several samples, the graph counts only one of them.

    Returns:
        Graph of one inference. Projections (weight matrices) are listed in ``nodes``. A parameter that is multiplied outside
        all layers of registered types has the layer type ``functional`` or ``stacked`` and a reason why it stays digital. A
        product without a weight parameter, such as attention scores, is listed in ``other_ops`` with the name ``dynamic
        product``. Parameters with other uses are listed in ``other_weights``. If the inputs have no dimension that is a batch
        of independent samples, all inputs count as one inference, and ``notes`` says so.

    Raises:
        GraphError: The forward pass fails, or it multiplies no inputs with a weight matrix.
    """
    check_type(model, nn.Module, "model", hint="pass the network itself")
    whole = _trace(model, example_inputs)
    sizes = []
    for inputs, n_samples in cut_batch(model, example_inputs):
        if n_samples == 1:
            return whole[0]
        sizes.append(n_samples)
        try:
            part = _trace(model, inputs)
        except GraphError:
            continue  # such as an image without a batch, which has no channels left
        if is_one_of(part, whole, n_samples):
            return part[0]
    return replace(whole[0], notes=tuple(_NO_BATCH.format(size) for size in sizes[:1]))


def _trace(model: nn.Module, inputs: Any) -> tuple[LayerGraph, tuple[int, ...]]:
    """Return the layer graph of one forward pass and the numbers of elements of its outputs."""
    recorder = TraceRecorder(model)
    watcher = _Recorder(model, recorder)
    try:
        with _prepared(model, watcher, recorder), watcher:
            output = call_model(model, inputs)
    except Exception as error:
        raise _explain(model, watcher, error) from error
    graph = recorder.to_graph()
    if not graph.nodes:
        raise GraphError(
            f"{type(model).__name__}: the forward pass computed no projection (product of inputs with a weight matrix)",
            hint="check that the model has layers with weights, and that its forward passes the example inputs to these layers",
        )
    return graph, tuple(each.numel() for each in tree_leaves(output) if isinstance(each, Tensor))


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
        if isinstance(module, torch.jit.ScriptModule):
            continue  # it supports no hooks; its products belong to the module that calls it
        enter, leave = _watch(watcher.stack, fqn, proxies, recorder)
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
    stack: list[tuple[str, nn.Module]], fqn: str, probes: _Probes, recorder: TraceRecorder
) -> tuple[Callable[[nn.Module, Any], None], Callable[[nn.Module, Any, Any], None]]:
    def enter(module: nn.Module, args: Any) -> None:
        stack.append((fqn, module))
        probes.install(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        probes.remove(module)
        stack.pop()
        if isinstance(output, Tensor):
            recorder.note_run(module, [each for each in tree_leaves(args) if isinstance(each, Tensor)], output)

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
