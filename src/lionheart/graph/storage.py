"""Where a tensor comes from: which part of which parameter it is, or which projections produced it. Followed by its memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

from torch import Tensor, nn


@final
@dataclass(frozen=True)
class Origin:
    """What is known of a tensor that depends on no input.

    Args:
        names: Parameters and buffers it was made from; empty for constants.
        region: First and last (exclusive) element of the parameter's memory, if the tensor is that part or a copy of it.
    """

    names: tuple[str, ...] = ()
    region: tuple[int, int] | None = None


_CONSTANT = Origin()


def extent(tensor: Tensor) -> tuple[int, int]:
    """Return the first and last (exclusive) element of its memory that a tensor spans."""
    start = int(tensor.storage_offset())
    if tensor.numel() == 0:
        return start, start
    return start, start + 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))


def memory_of(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory, on every device, the meta device too."""
    return int(tensor.untyped_storage()._cdata)


@final
class StorageTracker:
    """Follows the tensors of one pass.

    Args:
        model: Its parameters and buffers are where tensors come from.
    """

    def __init__(self, model: nn.Module) -> None:
        self._owners: dict[int, list[tuple[str, int, int]]] = {}
        self._of_memory: dict[int, Origin] = {}
        self._producers: dict[int, frozenset[str]] = {}
        self._held: list[
            Tensor
        ] = []  # copies of parameters stay alive, so that their memory is not mistaken for another's
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.layout.__str__() == "torch.strided":
                self._owners.setdefault(memory_of(tensor), []).append((name, *extent(tensor)))

    def of(self, tensor: Tensor) -> Origin | None:
        """Return where a tensor comes from; None if it depends on inputs."""
        memory = memory_of(tensor)
        if memory not in self._owners:
            return self._of_memory.get(memory)
        first, last = extent(tensor)
        owners = self._owners[memory]
        name = next((name for name, a, b in owners if a <= first and last <= b), owners[0][0])
        return Origin((name,), (first, last))

    def producers(self, tensors: Iterable[Tensor]) -> frozenset[str]:
        """Return the projections whose outputs reach `tensors` with no other projection between."""
        found: frozenset[str] = frozenset()
        for tensor in tensors:
            found |= self._producers.get(memory_of(tensor), frozenset())
        return found

    def follow(self, inputs: list[Tensor], outputs: list[Tensor], *, copies: bool, writes: bool) -> None:
        """Note what an operation without a projection makes of its inputs.

        Args:
            inputs: Its tensors.
            outputs: Its results.
            copies: It only copies its input, whole.
            writes: It writes to its inputs.
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
                continue  # a view: what is known of the memory holds
            if memory not in self._owners:
                self._set(memory, output, made)
            self._producers[memory] = producers

    def follow_product(self, output: Tensor, fqns: Iterable[str]) -> None:
        """Note that `output` is the result of projections."""
        memory = memory_of(output)
        self._set(memory, output, None)
        self._producers[memory] = frozenset(fqns)

    def _set(self, memory: int, output: Tensor, origin: Origin | None) -> None:
        if origin is None:
            self._of_memory.pop(memory, None)
            return
        self._of_memory[memory] = origin
        if origin.names:
            self._held.append(output)
