"""Records the channels of activations, and the parameters that change with their factors, while a model runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from lionheart.graph.storage import has_memory, memory_of

_NO_CHANNEL = 0  # label of elements that belong to no channel
_SHARED = "the parameter {} is used under another name too"
_UNSEEN = "its inputs are inputs of the network"


@final
@dataclass(frozen=True)
class ParameterUse:
    """How the factors of channels change a parameter.

    Args:
        parameter: Name of the parameter.
        channels: Number of the channel for each element of the parameter, in a shape that expands to that of the parameter; 0
            = none.
        divides: Whether the parameter is divided by the factors; otherwise it is multiplied with them.
    """

    parameter: str
    channels: Tensor
    divides: bool


@final
@dataclass(frozen=True)
class Producer:
    """A layer whose outputs are channels: a norm with factors, or a projection.

    Args:
        name: Name of the layer.
        first: Number of its first channel.
        n_channels: Number of its channels.
    """

    name: str
    first: int
    n_channels: int


@final
@dataclass(frozen=True)
class ChannelMap:
    """The channels of a network, found in one forward pass.

    Args:
        producers: Layers that produce channels, in the order in which they ran.
        uses: Parameters that change with the factors of the channels.
        reasons: Why a channel keeps the factor 1, by number of the channel ``(1 + channels,)``; empty = its factor is free.
        largest: Largest magnitude of each channel that a projection has read ``(1 + channels,)``; 0 = not read.
        unscaled: Why no channel feeds a projection, by name of the projection.
    """

    producers: tuple[Producer, ...]
    uses: tuple[ParameterUse, ...]
    reasons: tuple[str, ...]
    largest: Tensor
    unscaled: dict[str, str]


@final
class ChannelBook:
    """Channels and their uses, collected while a model runs.

    Args:
        model: Model that runs.
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters: dict[int, list[tuple[str, Tensor]]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if has_memory(parameter):
                self._parameters.setdefault(memory_of(parameter), []).append((name, parameter))
        self._labels: Any = WeakTensorKeyDictionary()
        self._sources: Any = WeakTensorKeyDictionary()
        self._producers: dict[str, Producer] = {}
        self._uses: list[ParameterUse] = []
        self._reasons = [""]
        self._largest = torch.zeros(1)
        self._fixed: dict[str, str] = {}
        self._unscaled: dict[str, str] = {}

    # -- tensors -----------------------------------------------------------------------------------------------------------

    def labels(self, tensor: Any) -> Tensor | None:
        """Return the number of the channel of each element of a tensor; None if it has no channels."""
        found: Tensor | None = self._labels.get(tensor) if isinstance(tensor, Tensor) else None
        return found

    def set_labels(self, tensor: Tensor, labels: Tensor | None, source: str = "") -> None:
        """Set the channels of a tensor, or, if `labels` is None, the name of the operation that has computed it."""
        if labels is None:
            self._labels.pop(tensor, None)
            self._sources[tensor] = source
        else:
            self._labels[tensor] = labels.expand(tensor.shape)

    def source(self, tensor: Tensor) -> str:
        """Return the name of the operation that has computed a tensor without channels; empty for an input of the network."""
        name: str = self._sources.get(tensor, "")
        return name

    def block(self, tensors: Iterable[Any], reason: str) -> None:
        """Let the channels of all `tensors` keep the factor 1."""
        for each in tensors:
            labels = self.labels(each)
            if labels is not None:
                self.block_labels(labels, reason)

    def block_labels(self, labels: Tensor, reason: str) -> None:
        """Let the channels with the numbers `labels` keep the factor 1."""
        for number in distinct(labels):
            self._reasons[number] = self._reasons[number] or reason

    # -- parameters --------------------------------------------------------------------------------------------------------

    def parameter(self, tensor: Any) -> tuple[str, bool] | None:
        """Return the name of the parameter that a tensor is, and whether it is transposed; None if it is none."""
        for name, parameter in self._owners(tensor):
            where = (parameter.shape, parameter.stride(), parameter.storage_offset())
            if (tensor.shape, tensor.stride(), tensor.storage_offset()) == where:
                return name, False
            if parameter.ndim == 2 and (tensor.t().shape, tensor.t().stride(), tensor.storage_offset()) == where:
                return name, True
        return None

    def is_vector(self, tensor: Any, size: int) -> bool:
        """Return whether a tensor is a parameter with one number for each of `size` channels."""
        return isinstance(tensor, Tensor) and tensor.shape == (size,) and self.parameter(tensor) is not None

    def fix(self, tensor: Any, reason: str) -> None:
        """Keep the parameter that `tensor` shows unchanged."""
        for name, _ in self._owners(tensor):
            self._fixed.setdefault(name, reason)

    def _owners(self, tensor: Any) -> list[tuple[str, Tensor]]:
        if not isinstance(tensor, Tensor) or not has_memory(tensor):
            return []
        return self._parameters.get(memory_of(tensor), [])

    def produce(self, factors: Tensor, bias: Tensor | None, axis: int = 0) -> Tensor | None:
        """Return the numbers of the channels that a layer with these factors (or rows of a weight) and this bias produces.

        Args:
            factors: Parameter with one slice for each channel.
            bias: Parameter with one number for each channel; None = the layer has none.
            axis: Dimension of `factors`, as stored, that counts the channels.

        Returns:
            Numbers of the channels ``(channels,)``; None if an argument is not a parameter.
        """
        known = self.parameter(factors)
        if known is None or (bias is not None and not self.is_vector(bias, factors.shape[axis])):
            return None
        name, n_channels = layer_of(known[0]), factors.shape[axis]
        if name not in self._producers:
            self._producers[name] = Producer(name, len(self._reasons), n_channels)
            self._reasons += [""] * n_channels
            self._largest = torch.cat([self._largest, torch.zeros(n_channels)])
        first = self._producers[name].first
        labels = torch.arange(first, first + n_channels, dtype=torch.int32)
        self.change(factors, labels.reshape([-1 if dim == axis else 1 for dim in range(factors.ndim)]), divides=True)
        if bias is not None:
            self.change(bias, labels, divides=True)
        return labels

    def change(self, tensor: Tensor, labels: Tensor, *, divides: bool) -> None:
        """Record that the parameter that `tensor` is, as stored, changes with the factors of the channels `labels`."""
        known = self.parameter(tensor)
        if known is not None:
            self._uses.append(ParameterUse(known[0], labels, divides))

    def note_input(self, x: Tensor, labels: Tensor | None, name: str) -> None:
        """Record the largest magnitudes of the inputs ``(samples, channels, ...)`` of a projection.

        Args:
            x: Inputs.
            labels: Number of the channel of each entry of dimension 1 of `x`; None = they are no channels.
            name: Name of the parameter that holds the weight.
        """
        if labels is None:
            source = self.source(x)
            self._unscaled.setdefault(layer_of(name), f"its inputs come from {source!r}" if source else _UNSEEN)
            return
        others = [dim for dim in range(x.ndim) if dim != 1]
        values = x.detach().abs().amax(dim=others).float().cpu()
        self._largest.scatter_reduce_(0, labels.long().reshape(-1), values, "amax")

    # -- result ------------------------------------------------------------------------------------------------------------

    def close(self) -> ChannelMap:
        """Return the channels, after channels with contradicting uses or parameters that must not change are blocked."""
        by_parameter: dict[tuple[str, bool], list[ParameterUse]] = {}
        for use in self._uses:
            by_parameter.setdefault((use.parameter, use.divides), []).append(use)
        tensors = {name: tensor for each in self._parameters.values() for name, tensor in each}
        shared = {name: each[0][0] for each in self._parameters.values() if len(each) > 1 for name, _ in each}
        for (name, _), uses in by_parameter.items():
            reason = self._fixed.get(name, "")
            if name in shared:
                reason = reason or _SHARED.format(name)
            elif not tensors[name].requires_grad:
                reason = reason or f"the parameter {name} is frozen"
            if any(not torch.equal(each.channels, uses[0].channels) for each in uses):
                reason = reason or f"{layer_of(name)} runs more than once, on different channels"
            for each in uses if reason else []:
                self.block_labels(each.channels, reason)
        kept = tuple(uses[0] for uses in by_parameter.values())
        return ChannelMap(
            tuple(self._producers.values()), kept, tuple(self._reasons), self._largest, dict(self._unscaled)
        )


def layer_of(parameter: str) -> str:
    """Return the name of the layer that owns a parameter, such as ``layer1.conv`` for ``layer1.conv.weight``."""
    return parameter.removesuffix("weight").removesuffix(".").removesuffix("_") or parameter


def distinct(labels: Tensor) -> list[int]:
    """Return the numbers of the channels in `labels`, without 0."""
    numbers: list[int] = torch.unique(_shrink(labels)).tolist()
    return [number for number in numbers if number != _NO_CHANNEL]


def _shrink(labels: Tensor) -> Tensor:
    """Return `labels` without the repetitions of expanded dimensions."""
    for dim, stride in enumerate(labels.stride()):
        if stride == 0 and labels.shape[dim] > 1:
            labels = labels.narrow(dim, 0, 1)
    return labels


def collapse(labels: Tensor, dims: Iterable[int]) -> Tensor | None:
    """Return `labels` with size 1 in the dimensions `dims`; None if the numbers differ along one of them, or if it is empty."""
    for dim in dims:
        if labels.shape[dim] == 0:
            return None
        first = labels.narrow(dim, 0, 1)
        if labels.stride(dim) != 0 and not bool((labels == first).all()):
            return None
        labels = first
    return labels
