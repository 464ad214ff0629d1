"""Track the parameters from which a tensor is computed, and the projections (weight matrices) that produced the tensor.

Tensors are identified by their memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn


@final
@dataclass(frozen=True)
class Origin:
    """The parameters and buffers from which a tensor is computed. A tensor that depends on model inputs has no origin.

    Args:
        names: Names of the parameters and buffers; empty for a constant.
        region: Positions of the first and last (exclusive) element of the tensor in the memory of a parameter or buffer, in
            elements, if the tensor is a view or a copy of this parameter or buffer. None for any other tensor.
        picks: Fraction of the vectors that each matrix of a stack multiplies, if the inputs of the model choose the matrix for
            each vector. Empty if the product does not multiply matrix by matrix, as in a convolution. None for any other
            tensor.
    """

    names: tuple[str, ...] = ()
    region: tuple[int, int] | None = None
    picks: tuple[float, ...] | None = None


_CONSTANT = Origin()
_OF_MODULES = set(vars(nn.Module()))  # attributes of every module, such as those that hold its parameters


def extent(tensor: Tensor) -> tuple[int, int]:
    """Return the positions of the first and last (exclusive) element of a tensor in its storage, in elements."""
    if not has_memory(tensor):
        return 0, int(tensor.numel())
    start = int(tensor.storage_offset())
    if tensor.numel() == 0:
        return start, start
    return start, start + 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))


def memory_of(tensor: Tensor) -> int:
    """Return an identifier of the memory of a tensor, on any torch device. All views of a tensor have the same identifier.

    A sparse tensor has no single memory; its identifier is that of the Python object.
    """
    return int(tensor.untyped_storage()._cdata) if has_memory(tensor) else -id(tensor)


def has_memory(tensor: Tensor) -> bool:
    """Return whether the elements of a tensor are stored in one memory at fixed positions. False for a sparse tensor."""
    return tensor.layout is torch.strided


def inner_tensors(tensor: Tensor) -> list[Tensor]:
    """Return the plain tensors that a tensor of a subclass contains, such as the integers and scales of a quantised tensor."""
    if type(tensor) in (Tensor, nn.Parameter):
        return []
    names = getattr(tensor, "__tensor_flatten__", lambda: (list(vars(tensor)), None))()[0]
    found = [each for each in (getattr(tensor, str(name), None) for name in names) if isinstance(each, Tensor)]
    return [leaf for each in found for leaf in (inner_tensors(each) or [each])]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters, buffers and other tensors that a model stores, by fully qualified name.

    Other tensors are attributes of a module, and elements of lists, tuples and dicts that are attributes of a module.
    """
    found = dict([*model.named_parameters(), *model.named_buffers()])
    for fqn, module in model.named_modules():
        for name, value in vars(module).items():
            if name in _OF_MODULES:
                continue
            for key, item in _elements(value):
                if isinstance(item, Tensor):
                    found.setdefault(".".join(filter(None, (fqn, name, str(key)))), item)
    return found


def _elements(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the pair ``("", value)``, and then a pair ``(key, element)`` for each element of a list, tuple or dict."""
    yield "", value
    if isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from value.items()


@final
class StorageTracker:
    """Tracks the parameters and the projections (weight matrices) from which each tensor in a forward pass is computed.

    Args:
        model: Model whose parameters and buffers are tracked.
    """

    def __init__(self, model: nn.Module) -> None:
        self._owners: dict[int, list[tuple[str, int, int]]] = {}
        self._of_memory: dict[int, Origin] = {}
        self._producers: dict[int, frozenset[str]] = {}
        self._held: list[
            Tensor
        ] = []  # copies of parameters are kept alive, so that their memory is not reused by other tensors
        for name, tensor in named_tensors(model).items():
            self._owners.setdefault(memory_of(tensor), []).append((name, *extent(tensor)))
            for inner in inner_tensors(tensor):
                self._of_memory[memory_of(inner)] = Origin((name,))
                self._held.append(inner)

    def of(self, tensor: Tensor) -> Origin | None:
        """Return the parameters and buffers that a tensor is computed from, or None if the tensor depends on model inputs."""
        memory = memory_of(tensor)
        if memory not in self._owners:
            return self._of_memory.get(memory)
        first, last = extent(tensor)
        owners = self._owners[memory]
        name = next((name for name, a, b in owners if a <= first and last <= b), owners[0][0])
        return Origin((name,), (first, last))

    def parameters(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Return the names of the parameters and buffers from which `tensors` are computed.

        The result is empty if a tensor depends on the inputs of the model, or if all tensors are constants.
        """
        origins = [self.of(each) for each in tensors]
        if any(each is None for each in origins):
            return frozenset()
        return frozenset(name for each in origins if each is not None for name in each.names)

    def producers(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Return the names of the projections (weight matrices) that produced `tensors`.

        A projection is a producer if its outputs reach a tensor without another projection between them.
        """
        found: frozenset[str] = frozenset()
        for tensor in tensors:
            found |= self._producers.get(memory_of(tensor), frozenset())
        return found

    def follow(self, inputs: list[Tensor], outputs: list[Tensor], *, copies: bool, writes: bool) -> None:
        """Record the origins and the producers of the outputs of an operation other than a product with a weight.

        The origins (parameters and buffers) and the producers (projections, i.e. weight matrices) are those of the inputs. The
        outputs have no origin if an input of the operation depends on the inputs of the model.

        Args:
            inputs: Input tensors of the operation.
            outputs: Output tensors of the operation.
            copies: Whether the operation only copies its input.
            writes: Whether the operation modifies one of its inputs in place.
        """
        producers = self.producers(inputs)
        origins = [self.of(each) for each in inputs]
        shared = {memory_of(each) for each in inputs}
        made: Origin | None = None
        if all(each is not None for each in origins):
            names = dict.fromkeys(name for each in origins if each is not None for name in each.names)
            made = replace(_CONSTANT, names=tuple(names))
            if copies and len(origins) == 1 and outputs and outputs[0].numel() == inputs[0].numel():
                made = origins[0]
        for output in outputs:
            memory = memory_of(output)
            if memory in shared and not writes:
                continue  # a view, whose memory has the same origin and producers
            if memory not in self._owners:
                self._set(memory, output, made)
            self._producers[memory] = producers

    def follow_product(self, output: Tensor, fqns: Iterable[str]) -> None:
        """Record that `output` is the product of inputs with the projections (weight matrices) that `fqns` names."""
        memory = memory_of(output)
        self._set(memory, output, None)
        self._producers[memory] = frozenset(fqns)

    def mark(self, output: Tensor, origin: Origin) -> None:
        """Set the origin of `output` to `origin`, which replaces the origin that `follow` recorded."""
        self._set(memory_of(output), output, origin)

    def mark_constant(self, output: Tensor) -> None:
        """Record that `output` is a constant that the forward pass creates, such as the result of `torch.tensor`.

        Its memory may have belonged to a tensor that no longer exists, whose origin and producers do not apply.
        """
        self._set(memory_of(output), output, _CONSTANT)
        self._producers.pop(memory_of(output), None)

    def _set(self, memory: int, output: Tensor, origin: Origin | None) -> None:
        if origin is None:
            self._of_memory.pop(memory, None)
            return
        self._of_memory[memory] = origin
        if origin.names:
            self._held.append(output)
