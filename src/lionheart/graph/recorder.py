"""Count the calls, elements and multiply-accumulate operations (MACs) of all operations in one forward pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import final

from torch import Tensor, nn

from lionheart.graph.attachments import find_attached_reason
from lionheart.graph.convolutions import is_convolution
from lionheart.graph.layer_types import PlacedProjection, find_projections, find_tensor, has_own_forward, needs_proxy
from lionheart.graph.nodes import LayerGraph, LayerNode
from lionheart.graph.operations import OperationCounts
from lionheart.graph.quantised import PackedLayer, describe_packed, quantised_type
from lionheart.graph.reads import WeightReads
from lionheart.graph.rows import Module, Row, explain_missing_layer, where_in
from lionheart.graph.stacks import covers_matrices, is_stack, matrix_names, matrix_regions, matrix_shape
from lionheart.graph.storage import Origin, extent, memory_of, named_tensors


@final
class TraceRecorder:
    """Counts the products with projections (weight matrices) and the other operations while a model runs.

    Args:
        model: Model to trace. The recorder must be created before the forward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._placed = list(find_projections(model))
        self._layers = {each.module for each in self._placed}
        self._rows: dict[tuple[int, tuple[int, int]], Row] = {}
        self._computed: dict[nn.Module, list[Row]] = {}
        self._functional: dict[tuple[tuple[str, ...], tuple[int, int] | None], Row] = {}
        self._stacks: dict[str, list[Row]] = {}
        self._packed: dict[nn.Module, tuple[PackedLayer, list[Row]]] = {}
        self._written: dict[nn.Module, tuple[int, int, int]] = {}
        self._order: dict[Row, None] = {}
        self._last_runs: dict[str, int] = {}
        self._n_uses = 0
        self._edges: dict[tuple[str, str], None] = {}
        self._memories: dict[int, list[Row]] = {}
        self._parameters = named_tensors(model)
        self._factors: set[str] = set()
        self._multiplying: set[nn.Module | None] = set()
        self._products: set[tuple[nn.Module, str]] = set()
        self._other_uses: dict[tuple[nn.Module, str], str] = {}
        #: Module that runs its own forward with weight proxies -> its projections whose weight is its own parameter.
        self.probed: dict[nn.Module, list[PlacedProjection]] = {}
        #: Counts of the operations without a weight matrix.
        self.operations = OperationCounts()
        #: Uses of parameters in operations that are not products.
        self.reads = WeightReads(model)
        for each in self._placed:
            self._open_row(each)
        for fqn, module in model.named_modules():
            packed = describe_packed(module)
            if packed is not None:
                placed = [PlacedProjection(part.fqn_in(fqn), fqn, module, part) for part in packed.projections]
                self._packed[module] = packed, [Row([each], (0, 0), quantised=packed.weight_type) for each in placed]
        for fqn in {each.module_fqn for each in self._placed if each.is_computed}:
            prefix = f"{fqn}." if fqn else ""
            self.operations.note_computed(name for name in self._parameters if name.startswith(prefix))

    def _open_row(self, placed: PlacedProjection) -> None:
        quantised = "" if placed.is_computed else quantised_type(find_tensor(placed.module, placed.projection.weight))
        if placed.is_computed or quantised:
            self._computed.setdefault(placed.module, []).append(Row([placed], (0, 0), quantised=quantised))
            return
        if needs_proxy(placed.module) and "." not in placed.projection.weight:
            self.probed.setdefault(placed.module, []).append(placed)
        weight = placed.projection.stored_weight(placed.module)
        key = (memory_of(weight), extent(weight))
        if key in self._rows:
            self._rows[key].users.append(placed)
            return
        row = self._rows[key] = Row([placed], key[1])
        self._memories.setdefault(key[0], []).append(row)

    # -- while the model runs ------------------------------------------------------------------------------------------

    def add_operation(
        self,
        name: str,
        inputs: Iterable[Tensor],
        output: Tensor,
        *,
        producers: Iterable[str],
        macs: int = 0,
        parameters: Iterable[str] = (),
    ) -> None:
        """Add one call of an operation without a weight matrix to the counts.

        The call is scheduled after the projection (weight matrix) in `producers` that ran last. A call that computes a weight
        from parameters is not counted, because the weight is the same in every inference.

        Args:
            name: Name of the operation, for example ``relu``.
            inputs: Input tensors of the operation.
            output: Output tensor of the operation.
            producers: Names of the projections that produced the inputs.
            macs: Number of multiply-accumulate operations (MACs) if the operation is a product; else 0.
            parameters: Names of the parameters and buffers from which the inputs are computed; empty if an input depends on the
                inputs of the model.
        """
        scheduled_after = max(producers, key=self._last_runs.__getitem__, default="")
        self.operations.add(name, scheduled_after, list(inputs), output, macs=macs, parameters=parameters)

    def add_use(
        self,
        origin: Origin,
        module: Module,
        macs: int,
        x: Tensor,
        weight: Tensor,
        output: Tensor,
        *,
        producers: Iterable[str],
        has_bias: bool,
    ) -> list[str]:
        """Count one product of inputs with the tensor `weight` for each projection (weight matrix) that this tensor contains.

        Args:
            origin: Parameters from which the weight tensor is computed.
            module: Module that computes the product, as a pair of its name and the module itself; ``("", None)`` outside all
                modules.
            macs: Number of multiply-accumulate operations (MACs) in the product.
            x: Inputs of the product.
            weight: Weight tensor of the product.
            output: Output tensor of the product.
            producers: Names of the projections that produced the inputs.
            has_bias: Whether the operation also adds a bias to the product.

        Returns:
            Names of the projections in the product. There are several if the weight tensor stores several projections.
        """
        self._factors.update(origin.names)
        self._multiplying.add(module[1])
        shares = self._shares(origin, module, x, weight)
        n_matrices = len(weight) if weight.ndim == 3 else 1
        for row, share in shares:
            if not row.n_calls:
                self._order[row] = None
                row.fqn = next((u.fqn for u in row.users if u.module is module[1]), row.fqn)
            row.n_calls += share > 0
            row.macs += round(macs * share)
            own = row.layer_type == "stacked" and (origin.picks is not None or n_matrices == len(shares))
            row.n_inputs += round(x.numel() * share) if own else x.numel()
            row.n_outputs += round(output.numel() * share)
            row.has_bias = row.has_bias or has_bias
            if row.users and all(user.module is not module[1] for user in row.users):
                row.outside = module[0] or type(self.model).__name__
        return self._connect([row.fqn for row, share in shares if share > 0], producers)

    def _connect(self, fqns: list[str], producers: Iterable[str]) -> list[str]:
        """Record that the projections `fqns` read outputs of the projections `producers`. Return `fqns`."""
        for fqn in fqns:
            self._n_uses += 1
            self._last_runs[fqn] = self._n_uses
        for producer in sorted(producers, key=self._last_runs.__getitem__):
            for fqn in fqns:
                self._edges[producer, fqn] = None
        return fqns

    def add_packed_use(
        self, module: Module, inputs: list[Tensor], output: Tensor, producers: Iterable[str]
    ) -> list[str] | None:
        """Count one call of a layer whose quantised weights are packed, which means that no parameter stores them.

        Args:
            module: Layer, as a pair of its name and the module itself.
            inputs: Input tensors of the layer.
            output: Output tensor of the layer.
            producers: Names of the projections that produced the inputs.

        Returns:
            Names of the projections of the layer, or None if the sizes of the layer are not known.
        """
        if module[1] not in self._packed:
            return None
        packed, rows = self._packed[module[1]]
        for row in rows:
            self._order[row] = None
            row.n_calls += 1 if packed.time_dim is None else output.shape[packed.time_dim]
            row.macs += row.weights * (output.numel() // packed.width)
            row.n_inputs += inputs[0].numel()
            row.n_outputs += row.shape[1] * row.shape[2] * (output.numel() // packed.width)
        return self._connect([row.fqn for row in rows], producers)

    def is_layer(self, module: nn.Module | None) -> bool:
        """Return whether a module is a layer of a registered type."""
        return module in self._layers

    def note_run(self, module: nn.Module, inputs: Iterable[Tensor], output: Tensor) -> None:
        """Record one run of a module with its numbers of input and output elements.

        A module whose output is a view of its inputs, such as an identity, is not recorded.
        """
        inputs = list(inputs)
        if memory_of(output) not in {memory_of(each) for each in inputs}:
            calls, read, written = self._written.get(module, (0, 0, 0))
            read += sum(each.numel() for each in inputs)
            self._written[module] = calls + 1, read, written + output.numel()

    def note_product(self, module: nn.Module, weight: str) -> None:
        """Record that the forward of `module` used the parameter named `weight` in a product with inputs.

        The product was computed by a weight proxy, which is an object that replaces the parameter while the forward runs.
        """
        self._products.add((module, weight))

    def note_use(self, module: nn.Module, weight: str, use: str) -> None:
        """Record that the forward of `module` uses the parameter named `weight` in an operation `use` that is not a product."""
        self._other_uses.setdefault((module, weight), use)

    def _shares(self, origin: Origin, module: Module, x: Tensor, weight: Tensor) -> list[tuple[Row, float]]:
        """Return a pair ``(row, fraction)`` for each projection (weight matrix) that the tensor `weight` contains.

        The row holds the counts of the projection. The fraction is the part of the product that belongs to the projection. All
        fractions sum to 1.

        Args:
            origin: Parameters from which the tensor `weight` is computed.
            module: Module that computes the product, as a pair of its name and the module itself.
            x: Inputs of the product.
            weight: Weight tensor of the product.
        """
        whole = self._parameters[origin.names[0]]
        if origin.picks:
            rows = self._stack_rows(origin.names[0], module, x, weight)
            if len(rows) == len(origin.picks):
                return list(zip(rows, origin.picks, strict=True))
        if origin.region is None:
            self.operations.note_computed(origin.names)
        if origin.region is None or quantised_type(whole):
            rows = self._computed.get(module[1], []) if module[1] is not None else []
            rows = rows or [row for row in self._layer_rows() if row.parameter in origin.names]
            if len(rows) == 1:
                rows[0].is_computed = True
                return [(rows[0], 1.0)]
            return [(self._functional_row(origin, module, weight, is_computed=True), 1.0)]
        memory = memory_of(whole)
        first, last = origin.region
        if (
            origin.picks is None
            and memory not in self._memories
            and is_stack(whole)
            and covers_matrices(origin.region, whole)
        ):
            self._stack_rows(origin.names[0], module, x, weight)
        found = []
        for row in self._memories.get(memory, []):
            overlap = min(last, row.region[1]) - max(first, row.region[0])
            if overlap > 0:
                found.append((row, overlap / (last - first)))
        if found and abs(sum(share for _, share in found) - 1) < 1e-9:
            return found
        return [(self._functional_row(origin, module, weight, is_computed=False), 1.0)]

    def _layer_rows(self) -> Iterator[Row]:
        """Yield the rows of the projections in layers of registered types, whose weight is a parameter or is computed."""
        return itertools.chain(self._rows.values(), *self._computed.values())

    def _stack_rows(self, name: str, module: Module, x: Tensor, weight: Tensor) -> list[Row]:
        """Return the rows of all matrices of the stack `name`, including the matrices that multiply no inputs."""
        if name in self._stacks:
            return self._stacks[name]
        whole = self._parameters[name]
        rows = self._stacks[name] = []
        if not is_stack(whole) or memory_of(whole) in self._memories:
            return rows
        shape = matrix_shape(whole, x, weight)
        for fqn, region in zip(matrix_names(name, whole), matrix_regions(whole), strict=True):
            row = Row([], region, layer_type="stacked", quantised=quantised_type(whole))
            row.fqn, row.shape, row.unsupported_reason = fqn, (*shape, 1), explain_missing_layer(module)
            rows.append(row)
            self._order[row] = None
        self._memories[memory_of(whole)] = rows
        return rows

    def _functional_row(self, origin: Origin, module: Module, weight: Tensor, *, is_computed: bool) -> Row:
        key = (origin.names, origin.region)
        if key in self._functional:
            return self._functional[key]
        row = self._functional[key] = Row([], origin.region or (0, 0))
        real = [size for size, stride in zip(weight.shape, weight.stride(), strict=True) if stride]
        rows, cols = real[-2] if len(real) > 1 else 1, real[-1]
        groups = max(1, weight.numel() // max(1, rows * cols)) if len(real) > 2 else 1
        row.shape = (rows, cols, groups)
        whole = self._parameters[origin.names[0]]
        row.fqn = origin.names[0]
        if origin.region is not None and origin.region != extent(whole):
            row.fqn += f"[{origin.region[0] - whole.storage_offset()}:{origin.region[1] - whole.storage_offset()}]"
        row.unsupported_reason = explain_missing_layer(module)
        if is_computed:
            row.fqn = " * ".join(origin.names[:2]) + (" ..." if len(origin.names) > 2 else "")
            row.unsupported_reason = f"the weight is computed from parameters in {where_in(module)}"
        types = (quantised_type(self._parameters[name]) for name in origin.names)
        row.quantised = next((each for each in types if each), "")
        return row

    # -- after the pass ------------------------------------------------------------------------------------------------

    def to_graph(self) -> LayerGraph:
        """Return the layer graph of the recorded forward pass, with the counts of all operations."""
        names = {id(tensor): [] for tensor in self._parameters.values()}  # type: dict[int, list[str]]
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name.rpartition(".")[0])
        self._list_unseen()
        for row in self._order:
            row.unsupported_reason = row.unsupported_reason or self._unsupported_reason(row)
            if row.quantised:
                row.unsupported_reason = f"its weight is quantised ({row.quantised}); give the floating-point network"
        nodes = tuple(row.node(self._aliases(row, names)) for row in self._order)
        ran = {user.fqn for row in self._order for user in row.users}
        others = self.reads.list_others(self._covered())
        return LayerGraph(nodes, self.operations.to_ops(), tuple(self._edges), self._list_unused(ran), others)

    def _list_unseen(self) -> None:
        """List the layers that ran although the trace shows no product with their weight.

        The number of MACs is derived from the size of the outputs.
        """
        for row in self._layer_rows():
            user = next((each for each in row.users if each.module in self._written), None)
            if row.n_calls or user is None or user.module in self._multiplying:
                continue
            if not (user.projection.is_module or is_convolution(user.module)):
                continue
            calls, read, written = self._written[user.module]
            self._order[row] = None
            row.n_calls, row.n_inputs, row.n_outputs = calls, read, written
            row.macs = row.weights * written // (row.shape[1] * row.shape[2])
            row.has_bias = user.projection.bias is not None
            row.unsupported_reason = f"{type(user.module).__name__} ran, but the trace shows no product with its weight"

    def _list_unused(self, ran: set[str]) -> tuple[LayerNode, ...]:
        """Return the projections (weight matrices) that computed no product. `ran` are the names of those that did."""
        packed = [row for _, rows in self._packed.values() for row in rows if not row.n_calls]
        rows = [Row([each], (0, 0)) for each in self._placed if each.fqn not in ran] + packed
        for row in rows:
            row.unsupported_reason = "it did not run on the example inputs"
            if row.parameter in self._factors:
                row.unsupported_reason += "; its weight is part of another product"
        return tuple(row.node() for row in rows)

    def _covered(self) -> set[str]:
        """Return the names of all parameters that belong to a projection (weight matrix), whether it ran or not."""
        weights = {
            id(find_tensor(each.module, each.projection.weight)) for each in self._placed if not each.is_computed
        }
        found = {name for name, tensor in self._parameters.items() if id(tensor) in weights}
        return found.union(self._stacks, self._factors)

    def _aliases(self, row: Row, names: dict[int, list[str]]) -> tuple[str, ...]:
        if not row.users or row.users[0].is_computed:
            return ()
        known = dict.fromkeys(user.fqn for user in row.users)
        modules = {user.module_fqn for user in row.users}
        for user in row.users:
            weight = find_tensor(user.module, user.projection.weight)
            owner = ".".join(filter(None, (user.module_fqn, user.projection.weight.rpartition(".")[0])))
            others = [name for name in names.get(id(weight), []) if name not in modules and name != owner]
            known |= dict.fromkeys(others)
        known.pop(row.fqn, None)
        return tuple(known)

    def _unsupported_reason(self, row: Row) -> str:
        """Return the reason why the projection (weight matrix) that `row` counts cannot run on analog tiles.

        Return an empty string if the projection can run on tiles.
        """
        for user in row.users:
            name = type(user.module).__name__
            if attached := find_attached_reason(self.model, user.module_fqn, user.module):
                return attached
            if user.is_computed:
                return "the weight is computed from other parameters (parametrised)"
            if user.module in self.probed:
                key = (user.module, user.projection.weight)
                if key in self._other_uses:
                    return f"{name} overrides forward and uses the weight in {self._other_uses[key]!r}"
                if key not in self._products and row.n_calls and user.fqn == row.fqn:
                    return f"{name} overrides forward, and its product cannot be replaced"
            elif has_own_forward(user.module):
                return f"{name} overrides forward"
        if row.is_computed:
            return "the product uses a tensor computed from the weight"
        if row.outside:
            return f"the weight is multiplied outside its layer, in {row.outside}"
        return ""
