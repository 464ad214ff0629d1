"""Count the calls, elements and multiply-accumulate operations (MACs) of all operations in one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from torch import Tensor, nn

from lionheart.graph.attachments import find_attached_reason
from lionheart.graph.layer_types import PlacedProjection, find_projections, find_tensor, has_own_forward, needs_proxy
from lionheart.graph.nodes import DigitalOp, LayerGraph, LayerNode
from lionheart.graph.ops import flops_of
from lionheart.graph.storage import Origin, extent, memory_of

Module = tuple[str, nn.Module | None]


@final
class _Row:
    """Counts of the products with one weight in a forward pass.

    Args:
        users: Projections (weight matrices) that use the weight; empty for a parameter outside layers of registered types.
        region: Positions of the first and last (exclusive) element of the weight in the memory of its parameter, in elements.
    """

    def __init__(self, users: list[PlacedProjection], region: tuple[int, int]) -> None:
        self.users, self.region = users, region
        self.fqn = users[0].fqn if users else ""
        self.shape = (0, 0, 1)
        if users:
            layout = users[0].projection
            self.shape = (layout.rows, layout.cols, layout.groups)
        self.unsupported_reason = ""
        self.n_calls = self.n_inputs = self.n_outputs = self.macs = 0
        self.has_bias = self.is_computed = False
        self.outside = ""

    @property
    def parameter(self) -> str:
        """Fully qualified name of the parameter that stores the weight.

        The name is empty if the parameter belongs to no layer of a registered type.
        """
        return f"{self.users[0].module_fqn}.{self.users[0].projection.weight}".lstrip(".") if self.users else ""

    @property
    def weights(self) -> int:
        rows, cols, groups = self.shape
        return rows * cols * groups

    def node(self, aliases: tuple[str, ...]) -> LayerNode:
        rows, cols, groups = self.shape
        return LayerNode(
            fqn=self.fqn,
            layer_type=self.users[0].projection.layer_type if self.users else "functional",
            rows=rows,
            cols=cols,
            groups=groups,
            n_mvms=-(-self.macs // self.weights),
            n_calls=self.n_calls,
            n_inputs=self.n_inputs,
            n_outputs=self.n_outputs,
            has_bias=self.has_bias,
            aliases=aliases,
            unsupported_reason=self.unsupported_reason,
        )


@final
class TraceRecorder:
    """Counts the products with projections (weight matrices) and the other operations while a model runs.

    Args:
        model: Model to trace. The recorder must be created before the forward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._placed = list(find_projections(model))
        self._rows: dict[tuple[int, tuple[int, int]], _Row] = {}
        self._computed: dict[nn.Module, list[_Row]] = {}
        self._functional: dict[tuple[tuple[str, ...], tuple[int, int] | None], _Row] = {}
        self._order: list[_Row] = []
        self._sizes: dict[tuple[str, str], list[int]] = {}
        self._last_runs: dict[str, int] = {}
        self._n_uses = 0
        self._edges: dict[tuple[str, str], None] = {}
        self._memories: dict[int, list[_Row]] = {}
        self._parameters = dict([*model.named_parameters(), *model.named_buffers()])
        self._products: set[tuple[nn.Module, str]] = set()
        self._other_uses: dict[tuple[nn.Module, str], str] = {}
        self._constant_work: list[tuple[frozenset[str], tuple[str, str], list[int]]] = []
        self._computed_from: list[frozenset[str]] = []  # names of the parameters of each computed weight
        #: Module that runs its own forward with weight proxies -> its projections whose weight is its own parameter.
        self.probed: dict[nn.Module, list[PlacedProjection]] = {}
        for each in self._placed:
            self._open_row(each)
        for fqn in {each.module_fqn for each in self._placed if each.is_computed}:
            prefix = f"{fqn}." if fqn else ""
            self._computed_from.append(frozenset(name for name in self._parameters if name.startswith(prefix)))

    def _open_row(self, placed: PlacedProjection) -> None:
        if placed.is_computed:
            self._computed.setdefault(placed.module, []).append(_Row([placed], (0, 0)))
            return
        if needs_proxy(placed.module) and "." not in placed.projection.weight:
            self.probed.setdefault(placed.module, []).append(placed)
        weight = placed.projection.stored_weight(placed.module)
        key = (memory_of(weight), extent(weight))
        if key in self._rows:
            self._rows[key].users.append(placed)
            return
        row = self._rows[key] = _Row([placed], key[1])
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
        inputs = list(inputs)
        n_read, n_written = sum(each.numel() for each in inputs), output.numel()
        size = sum(each.numel() * each.element_size() for each in (*inputs, output))
        scheduled_after = max(producers, key=self._last_runs.__getitem__, default="")
        entry = self._sizes.setdefault((name, scheduled_after), [0] * 6)
        flops = 2 * macs or flops_of(name, n_written, n_read)
        counts = [1, n_written, n_read, macs, flops, size]
        for index, value in enumerate(counts):
            entry[index] += value
        names = frozenset(parameters)
        if names:
            self._constant_work.append((names, (name, scheduled_after), counts))

    def computes_weight(self, parameters: Iterable[str]) -> bool:
        """Return whether an operation is a step in the computation of the weight of a layer, as in spectral normalisation.

        Args:
            parameters: Names of the parameters and buffers from which all inputs of the operation are computed; empty if an
                input depends on the inputs of the model.
        """
        names = frozenset(parameters)
        return bool(names) and any(names <= known for known in self._computed_from)

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
        shares = self._shares(origin, module, weight)
        for row, share in shares:
            if not row.n_calls:
                self._order.append(row)
                row.fqn = next((u.fqn for u in row.users if u.module is module[1]), row.fqn)
            row.n_calls += 1
            row.macs += round(macs * share)
            row.n_inputs += x.numel()
            row.n_outputs += round(output.numel() * share)
            row.has_bias = row.has_bias or has_bias
            if row.users and all(user.module is not module[1] for user in row.users):
                row.outside = module[0] or type(self.model).__name__
        fqns = [row.fqn for row, _ in shares]
        for fqn in fqns:
            self._n_uses += 1
            self._last_runs[fqn] = self._n_uses
        for producer in sorted(producers, key=self._last_runs.__getitem__):
            for fqn in fqns:
                self._edges[producer, fqn] = None
        return fqns

    def note_product(self, module: nn.Module, weight: str) -> None:
        """Record that the forward of `module` used the parameter named `weight` in a product with inputs.

        The product was computed by a weight proxy, which is an object that replaces the parameter while the forward runs.
        """
        self._products.add((module, weight))

    def note_use(self, module: nn.Module, weight: str, use: str) -> None:
        """Record that the forward of `module` uses the parameter named `weight` in an operation `use` that is not a product."""
        self._other_uses.setdefault((module, weight), use)

    def _shares(self, origin: Origin, module: Module, weight: Tensor) -> list[tuple[_Row, float]]:
        """Return a pair ``(row, fraction)`` for each projection (weight matrix) that the tensor `weight` contains.

        The row holds the counts of the projection. The fraction is the part of the product that belongs to the projection. All
        fractions sum to 1.

        Args:
            origin: Parameters from which the tensor `weight` is computed.
            module: Module that computes the product, as a pair of its name and the module itself.
            weight: Weight tensor of the product.
        """
        if origin.region is None:
            self._computed_from.append(frozenset(origin.names))
            rows = self._computed.get(module[1], []) if module[1] is not None else []
            rows = rows or [row for row in self._rows.values() if row.parameter in origin.names]
            if len(rows) == 1:
                rows[0].is_computed = True
                return [(rows[0], 1.0)]
            return [(self._functional_row(origin, module, weight, is_computed=True), 1.0)]
        memory = memory_of(self._parameters[origin.names[0]])
        first, last = origin.region
        found = []
        for row in self._memories.get(memory, []):
            overlap = min(last, row.region[1]) - max(first, row.region[0])
            if overlap > 0:
                found.append((row, overlap / (last - first)))
        if found and abs(sum(share for _, share in found) - 1) < 1e-9:
            return found
        return [(self._functional_row(origin, module, weight, is_computed=False), 1.0)]

    def _functional_row(self, origin: Origin, module: Module, weight: Tensor, *, is_computed: bool) -> _Row:
        key = (origin.names, origin.region)
        if key in self._functional:
            return self._functional[key]
        row = self._functional[key] = _Row([], origin.region or (0, 0))
        real = [size for size, stride in zip(weight.shape, weight.stride(), strict=True) if stride]
        rows, cols = real[-2] if len(real) > 1 else 1, real[-1]
        groups = max(1, weight.numel() // max(1, rows * cols)) if len(real) > 2 else 1
        row.shape = (rows, cols, groups)
        whole = self._parameters[origin.names[0]]
        row.fqn = origin.names[0]
        if origin.region is not None and origin.region != extent(whole):
            row.fqn += f"[{origin.region[0] - whole.storage_offset()}:{origin.region[1] - whole.storage_offset()}]"
        where = f"{type(module[1]).__name__}.forward" if module[1] is not None else "a function"
        row.unsupported_reason = f"{where} multiplies the parameter directly, not a layer of a registered type"
        if is_computed:
            row.fqn = " * ".join(origin.names[:2]) + (" ..." if len(origin.names) > 2 else "")
            row.unsupported_reason = f"the weight is computed from parameters in {where}"
        return row

    # -- after the pass ------------------------------------------------------------------------------------------------

    def to_graph(self) -> LayerGraph:
        """Return the layer graph of the recorded forward pass, with the counts of all operations."""
        names = {id(tensor): [] for tensor in self._parameters.values()}  # type: dict[int, list[str]]
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name.rpartition(".")[0])
        for row in self._order:
            row.unsupported_reason = row.unsupported_reason or self._unsupported_reason(row)
        nodes = tuple(row.node(self._aliases(row, names)) for row in self._order)
        for parameters, key, counts in self._constant_work:
            if self.computes_weight(parameters):
                self._sizes[key] = [whole - part for whole, part in zip(self._sizes[key], counts, strict=True)]
        ops = tuple(
            DigitalOp(name, calls, written, read, macs, flops, size, scheduled_after)
            for (name, scheduled_after), (calls, written, read, macs, flops, size) in self._sizes.items()
            if calls
        )
        ran = {user.fqn for row in self._order for user in row.users}
        unused = tuple(each.fqn for each in self._placed if each.fqn not in ran)
        return LayerGraph(nodes, ops, tuple(self._edges), unused)

    def _aliases(self, row: _Row, names: dict[int, list[str]]) -> tuple[str, ...]:
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

    def _unsupported_reason(self, row: _Row) -> str:
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
