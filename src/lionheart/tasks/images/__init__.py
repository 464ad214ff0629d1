"""Tasks of small images: CIFAR-10, CIFAR-100, Fashion-MNIST, and the networks for them.

Takes: the name of a data set or of a network, through the registry of tasks. Returns: images of three splits, networks,
recipes. Must not know: mappings, chips, search.
"""

from lionheart.tasks.images.cifar10 import load_cifar10

__all__ = ["load_cifar10"]
