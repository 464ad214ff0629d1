"""Graph: a description of all work of one inference of a network.

Takes any `nn.Module` and the inputs of one inference, or the configuration of a Hugging Face model. Returns a frozen
`LayerGraph`: every projection (a weight matrix that multiplies vectors) with its shape, matrix-vector multiplications (MVMs)
and multiply-accumulate operations (MACs), and every other operation with its size. No operation is omitted silently. Layer
types, which users can add, define which modules contain projections. The module `convolutions` defines the convolutions. Must
not know: tiles, noise, platforms.
"""

from typing import Any

from lionheart.deprecated import find_renamed
from lionheart.graph.inputs import trace_with_any_inputs
from lionheart.graph.layer_types import Projection, register_layer_type, unregister_layer_type
from lionheart.graph.nodes import DigitalOp, LayerGraph, LayerNode
from lionheart.graph.trace import trace_graph

__all__ = [
    "DigitalOp",
    "LayerGraph",
    "LayerNode",
    "Projection",
    "register_layer_type",
    "trace_graph",
    "trace_with_any_inputs",
    "unregister_layer_type",
]


def __getattr__(name: str) -> Any:
    return find_renamed(__name__, name)
