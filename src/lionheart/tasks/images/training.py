"""Training settings and losses of networks for small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lionheart.training import TrainSpec

#: Share of the probability that `smoothed_cross_entropy` spreads over the classes: Szegedy et al., CVPR 2016, section 7.
_LABEL_SMOOTHING = 0.1


def one_cycle(n_epochs: int, learning_rate: float = 0.2) -> TrainSpec:
    """Return settings for training in few epochs: the learning rate rises to `learning_rate`, then falls with a cosine."""
    return TrainSpec(
        learning_rate=learning_rate,
        weight_decay=5e-4,
        schedule="one_cycle",
        max_epochs=n_epochs,
        patience=None,
        precision="auto",
    )


def cosine(n_epochs: int, weight_decay: float) -> TrainSpec:
    """Return the published settings of deeper networks: a learning rate that falls with a cosine, and momentum 0.9."""
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
    """Return the mean cross-entropy of logits and class indices, with a tenth spread over all classes, in float32."""
    return F.cross_entropy(outputs.float(), targets, label_smoothing=_LABEL_SMOOTHING)
