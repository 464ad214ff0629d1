"""The data that describe a network's work. All counts are for one inference (batch 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, final

from lionheart.errors import ConfigError, suggest


@final
@dataclass(frozen=True)
class LayerNode:
    """One projection: a weight matrix that multiplies vectors.

    Args:
        fqn: Fully qualified name in the model.
        kind: ``linear``, ``conv1d``, ``conv2d`` or ``conv3d``.
        rows: Inputs of one group's matrix; for a convolution, channels of the group times kernel size.
        cols: Outputs of one group's matrix.
        groups: Number of such matrices.
        n_mvms: Matrix-vector products of each group per inference: tokens, or output positions.
        n_calls: Times the layer runs per inference.
        n_inputs: Elements read per inference (before im2col).
        n_outputs: Elements written per inference.
        has_bias: Whether a bias is added, always digitally.
        tied_to: Name of the projection that owns the same weight, if this one only shares it.
        obstacle: Why nothing else can take the layer's place in the model; empty if something can.
    """

    fqn: str
    kind: str
    rows: int
    cols: int
    groups: int
    n_mvms: int
    n_calls: int
    n_inputs: int
    n_outputs: int
    has_bias: bool
    tied_to: str | None = None
    obstacle: str = ""

    @property
    def weights(self) -> int:
        """Number of weights, without the bias."""
        return self.rows * self.cols * self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations per inference."""
        return self.weights * self.n_mvms


@final
@dataclass(frozen=True)
class DigitalOp:
    """Work that has no weight matrix, summed over its calls.

    Args:
        name: Operation, for example ``relu`` or ``add``.
        n_calls: Times it runs per inference.
        n_elements: Elements written per inference.
        n_operands: Elements read per inference.
        macs: MACs per inference when it is a product without a static weight, such as attention scores; else 0.
    """

    name: str
    n_calls: int
    n_elements: int
    n_operands: int
    macs: int = 0


@final
@dataclass(frozen=True)
class LayerGraph:
    """All work of one inference.

    Args:
        nodes: Projections in the order in which they first run.
        other_ops: Everything else.
    """

    nodes: tuple[LayerNode, ...]
    other_ops: tuple[DigitalOp, ...]

    def __getitem__(self, fqn: str) -> LayerNode:
        for node in self.nodes:
            if node.fqn == fqn:
                return node
        raise ConfigError(
            f"layer: got {fqn!r}, expected a projection of this network",
            hint=suggest(fqn, (node.fqn for node in self.nodes), label="projections"),
        )

    @property
    def fqns(self) -> tuple[str, ...]:
        """Names of the projections."""
        return tuple(node.fqn for node in self.nodes)

    @property
    def macs(self) -> int:
        """MACs of all projections per inference."""
        return sum(node.macs for node in self.nodes)

    @property
    def weights(self) -> int:
        """Weights of all projections; a tied weight counts once."""
        return sum(node.weights for node in self.nodes if node.tied_to is None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "projections": [{**asdict(n), "weights": n.weights, "macs": n.macs} for n in self.nodes],
            "other_ops": [asdict(op) for op in self.other_ops],
            "totals": {"macs": self.macs, "weights": self.weights},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        names = {item.name for item in fields(LayerNode)}
        nodes = tuple(LayerNode(**{k: v for k, v in row.items() if k in names}) for row in data["projections"])
        return cls(nodes, tuple(DigitalOp(**row) for row in data["other_ops"]))
