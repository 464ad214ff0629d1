"""Graph: a model and example inputs in, a frozen description of its work out.

Comes in: any `nn.Module` and the inputs of one inference; a Hugging Face model from its configuration alone. Goes out: a
`LayerGraph`: every projection (a weight matrix that multiplies vectors) with its shape, MVMs and MACs, and every other
operation with its size; nothing is dropped silently. Which layers hold projections is said by kinds, which users can add.
Must not know: tiles, noise, platforms.
"""

from lionheart.graph.inputs import trace_with_any_inputs
from lionheart.graph.kinds import Projection, register_kind, unregister_kind
from lionheart.graph.nodes import DigitalOp, LayerGraph, LayerNode
from lionheart.graph.trace import trace_graph

__all__ = [
    "DigitalOp",
    "LayerGraph",
    "LayerNode",
    "Projection",
    "register_kind",
    "trace_graph",
    "trace_with_any_inputs",
    "unregister_kind",
]
