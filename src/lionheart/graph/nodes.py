"""Data classes of a layer graph: projections (weight matrices) and other operations. Counts are for one inference (batch 1)."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import cached_property
from typing import Annotated, final

from pydantic import ConfigDict, Field, computed_field
from pydantic.dataclasses import dataclass

from lionheart.deprecated import warn_deprecated
from lionheart.errors import ConfigError, suggest
from lionheart.graph.convolutions import CONVOLUTION_TYPES
from lionheart.record import Record


@dataclass(frozen=True)
class LayerNode:
    """A projection in a layer graph: a weight matrix that multiplies vectors. A weight that several layers share is one node.

    Args:
        fqn: Fully qualified name in the model. A shared weight has the name of the layer that runs first.
        layer_type: Name of the layer type, for example ``linear``, ``conv2d``, ``mha`` or ``lstm``. The type is ``functional``
            for a parameter that is multiplied outside all layers of registered types. The type is ``stacked`` for one matrix of
            a parameter that holds several, such as the weight matrix of one expert.
        rows: Number of inputs of the weight matrix of one group. For a convolution: channels per group times elements of the
            kernel.
        cols: Number of outputs of the weight matrix of one group.
        groups: Number of groups. Each group has its own weight matrix.
        n_mvms: Number of vectors that the matrix of one group multiplies per inference, summed over all calls. Examples are
            the number of tokens and the number of output positions.
        n_calls: Number of calls per inference of the operation that multiplies inputs with the weight, summed over all layers
            that share the weight. One call usually multiplies many vectors.
        n_inputs: Number of elements of the input tensors, summed over all calls per inference. For a convolution, the copies
            that im2col makes are not counted.
        n_outputs: Number of elements of the output tensors, summed over all calls per inference.
        has_bias: Whether a bias is added to the products. A bias is always added digitally.
        aliases: Names of the other layers that use the same weight. Such a layer is an embedding, or a projection that always
            has the same placement as this node.
        unsupported_reason: Reason why the projection cannot run on analog tiles; empty if it can.
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
    def kind(self) -> str:
        """Deprecated name of `layer_type`."""
        warn_deprecated("LayerNode.kind", "LayerNode.layer_type")
        return self.layer_type

    @property
    def is_convolution(self) -> bool:
        """Whether the layer is a convolution, so its input vectors are im2col vectors. False for a transposed convolution."""
        return self.layer_type in CONVOLUTION_TYPES

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tied_to(self) -> str | None:
        """First of the names in `aliases`, or None if no other layer uses the weight of this projection (weight matrix)."""
        return self.aliases[0] if self.aliases else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def weights(self) -> int:
        """Number of weights in the weight matrices of all groups, without the bias."""
        return self.rows * self.cols * self.groups

    @computed_field  # type: ignore[prop-decorator]
    @property
    def macs(self) -> int:
        """Number of multiply-accumulate operations (MACs) per inference."""
        return self.weights * self.n_mvms


@final
@dataclass(frozen=True)
class DigitalOp:
    """An operation without a weight matrix, with counts over all its calls that are scheduled after the same projection.

    Args:
        name: Name of the operation, for example ``relu`` or ``add``.
        n_calls: Number of calls per inference.
        n_elements: Number of elements written per inference.
        n_operands: Number of elements read per inference.
        macs: Number of multiply-accumulate operations (MACs) per inference if the operation is a product without a static
            weight, such as attention scores; else 0.
        flops: Number of arithmetic operations and elementary functions per inference. One MAC counts as two.
        n_bytes: Number of bytes read and written per inference.
        scheduled_after: Name of the projection (weight matrix) after which the operation is scheduled on several cores: the
            last projection to run that produces an input of the operation. Empty if no projection produces an input.
    """

    name: str
    n_calls: int
    n_elements: int
    n_operands: int
    macs: int = 0
    flops: int = 0
    n_bytes: int = 0
    scheduled_after: str = ""


@final
@dataclass(frozen=True)
class OtherWeight:
    """A parameter of two or more dimensions that belongs to no projection (weight matrix), embedding or norm.

    Args:
        name: Name of the parameter in the model. If a layer stores its weights in no parameter, the name of the layer.
        shape: Shape of the parameter; empty if it is not known.
        reason: Use of the parameter in the forward pass, which tells why it is no projection.
        macs: Number of multiply-accumulate operations (MACs) with the parameter per inference; None if it is not known.
    """

    name: str
    shape: tuple[int, ...]
    reason: str
    macs: int | None = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def weights(self) -> int:
        """Number of weights; 0 if the shape is not known."""
        return math.prod(self.shape) if self.shape else 0


