"""Graph: what a network computes, described once.

Takes any `nn.Module` and the inputs of one inference; or a Hugging Face model from its configuration alone. Returns a frozen
`LayerGraph`: every projection (a weight matrix that multiplies vectors) with its shape, MVMs and MACs, and every other
operation with its size; nothing is dropped silently. Layer types, which users can add, say which modules hold projections.
`convolutions` alone says what a convolution is. Must not know: tiles, noise, platforms.
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
