"""Set-up of the whole suite: quiet threads before torch starts, and data small enough to train on in milliseconds."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: idle threads sleep instead of spinning

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
import typer.testing
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from torch import Tensor, nn

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(2)

# A busy machine is not a failure, and every run of the suite draws the same inputs.
settings.register_profile("lionheart", deadline=None, derandomize="LIONHEART_FUZZ" not in os.environ, database=None)
settings.load_profile("lionheart")
if hasattr(providers, "_get_local_constants"):  # constants of the package's source would change with its every line
    _no_constants = providers._local_constants
    providers._get_local_constants = lambda: _no_constants

# Typer builds all commands anew for each call in a test, which takes as long as a short command itself.
typer.testing._get_command = functools.cache(typer.testing._get_command)


@dataclass(frozen=True)
class TinyData:
    """A linearly separable problem: 64 images of 3x4x4, bright on top (class 0) or at the bottom (class 1)."""

    images: Tensor
    labels: Tensor


@pytest.fixture
def tiny_data() -> TinyData:
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(64) % 2
    images = torch.randint(0, 100, (64, 3, 4, 4), generator=generator, dtype=torch.uint8)
    images[labels == 0, :, :2] += 120
    images[labels == 1, :, 2:] += 120
    return TinyData(images, labels)


@pytest.fixture
def tiny_net() -> nn.Module:
    """A convolution, a batch norm and a linear layer for `tiny_data`, with fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    return net.to(memory_format=torch.channels_last)


@pytest.fixture
def fixed_weights() -> Iterator[None]:
    """Layers that a test builds have the same weights in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        yield


@pytest.fixture(scope="module")
def small_noise_pool() -> Iterator[None]:
    """The pool is sized for real networks; drawing it anew for every chip would take most of a tiny run's time."""
    import lionheart.analog.convert  # not at the top: it would come before the threads are set

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lionheart.analog.convert, "POOL_SIZE", 1 << 14)
        yield
