"""Tasks with small images: CIFAR-10, CIFAR-100, Fashion-MNIST, and networks for them.

Input: the name of a data set or of a network, through the registry of tasks. Output: images of three splits, networks and
recipes. This package must not know mappings, chips or search.
"""

from lionheart.tasks.images.cifar10 import load_cifar10

__all__ = ["load_cifar10"]
