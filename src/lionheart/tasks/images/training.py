"""Settings and a loss function for training networks that classify small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lionheart.training import TrainSpec

#: Fraction of the probability that `smoothed_cross_entropy` spreads over all classes: Szegedy et al., CVPR 2016, section 7.
_LABEL_SMOOTHING = 0.1


def one_cycle(n_epochs: int, learning_rate: float = 0.2) -> TrainSpec:
    """Return training settings with a one-cycle schedule of the learning rate, for training in few epochs.

    Args:
        n_epochs: Number of epochs.
        learning_rate: Largest learning rate. The learning rate rises to this value and then decreases along a cosine.
    """
    return TrainSpec(
        learning_rate=learning_rate,
        weight_decay=5e-4,
        schedule="one_cycle",
        max_epochs=n_epochs,
        patience=None,
        precision="auto",
    )


def cosine(n_epochs: int, weight_decay: float) -> TrainSpec:
    """Return settings for training deep networks with SGD and a learning rate that decreases from 0.1 along a cosine.

    Args:
        n_epochs: Number of epochs.
        weight_decay: Coefficient of the weight decay.
    """
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
    """Return the mean cross-entropy [nats] with label smoothing of 0.1 as a scalar, computed in float32.

    Args:
        outputs: Logits ``(batch, classes)``.
        targets: Class indices ``(batch,)``.
    """
    return F.cross_entropy(outputs.float(), targets, label_smoothing=_LABEL_SMOOTHING)
