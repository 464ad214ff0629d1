"""Count the operations of a forward pass that have no weight matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from torch import Tensor

from lionheart.graph.nodes import DigitalOp
from lionheart.graph.ops import flops_of


@final
class OperationCounts:
    """Counts the calls, elements and bytes of operations without a weight matrix while a model runs."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, str], list[int]] = {}
        self._constant_work: list[tuple[frozenset[str], tuple[str, str], list[int]]] = []
        self._computed_from: set[frozenset[str]] = set()  # names of the parameters of each computed weight

    def add(
        self,
        name: str,
        scheduled_after: str,
        inputs: Sequence[Tensor],
        output: Tensor,
        *,
        macs: int = 0,
        parameters: Iterable[str] = (),
    ) -> None:
        """Count one call of an operation.

        Args:
            name: Name of the operation, for example ``relu``.
            scheduled_after: Name of the projection (weight matrix) after which the call is scheduled; empty for none.
            inputs: Input tensors of the operation.
            output: Output tensor of the operation.
            macs: Number of multiply-accumulate operations (MACs) if the operation is a product; else 0.
            parameters: Names of the parameters and buffers from which the inputs are computed; empty if an input depends on the
                inputs of the model.
        """
        n_read, n_written = sum(each.numel() for each in inputs), output.numel()
        size = sum(each.numel() * each.element_size() for each in (*inputs, output))
        flops = 2 * macs or flops_of(name, n_written, n_read)
        counts = [1, n_written, n_read, macs, flops, size]
        entry = self._sizes.setdefault((name, scheduled_after), [0] * 6)
        for index, value in enumerate(counts):
            entry[index] += value
        names = frozenset(parameters)
        if names:
            self._constant_work.append((names, (name, scheduled_after), counts))

    def note_computed(self, names: Iterable[str]) -> None:
        """Record that a weight is computed from the parameters and buffers `names`."""
        self._computed_from.add(frozenset(names))

    def computes_weight(self, parameters: Iterable[str]) -> bool:
        """Return whether an operation is a step in the computation of the weight of a layer, as in spectral normalisation.

        Args:
            parameters: Names of the parameters and buffers from which all inputs of the operation are computed; empty if an
                input depends on the inputs of the model.
        """
        names = frozenset(parameters)
        return bool(names) and any(names <= known for known in self._computed_from)

    def to_ops(self) -> tuple[DigitalOp, ...]:
        """Return the operations with their counts, without those that compute a weight from parameters."""
        sizes = {key: list(counts) for key, counts in self._sizes.items()}
        for parameters, key, counts in self._constant_work:
            if self.computes_weight(parameters):
                sizes[key] = [whole - part for whole, part in zip(sizes[key], counts, strict=True)]
        return tuple(
            DigitalOp(name, calls, written, read, macs, flops, size, scheduled_after)
            for (name, scheduled_after), (calls, written, read, macs, flops, size) in sizes.items()
            if calls
        )
