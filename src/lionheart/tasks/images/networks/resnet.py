"""Residual networks for images of 32x32 pixels: ResNet8, ResNet20, ResNet32 and ResNet56."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.tasks.images.cifar import register_cifar
from lionheart.tasks.images.training import cosine, one_cycle


class ZeroPadShortcut(nn.Module):
    """Shortcut without weights that halves height and width of the feature maps and increases the number of channels.

    Every other row and column of pixels is kept. Channels of zeros are added before and after the existing channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Return every other row and column of `x`, with added channels of zeros, ``(batch, out_channels, h / 2, w / 2)``.

        `x` are feature maps ``(batch, in_channels, h, w)``.
        """
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class ResidualBlock(nn.Module):
    """Residual block: two 3x3 convolutions, and a shortcut whose output is added to the output of the convolutions.

    The shortcut is the identity if input and output have the same shape, else a layer that returns the shape of the output.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        stride: Stride of the first convolution.
        zero_pad: Whether a shortcut with `stride` > 1 is a `ZeroPadShortcut` instead of a 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, zero_pad: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if zero_pad and stride != 1:
            self.shortcut = ZeroPadShortcut(in_channels, out_channels)
        elif stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply two convolutions to feature maps `x`, add the output of the shortcut, and apply ReLU.

        The shape changes from ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h / stride, w / stride)``.
        """
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class ResNet8(nn.Module):
    """ResNet8: a convolution, three residual blocks with 16, 32 and 64 channels, and a linear layer.

    For 10 classes and images of 3x32x32, the 10 projections (weight matrices) have 77,360 weights, and there are 12.50 million
    multiply-accumulate operations (MACs) per image. These numbers agree with the LionHeart paper (Lammie et al.,
    arXiv:2401.09420v3, Table I). For 100 classes the network has 83,120 weights. The paper prints 77,968 weights, which do not
    include all weights of the 90 additional outputs.

    Args:
        n_classes: Number of outputs.
        in_channels: Number of channels of an image: 3, or 1 for grey images. With 1 channel and 10 classes, there are 77,072
            weights and 12.21 million MACs.
    """

    def __init__(self, n_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stack1 = ResidualBlock(16, 16, 1)
        self.stack2 = ResidualBlock(16, 32, 2)
        self.stack3 = ResidualBlock(32, 64, 2)
        self.fc = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, in_channels, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = F.relu(self.bn(self.conv(x)))
        hidden = self.stack3(self.stack2(self.stack1(hidden)))
        logits: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return logits


class ResNetCifar(nn.Module):
    """Residual networks for CIFAR, such as ResNet20: a convolution, three stages of residual blocks, and a linear layer.

    The blocks in the three stages have 16, 32 and 64 channels. Shortcuts between stages fill additional channels with zeros.
    The networks were introduced by He et al., CVPR 2016, arXiv:1512.03385, section 4.2, option A.

    ResNet20 for 10 classes has 20 projections (weight matrices) with 268,336 weights, and 40.55 million multiply-accumulate
    operations per image. These numbers agree with the LionHeart paper (Lammie et al., arXiv:2401.09420v3, Table I). For 100
    classes the network has 274,096 weights. The paper prints 270,522 weights, which do not include all weights of the 90
    additional outputs.

    Args:
        blocks_per_stage: Number of residual blocks in each stage; 3, 5 and 9 give ResNet20, ResNet32 and ResNet56.
        n_classes: Number of outputs.
    """

    def __init__(self, blocks_per_stage: int = 3, n_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.stage1 = _build_stage(16, 16, 1, blocks_per_stage)
        self.stage2 = _build_stage(16, 32, 2, blocks_per_stage)
        self.stage3 = _build_stage(32, 64, 2, blocks_per_stage)
        self.fc = nn.Linear(64, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = F.relu(self.bn(self.conv(x)))
        hidden = self.stage3(self.stage2(self.stage1(hidden)))
        logits: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return logits


def _build_stage(in_channels: int, out_channels: int, stride: int, n_blocks: int) -> nn.Sequential:
    first = ResidualBlock(in_channels, out_channels, stride, zero_pad=True)
    return nn.Sequential(first, *(ResidualBlock(out_channels, out_channels, 1) for _ in range(n_blocks - 1)))


register_cifar("resnet8", ResNet8, one_cycle(80))
register_cifar("resnet20", partial(ResNetCifar, 3), one_cycle(30))
# Rate, weight decay and number of steps (64,000) of He et al., CVPR 2016, section 4.2.
_PUBLISHED = cosine(182, weight_decay=1e-4)
register_cifar("resnet32", partial(ResNetCifar, 5), _PUBLISHED)
register_cifar("resnet56", partial(ResNetCifar, 9), _PUBLISHED)
