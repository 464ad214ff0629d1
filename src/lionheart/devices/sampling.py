"""Helper functions for the physics of memory devices: random tensors, and a check of the time after programming."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lionheart.errors import ConfigError
from lionheart.extras import lazy_import

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_import("torch")


def normal_like(reference: Tensor, generator: torch.Generator) -> Tensor:
    """Return a tensor of standard normal random numbers with the shape and dtype of `reference`, on the same PyTorch device.

    The numbers are drawn in row-major order, whatever the memory layout of `reference`.
    """
    return torch.empty_like(reference, memory_format=torch.contiguous_format).normal_(generator=generator)


def uniform_like(reference: Tensor, generator: torch.Generator) -> Tensor:
    """Return a tensor of uniform random numbers in [0, 1) with the shape and dtype of `reference`, on the same PyTorch device.

    The numbers are drawn in row-major order, whatever the memory layout of `reference`.
    """
    return torch.empty_like(reference, memory_format=torch.contiguous_format).uniform_(generator=generator)


def check_time(t_inference: float) -> None:
    """Check that `t_inference`, the time between programming and a read [s], is valid.

    Raises:
        ConfigError: The time is negative or not finite.
    """
    if not 0 <= t_inference < math.inf:
        raise ConfigError(
            f"read: got t_inference={t_inference} s, expected a finite time between programming and the read, >= 0 s",
            hint="give the time since programming in seconds",
        )
