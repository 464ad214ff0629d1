"""Counts of the products with one weight in a forward pass."""

from __future__ import annotations

from typing import final

from torch import nn

from lionheart.graph.layer_types import PlacedProjection
from lionheart.graph.nodes import LayerNode

Module = tuple[str, nn.Module | None]  # name of a module, and the module; None outside all modules


@final
class Row:
    """Counts of the products with one weight in a forward pass.

    Args:
        users: Projections (weight matrices) that use the weight; empty for a parameter outside layers of registered types.
        region: Positions of the first and last (exclusive) element of the weight in the memory of its parameter, in elements.
        layer_type: Layer type of the weight if `users` is empty.
        quantised: Type of a quantised weight; empty for a floating-point weight.
    """

    def __init__(
        self,
        users: list[PlacedProjection],
        region: tuple[int, int],
        *,
        layer_type: str = "functional",
        quantised: str = "",
    ) -> None:
        self.users, self.region, self.quantised = users, region, quantised
        self.layer_type = users[0].projection.layer_type if users else layer_type
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
        """Number of weights."""
        rows, cols, groups = self.shape
        return rows * cols * groups

    def node(self, aliases: tuple[str, ...] = ()) -> LayerNode:
        """Return a node of the layer graph with the counts. `aliases` are the names of other layers that use the weight."""
        rows, cols, groups = self.shape
        return LayerNode(
            fqn=self.fqn,
            layer_type=self.layer_type,
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


def where_in(module: Module) -> str:
    """Return a name for the code that runs: the forward method of a module, or a function outside all modules."""
    return f"{type(module[1]).__name__}.forward" if module[1] is not None else "a function"


def explain_missing_layer(module: Module) -> str:
    """Return the reason why a parameter that the code of `module` multiplies cannot run on analog tiles."""
    return f"{where_in(module)} multiplies the parameter directly, not a layer of a registered type"
