"""Layer graph: a list of all operations that a network performs in one inference, with their sizes.

The package traces any `nn.Module` with the inputs of one inference and returns a frozen `LayerGraph`. A Hugging Face model can
also be built from its configuration, without weights. The graph lists every projection (a weight matrix that multiplies
vectors) with its shape, its number of matrix-vector multiplications (MVMs) and its number of multiply-accumulate operations
(MACs). It also lists every other operation, except operations that only move, view or allocate data. Layer types define which
modules contain projections, and users can register more layer types. The module `convolutions` lists the convolutions of
PyTorch. This package must not depend on tiles, noise or platforms.
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
