"""Loading of a model that is named on the command line, and tracing of its layer graph."""

from __future__ import annotations

from torch import nn

from lionheart.errors import ConfigError
from lionheart.graph import LayerGraph, trace_graph, trace_with_any_inputs
from lionheart.progress import Progress


def load_graph(name: str, progress: Progress) -> LayerGraph:
    """Trace the model called `name`, and return its layer graph (projections and other operations).

    Args:
        name: A built-in task (``cifar10/resnet8``), a Hugging Face model or a function. ``hf:NAME`` is a Hugging Face model,
            where ``NAME`` is a folder, a name on the hub or a model type. ``path/to/file.py:function`` or
            ``package.module:function`` is a function that returns a module, ``(module, example_inputs)`` or a `Task`.
        progress: Display of the progress of downloads.

    Raises:
        ConfigError: The model or function is unknown, or the function returns an object of another type.
        ArtifactError: A file cannot be read.
        GraphError: The model does not run on its inputs.
    """
    if name.startswith("hf:"):
        from lionheart.graph.hf import load_structure

        return trace_graph(*load_structure(name.removeprefix("hf:")))
    from lionheart.cli.tasks import build_known, build_structure, call_function
    from lionheart.tasks import Task

    found = call_function(name) if ":" in name else build_structure(name) or build_known(name, progress)
    if isinstance(found, Task):
        return found.trace()
    if isinstance(found, nn.Module):
        return trace_with_any_inputs(found)
    if isinstance(found, (tuple, list)) and len(found) == 2 and isinstance(found[0], nn.Module):
        return trace_graph(found[0], found[1])
    raise ConfigError(
        f"model: {name!r} returned {type(found).__name__}, expected a lionheart.Task, a module or (module, example_inputs)",
        hint="return lionheart.Task(...), the module, or (module, example_inputs) with a tuple of arguments or a dict",
    )
