"""Settings and losses that networks for small images are trained with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lionheart.training import TrainSpec

#: Share of the probability that `smoothed_cross_entropy` spreads over the classes: of Szegedy et al., CVPR 2016, section 7.
_LABEL_SMOOTHING = 0.1


def one_cycle(n_epochs: int, learning_rate: float = 0.2) -> TrainSpec:
    """Return settings that train a network in few epochs: a rate that climbs to a high one, then falls with a cosine."""
    return TrainSpec(
        learning_rate=learning_rate,
        weight_decay=5e-4,
        schedule="one_cycle",
        max_epochs=n_epochs,
        patience=None,
        precision="auto",
    )


def cosine(n_epochs: int, weight_decay: float) -> TrainSpec:
    """Return settings as published with deeper networks: a rate that falls with a cosine, momentum 0.9."""
    return TrainSpec(
        learning_rate=0.1,
        nesterov=False,
        weight_decay=weight_decay,
        schedule="cosine",
        max_epochs=n_epochs,
        patience=None,
        precision="auto",
    )


def smoothed_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits against class numbers with a tenth spread over all classes, in float32."""
    return F.cross_entropy(outputs.float(), targets, label_smoothing=_LABEL_SMOOTHING)
