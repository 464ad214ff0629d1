"""MobileNetV1 and MobileNetV2 for images of 32x32 pixels.

Both networks combine depthwise convolutions (3x3, each within one channel) with pointwise convolutions (1x1, across channels).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.tasks.images.cifar import register_cifar
from lionheart.tasks.images.training import one_cycle, smoothed_cross_entropy

#: Output channels and stride of each block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class SeparableBlock(nn.Module):
    """Block of MobileNetV1: a depthwise 3x3 convolution within each channel, then a 1x1 convolution across channels.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        stride: Stride of the depthwise convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the depthwise and the 1x1 convolution, each with batch normalisation and ReLU, to feature maps `x`.

        The shape changes from ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h / stride, w / stride)``.
        """
        return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))


class MobileNet(nn.Module):
    """MobileNetV1 for images of 32x32 pixels: a convolution, 13 separable blocks of up to 1,024 channels, and a linear layer.

    The network has width multiplier 1, and stride 1 in the first convolution. It was introduced by Howard et al. 2017,
    arXiv:1704.04861, Table 1. The LionHeart paper (Lammie et al., arXiv:2401.09420v3, Table I) gives the numbers of layers and
    weights, but not the structure. The structure is derived from the numbers:

    - The paper counts 15 layers that can be analog: the first convolution, the 13 pointwise (1x1) convolutions and the linear
      layer, with 44.9 million multiply-accumulate operations (MACs). The 13 depthwise convolutions stay digital in the paper.
      In LionHeart they can be analog too, unless ``--exclude '*.depthwise'`` is given.
    - For 10 classes there are 3,195,328 weights: 3,150,688 in these 15 layers and 44,640 in the depthwise convolutions.
    - For 100 classes there are 3,287,488 weights. The paper prints 3,206,282, which is the number of weights for 10 classes
      with a bias for each of the 10,944 normalised channels and each output.

    Args:
        n_classes: Number of outputs.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(32)
        blocks: list[nn.Module] = []
        in_channels = 32
        for out_channels, stride in BLOCKS:
            blocks.append(SeparableBlock(in_channels, out_channels, stride))
            in_channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(in_channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = self.blocks(F.relu(self.bn(self.conv(x))))
        logits: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return logits


#: Expansion, output channels, number of blocks, and stride of the first block, for each stage.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """Block of MobileNetV2: an inverted residual.

    A 1x1 convolution increases the number of channels. A depthwise 3x3 convolution within each channel follows, and then a 1x1
    convolution without ReLU. If input and output have the same shape, the input is added to the output.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        stride: Stride of the depthwise convolution.
        expansion: Factor by which the first convolution increases the number of channels; 1 = no first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.is_residual = stride == 1 and in_channels == out_channels
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = nn.Sequential(
                nn.Conv2d(in_channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()
            )
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolutions of the block to feature maps `x`, and add `x` if the result has the same shape.

        The shape changes from ``(batch, in_channels, h, w)`` to ``(batch, out_channels, h / stride, w / stride)``.
        """
        out: Tensor = self.bn2(self.project(F.relu6(self.bn1(self.depthwise(self.expand(x))))))
        return x + out if self.is_residual else out


class MobileNetV2(nn.Module):
    """MobileNetV2 for images of 32x32 pixels, with width multiplier 1.

    A convolution is followed by 17 inverted residuals, a 1x1 convolution to 1,280 channels, and a linear layer. The network was
    introduced by Sandler et al., CVPR 2018, arXiv:1801.04381, Table 2. As usual for 32x32 pixels, the first convolution and the
    blocks with 24 channels have stride 1, so that the last feature maps have 4x4 pixels. The authors of the mapping method MPS
    (Nature Communications 2026) also use a MobileNetV2, but state neither its strides nor its numbers of weights.

    - The network has 53 projections (weight matrices), of which 17 are depthwise convolutions. ``--exclude '*.depthwise'``
      keeps the depthwise convolutions digital.
    - For 10 classes there are 2,202,560 weights and 87.98 million multiply-accumulate operations (MACs) per image, including
      64,224 weights and 5.88 million MACs in depthwise convolutions.
    - For 100 classes there are 2,317,760 weights and 88.09 million MACs per image.

    Args:
        n_classes: Number of outputs.
    """

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks: list[nn.Module] = []
        in_channels = 32
        for expansion, out_channels, n_blocks, stride in STAGES:
            for index in range(n_blocks):
                blocks.append(InvertedResidual(in_channels, out_channels, stride if index == 0 else 1, expansion))
                in_channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Conv2d(in_channels, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.fc = nn.Linear(1280, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``(batch, 3, 32, 32)`` to logits ``(batch, n_classes)``."""
        hidden = self.blocks(F.relu6(self.bn1(self.conv(x))))
        hidden = F.relu6(self.bn2(self.last(hidden)))
        logits: Tensor = self.fc(hidden.mean(dim=(2, 3)))
        return logits


# Rate and weight decay of github.com/kuangliu/pytorch-cifar in one cycle, so that --epochs can be adapted to the machine.
_TRAINING = one_cycle(100, learning_rate=0.1)
register_cifar("mobilenet", MobileNet, _TRAINING, loss=smoothed_cross_entropy, half_weights=True)
register_cifar("mobilenetv2", MobileNetV2, _TRAINING, loss=smoothed_cross_entropy, half_weights=True)
