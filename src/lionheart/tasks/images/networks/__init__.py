"""Networks for images of 32x32 pixels; a module also registers the CIFAR tasks of its networks.

Input: a number of classes. Output: a network with initial weights that maps images to logits. This package must not know how
images are stored or split.
"""

from lionheart.tasks.images.networks.resnet import ResNet8, ResNetCifar

__all__ = ["ResNet8", "ResNetCifar"]
