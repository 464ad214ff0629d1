"""AlexNet for images of 32x32 pixels."""

from __future__ import annotations

from torch import Tensor, nn

from lionheart.tasks.images.cifar import register_cifar
from lionheart.tasks.images.training import one_cycle, smoothed_cross_entropy

#: Output channels of each convolution, and whether a pooling that halves the image follows it.
CONVOLUTIONS = ((64, True), (192, True), (384, False), (256, False), (256, True))
_FIRST_PADDING = 5
_SIDE = 5


class AlexNet(nn.Module):
    """AlexNet for images of 32x32 pixels: five 3x3 convolutions of up to 384 channels, and two linear layers.

    The first linear layer has 6,400 inputs and 2,048 outputs. The network has 7 projections (weight matrices) with 15,378,112
    weights for 10 classes and 15,562,432 weights for 100 classes. These numbers agree with the LionHeart paper (Lammie et al.,
    arXiv:2401.09420v3, Table I). The paper does not describe the structure of the network. The kernel size of 3x3 and the 6,400
    inputs (256 channels of 5x5 pixels) follow from the numbers. The numbers do not determine the following choices:

    - The padding of the first convolution is 5. The image then has 40x40 pixels, which three poolings reduce to 5x5. There are
      273.9 million multiply-accumulate operations per image.
    - Batch normalisation follows each convolution.
    - There is no dropout, because dropout would draw from the global random state.

    AlexNet was introduced by Krizhevsky et al., NeurIPS 2012. The numbers of channels are those of Krizhevsky 2014,
    arXiv:1404.5997.

    Args:
        n_classes: Number of outputs.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for index, (out_channels, is_pooled) in enumerate(CONVOLUTIONS):
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, padding=1 if index else _FIRST_PADDING, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            if is_pooled:
                layers.append(nn.MaxPool2d(2))
            in_channels = out_channels
        self.features = nn.Sequential(*layers)
        self.fc1 = nn.Linear(in_channels * _SIDE * _SIDE, 2048)
        self.fc2 = nn.Linear(2048, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = self.features(x).flatten(1)
        logits: Tensor = self.fc2(self.fc1(hidden).relu())
        return logits


# Weight decay of github.com/kuangliu/pytorch-cifar in one cycle, so that --epochs can be adapted to the machine. The learning
# rate is a fifth of that source's, because the linear layers are not normalised.
register_cifar("alexnet", AlexNet, one_cycle(100, learning_rate=0.02), loss=smoothed_cross_entropy, half_weights=True)
