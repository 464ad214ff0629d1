"""Channel rescaling: balance the channels of activations and weights between two layers, without changing the outputs.

Inputs ``x_j / s_j`` and weights ``w_j * s_j`` have the products of ``x_j`` and ``w_j``. One large channel sets the input range
of a tile, and the other channels then use few of its levels and drown in its output noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lionheart.analog.convert import analog_layers
from lionheart.data import call_model, eval_mode
from lionheart.errors import ConfigError, check_type
from lionheart.graph.channel_book import ChannelMap, ParameterUse, Producer, distinct, layer_of
from lionheart.graph.channels import find_channels
from lionheart.runs.rescaling import ChannelRescaling, RescaledChannels

_TOLERANCE = 1e-5  # largest change of an output, relative to the largest output
_LARGEST_EXPONENT = 10  # factors from 1/1024 to 1024


@torch.no_grad()
def rescale_channels_(
    model: nn.Module, inputs: Any, strength: float = 0.5, *, stored: ChannelRescaling | None = None
) -> ChannelRescaling:
    """Divide the channels between layers by factors, in place, so that inputs and weights of projections are balanced.

    Channel ``j`` is divided by ``s_j = max|x_j| ** strength / max|w_j| ** (1 - strength)``, relative to the geometric mean of
    the layer's factors and rounded to a power of two. The maximum of the weights is over all projections that read the channel.
    The division is made in the parameters of the norm or projection that produces the channel, and the product in the weights
    that read it. Powers of two change exponents of floating-point numbers only, so the outputs keep all bits.

    Layers are rescaled if their outputs reach nothing but projections, through operations that pass a factor on. Layers whose
    rescaling changes outputs of the network are restored.

    Args:
        model: Digital model; its parameters are changed in place.
        inputs: One batch of representative inputs: a tensor, a tuple of arguments or a dict of keyword arguments.
        strength: Exponent of the inputs, 0 to 1: 1 = all channels of the inputs become equally large, 0 = all channels of the
            weights.
        stored: Result of an earlier call for the same model, whose factors are used again; None = factors for `inputs`.

    Returns:
        The rescaled channels, and for each other projection the reason why it was left.

    Raises:
        ConfigError: `strength` is not from 0 to 1, the model has analog layers, or `stored` belongs to another model.
        GraphError: The forward pass fails.

    Source:
        Xiao et al., SmoothQuant, ICML 2023, Eq. (4); Nagel et al., Data-free quantization through weight equalization and bias
        correction, ICCV 2019 (arXiv:1906.04721).
    """
    check_type(model, nn.Module, "model", hint="pass the network itself")
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 <= strength <= 1:
        raise ConfigError(
            f"rescale_channels_: strength: got {strength!r}, expected a number from 0 to 1",
            hint="0.5 divides the differences equally between inputs and weights",
        )
    if analog_layers(model):
        raise ConfigError(
            f"rescale_channels_: got a model with {len(analog_layers(model))} analog layers, expected a digital model",
            hint="rescale the model before convert_to_analog_, or call convert_to_digital_ first",
        )
    channels = find_channels(model, inputs)
    folding = _Folding(model, channels, float(strength), stored)
    before = _run(model, inputs)
    for producer in channels.producers:
        folding.fold_(producer)
    if not _are_equal(before, _run(model, inputs)):
        for producer in reversed(channels.producers):  # a weight may have been changed for two of them
            folding.restore_(producer)
        for producer in channels.producers:
            folding.fold_(producer)
            if not _are_equal(before, _run(model, inputs)):
                folding.restore_(producer, "rescaling changes the outputs of the network")
    return folding.record()


@final
class _Folding:
    """Applies factors to the parameters of one model, producer by producer."""

    def __init__(
        self, model: nn.Module, channels: ChannelMap, strength: float, stored: ChannelRescaling | None
    ) -> None:
        self.channels, self.strength = channels, strength
        self.parameters = dict(model.named_parameters())
        self.free = torch.tensor([not reason for reason in channels.reasons])
        self.stored = None if stored is None else {each.producer: each for each in stored.folded}
        self.folded: dict[str, RescaledChannels] = {}
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.refused: dict[str, str] = {}
        names = {producer.name for producer in channels.producers}
        if self.stored is not None and (unknown := sorted(set(self.stored) - names)):
            raise ConfigError(
                f"rescale_channels_: stored: got factors of {unknown[0]!r}, which is no layer of {type(model).__name__}",
                hint="use the model for which the factors were computed",
            )

    def fold_(self, producer: Producer) -> None:
        """Rescale the channels of one layer, if they are free and a projection reads them."""
        numbers = torch.arange(producer.first, producer.first + producer.n_channels)
        uses = [each for each in self.channels.uses if bool(torch.isin(each.channels.long(), numbers).any())]
        readers = [each for each in uses if not each.divides]
        if not readers or not bool(self.free[numbers].any()):
            return
        exponents = self._choose(producer, numbers, readers)
        if exponents is None:
            return
        consumers = tuple(dict.fromkeys(layer_of(each.parameter) for each in readers))
        factors = torch.zeros(len(self.free))
        factors[numbers] = exponents.float()
        self.kept[producer.name] = {each.parameter: self.parameters[each.parameter].clone() for each in uses}
        for each in uses:
            self._scale_(each, factors)
        largest = self.channels.largest[numbers]
        self.folded[producer.name] = RescaledChannels(
            producer=producer.name,
            consumers=consumers,
            exponents=tuple(exponents.tolist()),
            spread_before=_spread(largest),
            spread_after=_spread(largest * torch.exp2(-exponents.float())),
        )

    def restore_(self, producer: Producer, reason: str = "") -> None:
        """Restore the parameters as they were before `fold_`; a `reason` is why the layer stays as it is."""
        for name, value in self.kept.pop(producer.name, {}).items():
            self.parameters[name].copy_(value)
        folded = self.folded.pop(producer.name, None)
        if folded is not None and reason:
            self.refused |= dict.fromkeys(folded.consumers, reason)

    def _choose(self, producer: Producer, numbers: Tensor, readers: Iterable[ParameterUse]) -> Tensor | None:
        """Return the exponent of each channel of a layer, 0 if it keeps its factor; None if the layer stays as it is."""
        if self.stored is not None:
            earlier = self.stored.get(producer.name)
            return None if earlier is None else torch.tensor(earlier.exponents)
        inputs, weights = self.channels.largest.double(), torch.zeros(len(self.free), dtype=torch.float64)
        for each in readers:
            values = self.parameters[each.parameter].detach().abs().double().cpu()
            weights.scatter_reduce_(0, each.channels.long().expand_as(values).reshape(-1), values.reshape(-1), "amax")
        inputs, weights = inputs[numbers], weights[numbers]
        chosen = self.free[numbers] & (inputs > 0) & (weights > 0) & inputs.isfinite() & weights.isfinite()
        exponents = torch.zeros(len(numbers), dtype=torch.int64)
        if bool(chosen.any()):
            logs = self.strength * inputs[chosen].log2() - (1 - self.strength) * weights[chosen].log2()
            rounded = (logs - logs.mean()).round().clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT)
            exponents[chosen] = rounded.long()
        return exponents

    def _scale_(self, use: ParameterUse, exponents: Tensor) -> None:
        parameter = self.parameters[use.parameter]
        powers = torch.exp2(exponents[use.channels.long()]).to(parameter)
        parameter.copy_(parameter / powers if use.divides else parameter * powers)

    def record(self) -> ChannelRescaling:
        """Return the result."""
        folded = tuple(each for each in self.folded.values())
        scaled = {name for each in folded for name in each.consumers}
        left = {**self.channels.unscaled, **self.refused}
        for use in self.channels.uses:
            name = layer_of(use.parameter)
            if use.divides or name in scaled or name in left:
                continue
            reasons = [self.channels.reasons[number] for number in distinct(use.channels)]
            left[name] = next(filter(None, reasons), "its channels were left as they were")
        order = [layer_of(use.parameter) for use in self.channels.uses if not use.divides]
        left = {name: left[name] for name in dict.fromkeys([*order, *left]) if name in left and name not in scaled}
        return ChannelRescaling(strength=self.strength, folded=folded, left=left)


def _run(model: nn.Module, inputs: Any) -> list[Tensor]:
    with eval_mode(model):
        leaves = tree_leaves(call_model(model, inputs))
    return [each.detach().clone() for each in leaves if isinstance(each, Tensor)]


def _are_equal(before: list[Tensor], after: list[Tensor]) -> bool:
    """Return whether outputs are equal up to rounding."""
    for first, second in zip(before, after, strict=True):
        if not first.is_floating_point():
            if not torch.equal(first, second):
                return False
            continue
        finite = first.isfinite()
        if not torch.equal(finite, second.isfinite()):
            return False
        largest = float(first[finite].abs().max()) if bool(finite.any()) else 0.0
        if bool(((first - second)[finite].abs() > _TOLERANCE * largest).any()):
            return False
    return True


def _spread(largest: Tensor) -> float:
    """Return the ratio of the largest to the median value that is not 0."""
    used = largest[largest > 0]
    ratio = float(used.max() / used.median()) if used.numel() else 1.0
    return ratio if math.isfinite(ratio) else 1.0
