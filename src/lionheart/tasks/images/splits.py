"""Functions shared by the data sets of small images: fixed split into training and validation, augmentation, and batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from lionheart.data import TensorBatches
from lionheart.progress import Progress
from lionheart.rng import RandomStreams

N_VALIDATION = 5_000
SPLIT_SEED = 2401_09420  # fixed: a change would leak validation images into published checkpoints

#: Images uint8 ``(n, channels, height, width)`` and labels int64 ``(n,)``.
Arrays = tuple[Tensor, Tensor]


@final
@dataclass(frozen=True)
class ImageSplits:
    """Images and labels of the training, validation and test split.

    Each split is a pair of images uint8 ``(n, channels, height, width)`` and labels int64 ``(n,)``.
    """

    train: Arrays
    validation: Arrays
    test: Arrays


def split_images(name: str, train: Arrays, test: Arrays) -> ImageSplits:
    """Return training, validation and test images, each with labels.

    5,000 randomly chosen images of `train` become the validation images.

    Args:
        name: Name of the data set. For a given number of images, the random choice depends only on the name.
        train: Images and labels for training and validation.
        test: Images and labels for test, which are returned unchanged.
    """
    images, labels = train
    order = torch.randperm(len(images), generator=RandomStreams(SPLIT_SEED).generator(name, "split"))
    held_out, kept = order[:N_VALIDATION], order[N_VALIDATION:]
    return ImageSplits((images[kept], labels[kept]), (images[held_out], labels[held_out]), test)


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return copies of images that are randomly shifted by up to 4 pixels and mirrored horizontally with probability 0.5.

    The copies have the shape and dtype of `images`. Pixels that are shifted into an image from outside are 0.

    Args:
        images: Images ``(n, channels, height, width)`` uint8.
        generator: Source of the random shifts and mirroring.
    """
    n, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    shift = torch.randint(0, 9, (2, n, 1), generator=generator)
    rows, cols = shift[0] + torch.arange(height), shift[1] + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    cols = torch.where(mirrored, cols.flip(1), cols)
    return padded[torch.arange(n).view(n, 1, 1), rows.unsqueeze(2), cols.unsqueeze(1)].permute(0, 3, 1, 2)


#: Images evaluated at once. Larger batches exceed the processor's cache: with 500, each image takes twice as long.
_EVALUATION_BATCH = 100


def build_image_batches(
    load: Callable[[Progress], ImageSplits],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    *,
    batch_size: int,
    progress: Progress,
) -> tuple[TensorBatches, TensorBatches, TensorBatches]:
    """Return train, validation and test batches of normalised images, with class indices as targets.

    Training images are shuffled, and randomly shifted and mirrored by `crop_and_flip`.

    Args:
        load: Function of a `Progress` that returns the images and labels of all splits.
        mean: Mean of each channel, for pixels from 0 to 1.
        std: Standard deviation of each channel, for pixels from 0 to 1.
        batch_size: Number of images in a training batch.
        progress: Receiver of progress bars and messages.
    """
    data = load(progress)
    shared: dict[str, Any] = {"mean": mean, "std": std}
    return (
        TensorBatches(*data.train, batch_size=batch_size, shuffle=True, augment=crop_and_flip, **shared),
        TensorBatches(*data.validation, batch_size=_EVALUATION_BATCH, **shared),
        TensorBatches(*data.test, batch_size=_EVALUATION_BATCH, **shared),
    )