class GraphTotals(Record):
    """Total numbers of operations and of weights, summed over all projections (weight matrices) of a network.

    Args:
        macs: Number of multiply-accumulate operations (MACs) per inference.
        weights: Number of weights. A weight that several layers share is counted once.
        macs_other: Number of MACs per inference with parameters outside projections, as far as the number is known.
        weights_other: Number of weights in parameters of two or more dimensions that belong to no projection, embedding or
            norm.
        is_complete: Whether the number of MACs is known for every parameter outside projections.
    """

    macs: int
    weights: int
    macs_other: int = 0
    weights_other: int = 0
    is_complete: bool = True


@dataclass(frozen=True, config=ConfigDict(validate_by_name=True, serialize_by_alias=True))
class LayerGraph:
    """All operations that a network performs in one inference. In JSON, the field `nodes` is named ``projections``.

    Args:
        nodes: Projections (weight matrices) in the order in which they first run.
        other_ops: All other operations, except operations that only move, view or allocate data. One entry sums the calls of an
            operation that are scheduled after the same projection.
        edges: Pairs of projection names ``(producer, consumer)``. Outputs of the producer reach the consumer without another
            projection between them.
        unused_projections: Projections that computed no product in the traced forward pass, with zero MVMs.
        other_weights: Parameters of two or more dimensions that belong to no projection, embedding or norm.
        notes: Notes on the counts, such as example inputs in which no batch dimension was found.
    """

    nodes: Annotated[tuple[LayerNode, ...], Field(alias="projections")]
    other_ops: tuple[DigitalOp, ...]
    edges: tuple[tuple[str, str], ...] = ()
    unused_projections: tuple[LayerNode, ...] = ()
    other_weights: tuple[OtherWeight, ...] = ()
    notes: tuple[str, ...] = ()

    def __getitem__(self, fqn: str) -> LayerNode:
        if fqn in self._by_name:
            return self._by_name[fqn]
        raise ConfigError(
            f"layer: got {fqn!r}, expected the name of a projection (weight matrix) of the network",
            hint=suggest(fqn, (node.fqn for node in self.nodes), label="projections"),
        )

    @cached_property
    def _by_name(self) -> dict[str, LayerNode]:
        return {node.fqn: node for node in self.nodes}

    @property
    def fqns(self) -> tuple[str, ...]:
        """Names of the projections (weight matrices), in the order of `nodes`."""
        return tuple(node.fqn for node in self.nodes)

    @property
    def ops_by_name(self) -> tuple[DigitalOp, ...]:
        """Operations in `other_ops`, with one entry for each operation name.

        An entry sums all calls of the operation, and its `scheduled_after` is empty.
        """
        rows: dict[str, DigitalOp] = {}
        for op in self.other_ops:
            rows[op.name] = _add(rows[op.name], op) if op.name in rows else replace(op, scheduled_after="")
        return tuple(rows.values())

    @property
    def macs(self) -> int:
        """Number of multiply-accumulate operations (MACs) per inference, summed over all projections (weight matrices)."""
        return sum(node.macs for node in self.nodes)

    @property
    def weights(self) -> int:
        """Number of weights in all projections (weight matrices). A weight that several layers share is counted once."""
        return sum(node.weights for node in self.nodes)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def totals(self) -> GraphTotals:
        """Numbers of multiply-accumulate operations (MACs) and weights, summed over all projections (weight matrices)."""
        return GraphTotals(
            macs=self.macs,
            weights=self.weights,
            macs_other=sum(each.macs or 0 for each in self.other_weights),
            weights_other=sum(each.weights for each in self.other_weights),
            is_complete=self.is_complete,
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the projections (weight matrices) that computed no product in the traced forward pass."""
        return tuple(node.fqn for node in self.unused_projections)

    @property
    def is_complete(self) -> bool:
        """Whether the number of MACs is known for every parameter that belongs to no projection, embedding or norm."""
        return all(each.macs is not None for each in self.other_weights)


def _add(first: DigitalOp, second: DigitalOp) -> DigitalOp:
    """Return a copy of `first` with the counts of `second` added. `first` and `second` describe the same operation."""
    counts = [item.name for item in fields(DigitalOp) if item.name not in ("name", "scheduled_after")]
    return replace(first, **{count: getattr(first, count) + getattr(second, count) for count in counts})
