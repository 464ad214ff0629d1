"""Graph: a model and example inputs in, a frozen description of its work out.

Comes in: any `nn.Module` and the inputs of one inference. Goes out: a `LayerGraph`: every projection (a weight matrix that
multiplies vectors) with its shape, MVMs and MACs, and every other operation with its size; nothing is dropped silently.
Must not know: tiles, noise, platforms.
"""

from lionheart.graph.nodes import DigitalOp, LayerGraph, LayerNode
from lionheart.graph.trace import trace_graph

__all__ = ["DigitalOp", "LayerGraph", "LayerNode", "trace_graph"]
