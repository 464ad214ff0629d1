"""Named random streams derived from one seed.

A stream is a name and a list of indices, for example ``("training", candidate, epoch)``. Its seed is a hash of the root seed
and the name, so streams do not depend on the order in which they are asked for: a resumed run draws what the unkilled run
would have drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

import torch


@final
@dataclass(frozen=True)
class RandomStreams:
    """Independent `torch.Generator` objects from one root seed.

    Args:
        seed: Root seed, any integer.
        path: Prefix that scopes this object's streams.
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def scope(self, *path: str | int) -> RandomStreams:
        """Return the streams below `path`."""
        return RandomStreams(self.seed, self.path + path)

    def derive_seed(self, *path: str | int) -> int:
        """Return the 63-bit seed of the stream `path`."""
        text = "/".join(str(part) for part in (self.seed, *self.path, *path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh generator for the stream `path`; the same path always starts at the same state."""
        return torch.Generator(device=device).manual_seed(self.derive_seed(*path))
