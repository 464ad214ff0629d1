"""The data classes of a graph: projections and other operations. All counts are for one inference (batch 1)."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cached_property
from typing import Annotated, final

from pydantic import ConfigDict, Field, computed_field
from pydantic.dataclasses import dataclass

from lionheart.errors import ConfigError, suggest
from lionheart.graph.convolutions import CONVOLUTION_TYPES
from lionheart.record import Record


@dataclass(frozen=True)
class LayerNode:
    """One projection: a weight matrix that multiplies vectors. A weight that several layers share is one projection.

    Args:
        fqn: Fully qualified name in the model; for a shared weight, the name of the layer that runs first.
        layer_type: ``linear``, ``conv2d``, ``mha``, ``lstm`` and so on; ``functional`` for a parameter that no layer of a
            registered type multiplies.
        rows: Inputs of the matrix of one group; for a convolution, channels of a group times kernel size.
        cols: Outputs of the matrix of one group.
        groups: Number of groups.
        n_mvms: Matrix-vector multiplications of each group per inference, for example tokens or output positions.
        n_calls: Number of products with the weight per inference, over all layers that share it.
        n_inputs: Elements read per inference, before im2col.
        n_outputs: Elements written per inference.
        has_bias: Whether a bias is added, always digitally.
        aliases: Other layers with the same weight: projections, which get the same placement, and embeddings.
        unsupported_reason: Reason why the projection cannot run on tiles; empty if it can.
    """

    fqn: str
    layer_type: str
    rows: int
    cols: int
    groups: int
    n_mvms: int
    n_calls: int
    n_inputs: int
    n_outputs: int
    has_bias: bool
    aliases: tuple[str, ...] = ()
    unsupported_reason: str = ""

    @property
    def is_convolution(self) -> bool:
        """Whether the input vectors are im2col vectors. The vectors of a transposed convolution are not."""
        return self.layer_type in CONVOLUTION_TYPES

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tied_to(self) -> str | None:
        """The first other layer with the same weight, or None."""
        return self.aliases[0] if self.aliases else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def weights(self) -> int:
        """Number of weights, without the bias."""
        return self.rows * self.cols * self.groups

    @computed_field  # type: ignore[prop-decorator]
    @property
    def macs(self) -> int:
        """Multiply-accumulate operations per inference."""
        return self.weights * self.n_mvms


@final
@dataclass(frozen=True)
class DigitalOp:
    """An operation without a weight matrix, summed over all its calls that are scheduled after the same projection.

    Args:
        name: Name of the operation, for example ``relu`` or ``add``.
        n_calls: Number of calls per inference.
        n_elements: Elements written per inference.
        n_operands: Elements read per inference.
        macs: MACs per inference of a product without a static weight, such as attention scores; else 0.
        flops: Arithmetic operations and elementary functions per inference; two for each MAC.
        n_bytes: Bytes read and written per inference.
        scheduled_after: Projection that this operation is scheduled with on several cores: the last of its producers. Empty:
            the first stage.
    """

    name: str
    n_calls: int
    n_elements: int
    n_operands: int
    macs: int = 0
    flops: int = 0
    n_bytes: int = 0
    scheduled_after: str = ""


class GraphTotals(Record):
    """Sums over all projections.

    Args:
        macs: MACs per inference.
        weights: Number of weights; a shared weight counts once.
    """

    macs: int
    weights: int


@dataclass(frozen=True, config=ConfigDict(validate_by_name=True, serialize_by_alias=True))
class LayerGraph:
    """All work of one inference. In JSON the field `nodes` is called ``projections``.

    Args:
        nodes: Projections in the order in which they first run.
        other_ops: All other operations, one entry for each operation and projection that it is scheduled after.
        edges: Pairs (producer, consumer) of projections with no other projection between them.
        unused: Names of the projections that did not run.
    """

    nodes: Annotated[tuple[LayerNode, ...], Field(alias="projections")]
    other_ops: tuple[DigitalOp, ...]
    edges: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()

    def __getitem__(self, fqn: str) -> LayerNode:
        if fqn in self._by_name:
            return self._by_name[fqn]
        raise ConfigError(
            f"layer: got {fqn!r}, expected a projection of this network",
            hint=suggest(fqn, (node.fqn for node in self.nodes), label="projections"),
        )

    @cached_property
    def _by_name(self) -> dict[str, LayerNode]:
        return {node.fqn: node for node in self.nodes}

    @property
    def fqns(self) -> tuple[str, ...]:
        """Names of the projections."""
        return tuple(node.fqn for node in self.nodes)

    @property
    def ops_by_name(self) -> tuple[DigitalOp, ...]:
        """The other operations, summed to one entry for each name."""
        rows: dict[str, DigitalOp] = {}
        for op in self.other_ops:
            rows[op.name] = _add(rows[op.name], op) if op.name in rows else replace(op, scheduled_after="")
        return tuple(rows.values())

    @property
    def macs(self) -> int:
        """MACs of all projections per inference."""
        return sum(node.macs for node in self.nodes)

    @property
    def weights(self) -> int:
        """Number of weights of all projections; a shared weight counts once."""
        return sum(node.weights for node in self.nodes)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def totals(self) -> GraphTotals:
        """Sums over all projections."""
        return GraphTotals(macs=self.macs, weights=self.weights)


def _add(first: DigitalOp, second: DigitalOp) -> DigitalOp:
    """Return the sum of two entries of one operation."""
    counts = [item.name for item in fields(DigitalOp) if item.name not in ("name", "scheduled_after")]
    return replace(first, **{count: getattr(first, count) + getattr(second, count) for count in counts})
