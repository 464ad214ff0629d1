"""VGG-16 for images of 32x32 pixels, with a single linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from lionheart.tasks.images.cifar import register_cifar
from lionheart.tasks.images.training import one_cycle, smoothed_cross_entropy

#: Channels of each stage's convolutions; each stage ends with a pooling that halves the image.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Vgg16(nn.Module):
    """VGG-16 for images of 32x32 pixels: 13 convolutions with batch normalisation, and one linear layer with 512 inputs.

    The original VGG-16 for ImageNet has three linear layers (Simonyan and Zisserman, ICLR 2015, arXiv:1409.1556, configuration
    D). This network has 14 projections (weight matrices) with 14,715,584 weights for 10 classes and 14,761,664 weights for 100
    classes. These numbers agree with the LionHeart paper (Lammie et al., arXiv:2401.09420v3, Table I). There are 313.2 million
    multiply-accumulate operations per image.

    Args:
        n_classes: Number of outputs.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for stage in STAGES:
            for out_channels in stage:
                layers += [
                    nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
                    nn.BatchNorm2d(out_channels),
                    nn.ReLU(),
                ]
                in_channels = out_channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(in_channels, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to logits ``(batch, n_classes)``."""
        logits: Tensor = self.fc(self.features(x).flatten(1))
        return logits


# Rate and weight decay of github.com/kuangliu/pytorch-cifar in one cycle, so that --epochs can be adapted to the machine.
register_cifar("vgg16", Vgg16, one_cycle(100, learning_rate=0.1), loss=smoothed_cross_entropy, half_weights=True)
