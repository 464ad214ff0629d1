"""Traversal of a graph from `torch.export` that collects the operations of an emitted program.

Consecutive operations, such as a convolution and an activation, are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, fx

from lionheart.errors import UnsupportedLayerError
from lionheart.interop.alpine.operations import Floats, Operation, Shape

SUPPORTED = (
    "conv2d, linear, batch norm, ReLU, ReLU6, hardtanh, clamp, addition, max and average pooling, the mean over pixels, "
    "flatten, dropout, strided slices and zero padding"
)
_SAME = {
    "alias", "clone", "contiguous", "detach", "dropout", "dropout_", "feature_dropout", "lift_fresh_copy", "_to_copy",
}  # fmt: skip
_RESHAPES = {"flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "_assert_tensor_metadata"}


class Walker:
    """Traversal of a graph from `torch.export` that collects the operations of an emitted program.

    A subclass has one handler method for each ATen operation, named ``_on_`` followed by the name of the operation.
    """

    def __init__(self, exported: Any) -> None:
        signature = exported.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        stored = {**exported.state_dict, **exported.constants}
        self.tensors = {node: (target, stored[target]) for node, target in names.items()}
        self.graph = exported.graph
        self.operations: dict[str, Operation] = {}
        self.shapes: dict[str, Shape] = {}
        self.value_of: dict[str, str] = {}  # name of the value of each node
        self.order: dict[str, tuple[int, int, int]] = {}  # (channels, height, width) of nodes that are flattened images
        self.inputs = signature.user_inputs
        self.outputs = signature.user_outputs
        self.source = self.result = ""
        self.output_dims: tuple[int, ...] = ()

    def build(self) -> list[Operation]:
        """Visit all nodes of the graph and return the operations of the program in execution order."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise UnsupportedLayerError(
                f"network: expected one input tensor and one output tensor, got {len(self.inputs)} and {len(self.outputs)}",
                hint="wrap the network so that it maps one tensor to one tensor",
            )
        for node in self.graph.nodes:
            if node.op == "placeholder" and node.name in self.inputs:
                self.source = node.name
                self._name(node, node.name)
            elif node.op == "call_function":
                self._visit(node)
        last = str(self.outputs[0])
        self.result = self.value_of.get(last, "")
        if self.result in ("", self.source) or last in self.order:
            raise UnsupportedLayerError(
                "network: the output is the input, a constant or a flattened image, expected the output of a layer",
                hint="end the network with a layer, and remove a flatten operation after the last layer",
            )
        self.output_dims = next(tuple(n.meta["val"].shape[1:]) for n in self.graph.nodes if n.name == last)
        return list(self.operations.values())

    def _visit(self, node: fx.Node) -> None:
        kind = str(node.target).removeprefix("aten.").split(".")[0]
        if kind in _SAME or kind in _RESHAPES:
            self._reshape(node, kind)
            return
        handler: Callable[[fx.Node], None] | None = getattr(self, f"_on_{kind.rstrip('_')}", None)
        if handler is None:
            raise self._refused(node)
        handler(node)

    def _refused(self, node: fx.Node, why: str = "") -> UnsupportedLayerError:
        return UnsupportedLayerError(
            f"{module_of(node) or 'network'}: {node.target}{' ' + why if why else ''} cannot be exported",
            hint=f"supported operations: {SUPPORTED}",
        )

    # ---- values

    def _name(self, node: fx.Node, value: str) -> None:
        self.value_of[node.name] = value
        if value == node.name:
            self.shapes[value] = self._shape(node)

    def _shape(self, node: fx.Node) -> Shape:
        value = node.meta.get("val")
        dims = tuple(value.shape) if isinstance(value, Tensor) else ()
        if len(dims) == 4 and dims[0] == 1:
            return Shape(dims[2], dims[3], dims[1])
        if len(dims) in (2, 3) and dims[0] == 1:
            return Shape(1, dims[1] if len(dims) == 3 else 1, dims[-1])
        raise self._refused(node, f"with a value of shape {dims}")

    def _input(self, node: fx.Node, position: int = 0) -> str:
        argument = node.args[position]
        if not isinstance(argument, fx.Node) or argument.name not in self.value_of:
            raise self._refused(node, "with a constant operand")
        return self.value_of[argument.name]

    def _order(self, node: fx.Node, position: int = 0) -> tuple[int, int, int] | None:
        argument = node.args[position]
        return self.order.get(argument.name) if isinstance(argument, fx.Node) else None

    def _keep_order(self, node: fx.Node) -> None:
        order = self._order(node)
        if order is not None:
            self.order[node.name] = order

    def _tensor(self, node: fx.Node, position: int) -> tuple[str, Floats | None]:
        """Return the name and content of the parameter or buffer that is the argument of `node` at `position`.

        If the node has no such argument, return ``("", None)``.
        """
        argument = node.args[position] if position < len(node.args) else None
        if argument is None:
            return "", None
        if not isinstance(argument, fx.Node) or argument.name not in self.tensors:
            raise self._refused(node, "with a computed parameter")
        name, tensor = self.tensors[argument.name]
        return name, tensor.detach().double().cpu().numpy()

    def _emit(self, node: fx.Node, operation: Operation) -> None:
        self.operations[operation.name] = operation
        self._name(node, node.name)

    def _fused(self, node: fx.Node, kinds: tuple[type, ...]) -> Any:
        """Return the operation that computes the first input of `node`, or None if `node` cannot be merged into this operation.

        Merging requires that the type of the operation is in `kinds` and that only `node` reads the output of the operation.
        """
        value = self._input(node)
        argument = node.args[0]
        while isinstance(argument, fx.Node):
            if len(argument.users) != 1:
                return None
            if argument.name == value:
                break
            argument = argument.args[0]
        found = self.operations.get(value)
        return found if isinstance(found, kinds) else None

    def _take_over(self, node: fx.Node, old: Operation, **changes: Any) -> None:
        """Replace the operation `old` by a copy with `changes` that computes the value of `node`."""
        del self.operations[old.name], self.shapes[old.name]
        self._emit(node, replace(old, name=node.name, **changes))

    def _common(self, node: fx.Node, *positions: int) -> dict[str, Any]:
        inputs = tuple(self._input(node, position) for position in positions or (0,))
        return {"name": node.name, "inputs": inputs, "module": module_of(node), "shape": self._shape(node)}

    def _require_image(self, node: fx.Node) -> Shape:
        self._input(node)
        if len(dims_of(node)) != 4:
            raise self._refused(node, f"on a value of shape {dims_of(node)}")
        return self._shape(node.all_input_nodes[0])

    # ---- operations without computation

    def _reshape(self, node: fx.Node, kind: str) -> None:
        if kind == "_assert_tensor_metadata":
            return
        value = self._input(node)
        old, new = dims_of(node), tuple(node.meta["val"].shape)
        is_flat = len(new) == 2 and len(old) == 4 and new[0] == 1
        if not is_flat and (
            self._shape(node) != self._shape(node.all_input_nodes[0]) or (self._order(node) is not None and old != new)
        ):
            raise self._refused(node, f"from shape {old} to {new}")
        self._name(node, value)
        self._keep_order(node)
        if is_flat and old[1] > 1 and old[2] * old[3] > 1:
            self.order[node.name] = (old[1], old[2], old[3])


def module_of(node: fx.Node) -> str:
    """Return the name of the innermost module that contains a graph node.

    The name is empty if this module is the network itself.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def dims_of(node: fx.Node, position: int = 0) -> tuple[int, ...]:
    """Return the shape of the tensor that is the argument of a graph node at `position`."""
    return tuple(node.args[position].meta["val"].shape)  # type: ignore[union-attr]


def argument_of(node: fx.Node, position: int, default: Any) -> Any:
    """Return the argument of a graph node at `position`, or `default` if the node has fewer arguments."""
    return node.args[position] if len(node.args) > position else default


def pair_of(value: Any) -> tuple[int, int]:
    """Return a size, stride, padding or dilation as a pair (height, width).

    A number `n` gives ``(n, n)``, and a sequence gives its first and last element.
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return (value[0], value[-1])
    return (value, value)
