"""Record how a forward pass uses the parameters that it does not multiply as a layer of a registered type does."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import final

from torch import Tensor, nn

from lionheart.graph.nodes import OtherWeight
from lionheart.graph.ops import LOOKUPS, NORMS
from lionheart.graph.storage import Origin


@final
class WeightReads:
    """Records the uses of parameters in operations that are not products while a model runs.

    Args:
        model: Model to trace. Its parameters of two or more dimensions are recorded. Its buffers are recorded if the operation
            that reads them may contain a product.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = {name: tensor for name, tensor in model.named_parameters() if tensor.ndim >= 2}
        self._buffers = {name: tensor for name, tensor in model.named_buffers() if tensor.ndim >= 2}
        self._uses: dict[str, dict[tuple[str, str], None]] = {}
        self._macs: dict[str, int | None] = {}
        self._packed: dict[str, OtherWeight] = {}
        self._views: dict[str, str] = {}

    def note(
        self, name: str, where: str, origins: Iterable[tuple[Tensor, Origin | None]], output: Tensor, *, hides: bool
    ) -> None:
        """Record one call of an operation that is not a known product.

        Args:
            name: Name of the operation.
            where: Name of the code that calls the operation.
            origins: Pairs of an input tensor and its origin; the origin of a tensor that depends on model inputs is None.
            output: First output tensor of the operation.
            hides: Whether the operation may contain a product that is not counted.
        """
        pairs = list(origins)
        is_constant = all(origin is not None for _, origin in pairs)
        for tensor, origin in pairs:
            if origin is None or (is_constant and name not in LOOKUPS):
                continue
            spread = name == "mul" and sum(size > 1 for size in tensor.shape) > 1 and _is_spread(pairs, output)
            for each in origin.names:
                if each not in self._parameters and not (hides and each in self._buffers):
                    continue
                self._uses.setdefault(each, {})[name, where] = None
                macs = self._macs.get(each, 0)
                self._macs[each] = None if hides or macs is None else macs + output.numel() * spread

    def note_view(self, where: str, origins: Iterable[Origin | None]) -> None:
        """Record an operation that reads parameters without arithmetic, such as a view. `where` is the code that calls it."""
        for origin in origins:
            for name in () if origin is None else origin.names:
                self._views.setdefault(name, where)

    def note_input(self, where: str, origin: Origin | None) -> None:
        """Record that the code `where` multiplies parameters, as inputs, with a weight."""
        for name in () if origin is None else origin.names:
            if name in self._parameters:
                self._uses.setdefault(name, {})["input of a product", where] = None
                self._macs.setdefault(name, 0)

    def are_weights(self, names: Iterable[str]) -> bool:
        """Return whether one of the parameters `names` has two or more dimensions."""
        return any(name in self._parameters for name in names)

    def note_packed(self, fqn: str, module: str, name: str) -> None:
        """Record a call of the operation `name` on packed weights, which no parameter stores.

        Args:
            fqn: Name of the module that calls the operation.
            module: Class name of the module.
            name: Name of the operation.
        """
        reason = f"{module} packs its weights for {name!r}; their sizes are not known"
        self._packed[fqn] = OtherWeight(fqn or module, (), reason, None)

    def list_others(self, covered: Collection[str]) -> tuple[OtherWeight, ...]:
        """Return the parameters that belong to no projection (weight matrix), embedding or norm.

        Args:
            covered: Names of the parameters that belong to a projection.
        """
        found = []
        for name, tensor in {**self._parameters, **self._buffers}.items():
            uses = self._uses.get(name, {})
            operations = {operation for operation, _ in uses}
            if name in covered or operations & (LOOKUPS | NORMS) or (name in self._buffers and not uses):
                continue
            macs = self._macs.get(name, None if name in self._views else 0)
            found.append(OtherWeight(name, tuple(tensor.shape), self._reason(name), macs))
        return (*found, *self._packed.values())

    def _reason(self, name: str) -> str:
        uses = self._uses.get(name, {})
        if not uses and name in self._views:
            return f"{self._views[name]} reads it outside of the operations that the trace shows"
        if not uses:
            return "not read on these inputs"
        where = next(place for _, place in uses)
        operations = ", ".join(dict.fromkeys(repr(operation) for operation, _ in uses))
        if self._macs.get(name) is None:
            return f"{where} uses it in {operations}, which may contain a product"
        if self._macs[name]:
            return f"{where} multiplies it element by element with expanded activations, in {operations}"
        return f"no product: {where} uses it in {operations}"


def _is_spread(pairs: Iterable[tuple[Tensor, Origin | None]], output: Tensor) -> bool:
    """Return whether activations are expanded over a weight, so that a sum of the products would be a matrix product."""
    activations = [tensor for tensor, origin in pairs if origin is None]
    return bool(activations) and all(_distinct(each) < output.numel() for each in activations)


def _distinct(tensor: Tensor) -> int:
    """Return the number of elements of a tensor in memory. Elements that a stride of 0 repeats count once."""
    number = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        number *= size if stride else 1
    return number
