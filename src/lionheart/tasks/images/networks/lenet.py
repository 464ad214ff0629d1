"""LeNet-5 for grey images of 32x32 pixels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet5(nn.Module):
    """LeNet-5 for grey images of 32x32 pixels: two 5x5 convolutions with pooling, and three linear layers.

    For 10 classes, the 5 projections (weight matrices) have 61,470 weights without biases. There are 0.42 million
    multiply-accumulate operations per image. The network was introduced by LeCun et al., Proc. IEEE 86(11), 1998, section II.B.
    This implementation differs from the published network in common ways:

    - ReLU replaces tanh.
    - Max pooling replaces pooling with trainable weights.
    - The second convolution connects every output channel to all six input channels.
    - The output layer is linear.

    Args:
        n_classes: Number of outputs.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 1, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = F.max_pool2d(F.relu(self.conv1(x)), 2)
        hidden = F.max_pool2d(F.relu(self.conv2(hidden)), 2).flatten(1)
        logits: Tensor = self.fc3(F.relu(self.fc2(F.relu(self.fc1(hidden)))))
        return logits
