"""Registration of networks as tasks for both CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from lionheart.tasks.images import cifar10, cifar100
from lionheart.tasks.images.splits import build_image_batches
from lionheart.tasks.recipe import TASKS, BuildData, Recipe
from lionheart.tasks.task import cross_entropy
from lionheart.training import LossFunction, TrainSpec

#: Name, number of classes and data of each data set.
_SETS: tuple[tuple[str, int, BuildData], ...] = (
    ("cifar10", 10, partial(build_image_batches, cifar10.load_cifar10, cifar10.MEAN, cifar10.STD)),
    ("cifar100", 100, partial(build_image_batches, cifar100.load_cifar100, cifar100.MEAN, cifar100.STD)),
)


def register_cifar(
    network: str,
    build_model: Callable[..., nn.Module],
    train_spec: TrainSpec,
    *,
    loss: LossFunction = cross_entropy,
    half_weights: bool = False,
) -> None:
    """Register a network as the tasks ``cifar10/NETWORK`` and ``cifar100/NETWORK``.

    Args:
        network: Name of the network.
        build_model: Function with the keyword argument ``n_classes`` that returns the network with initial weights.
        train_spec: Settings of training from scratch.
        loss: Function of ``(outputs, targets)`` that returns a scalar.
        half_weights: Whether trained weights are stored in float16, for networks with millions of weights.
    """
    for name, n_classes, build_data in _SETS:
        recipe = Recipe(
            build_model=partial(build_model, n_classes=n_classes),
            build_data=build_data,
            train_spec=train_spec,
            batch_size=128,
            input_shape=(3, 32, 32),
            loss=loss,
            half_weights=half_weights,
        )
        TASKS.add(f"{name}/{network}", recipe)
