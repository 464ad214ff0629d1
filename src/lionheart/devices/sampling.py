"""Functions that the physics of several technologies share: random draws from a generator, and the check of a time."""

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
    """Return standard normal numbers in row-major order, shaped like `reference`."""
    return torch.empty_like(reference, memory_format=torch.contiguous_format).normal_(generator=generator)


def uniform_like(reference: Tensor, generator: torch.Generator) -> Tensor:
    """Return uniform numbers in [0, 1) in row-major order, shaped like `reference`."""
    return torch.empty_like(reference, memory_format=torch.contiguous_format).uniform_(generator=generator)


def check_time(t_inference: float) -> None:
    """Check a time after programming [s].

    Raises:
        ConfigError: The time is negative or not finite.
    """
    if not 0 <= t_inference < math.inf:
        raise ConfigError(f"read: got t_inference = {t_inference} s, expected a finite time >= 0")
