"""Trace models for which no example inputs are given.

The inputs are guessed from the configuration of a Hugging Face model, or from the first layer of a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lionheart.data import device_of
from lionheart.errors import ConfigError, GraphError
from lionheart.graph.convolutions import is_convolution
from lionheart.graph.nodes import LayerGraph
from lionheart.graph.trace import trace_graph

_TOKENS, _STEPS = 16, 16  # sequence lengths of guessed example inputs
_IMAGE_SIZES = (32, 224, 64, 28)


def trace_with_any_inputs(model: nn.Module) -> LayerGraph:
    """Trace a model with guessed inputs and return its layer graph.

    For a Hugging Face model, the inputs are first guessed from its configuration. Further inputs are guessed from the first
    embedding, linear, recurrent, attention or convolution layer. The first guess that the model accepts is used.

    Args:
        model: Model to trace. Its weights and its training mode are not changed.

    Raises:
        ConfigError: The model accepts none of the guessed inputs, or no inputs can be guessed.
    """
    tried = []
    for inputs in _guesses(model):
        try:
            return trace_graph(model, inputs)
        except GraphError as error:
            tried.append(str(error.message).split(": ", 1)[-1])
    name = type(model).__name__
    raise ConfigError(
        f"{name}: no example inputs were given, and LionHeart could not guess inputs that the model accepts"
        + (
            f"; the last guess failed: {tried[-1]}"
            if tried
            else "; the model has no embedding, linear, recurrent, attention or convolution layer"
        ),
        hint="return (model, example_inputs) from the model function; example_inputs must be a tensor, a tuple of positional "
        "arguments, or a dict of keyword arguments",
    )


def _guesses(model: nn.Module) -> Iterator[Any]:
    if hasattr(model, "config") and hasattr(model, "main_input_name"):
        from lionheart.graph.hf import example_inputs

        yield example_inputs(model)
    device = device_of(model)
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            yield torch.zeros(1, _TOKENS, dtype=torch.long, device=device)
        elif isinstance(module, nn.Linear):
            yield torch.zeros(1, module.in_features, device=device)
            yield torch.zeros(1, _TOKENS, module.in_features, device=device)
        elif isinstance(module, (nn.LSTM, nn.GRU, nn.RNN)):
            shape = (1, _STEPS) if module.batch_first else (_STEPS, 1)
            yield torch.zeros(*shape, module.input_size, device=device)
        elif isinstance(module, nn.MultiheadAttention):
            yield torch.zeros(1, _TOKENS, module.embed_dim, device=device)
        elif is_convolution(module):
            n = len(module.kernel_size)
            for size in _IMAGE_SIZES:
                yield torch.zeros(1, module.in_channels, *[size] * n, device=device)
        else:
            continue
        return
