"""Built-in tasks that classify small images: CIFAR-10, CIFAR-100 and Fashion-MNIST.

The modules provide training, validation and test images and networks, and register recipes of tasks in `lionheart.tasks.TASKS`.
This package must not depend on mappings, chips or search.
"""

from lionheart.tasks.images.cifar10 import load_cifar10

__all__ = ["load_cifar10"]
