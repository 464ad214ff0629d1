"""Residual networks for 32x32 images: ResNet8 of MLPerf Tiny, and the family of ResNet20."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.tasks.images.cifar import register_cifar
from lionheart.tasks.images.training import cosine, one_cycle


class ZeroPadShortcut(nn.Module):
    """A shortcut without weights: every other pixel, with channels of zeros added on both sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in, h, w)`` to ``(batch, out, h / 2, w / 2)``."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: the identity, or a layer that changes the shape if necessary.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        stride: Stride of the first convolution.
        zero_pad: Whether `ZeroPadShortcut` changes the shape, instead of a 1x1 convolution.
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
        """Map ``(batch, in, h, w)`` to ``(batch, out, h / stride, w / stride)``."""
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


class ResNet8(nn.Module):
    """One convolution, three residual blocks of 16, 32 and 64 channels, one linear layer.

    77,360 weights in 10 projections and 12.50 M MACs per image of 32x32, as in Lammie et al., arXiv:2401.09420v3, Table I. With
    100 classes the network has 83,120 weights, because 90 more outputs of 64 inputs add 5,760; the 77,968 weights printed there
    do not include them.

    Args:
        n_classes: Number of outputs.
        in_channels: Channels of an image: 3, or 1 for grey images, with 77,072 weights and 12.21 M MACs.
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
        """Map images ``(batch, in_channels, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = F.relu(self.bn(self.conv(x)))
        hidden = self.stack3(self.stack2(self.stack1(hidden)))
        logits: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return logits


class ResNetCifar(nn.Module):
    """One convolution, three stages of residual blocks of 16, 32 and 64 channels with zero-padded shortcuts, one linear layer.

    Three blocks per stage give ResNet20: 268,336 weights in 20 projections and 40.55 M MACs per image of 32x32, as in Lammie et
    al., arXiv:2401.09420v3, Table I. With 100 classes it has 274,096 weights, because 90 more outputs of 64 inputs add 5,760;
    the 270,522 weights printed there do not include them. Source of the family: He et al., CVPR 2016, arXiv:1512.03385,
    section 4.2, option A.

    Args:
        blocks_per_stage: Number of blocks per stage; 3, 5 and 9 give ResNet20, 32 and 56.
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
        """Map images ``(batch, 3, 32, 32)`` to logits ``(batch, n_classes)``."""
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
