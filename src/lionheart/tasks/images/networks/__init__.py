"""Networks that classify images of 32x32 pixels.

Each network class has the argument ``n_classes`` and maps images to logits. Most modules also register their networks as tasks
for CIFAR-10 and CIFAR-100. This package must not depend on how images are stored or split.
"""

from lionheart.tasks.images.networks.resnet import ResNet8, ResNetCifar

__all__ = ["ResNet8", "ResNetCifar"]
