"""Networks for images of 32x32 pixels; a file also registers the tasks of CIFAR that its networks make.

Takes: a number of classes. Returns: a network with fresh weights that maps images to logits. Must not know: how images are
stored or split.
"""

from lionheart.tasks.images.networks.resnet import ResNet8, ResNetCifar

__all__ = ["ResNet8", "ResNetCifar"]
