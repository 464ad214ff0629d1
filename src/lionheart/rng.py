"""Named random streams derived from one seed.

A stream is identified by a path of names and indices, for example ``("training", candidate, epoch)``. Its seed is a hash of the
root seed and the path. So the numbers of a stream do not depend on the order in which streams are created, and a resumed run
draws the same numbers as an uninterrupted run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

import torch


@final
@dataclass(frozen=True)
class RandomStreams:
    """Creates independent `torch.Generator` objects from one root seed.

    Args:
        seed: Root seed, any integer.
        path: Prefix of the paths of all streams of this object.
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def scope(self, *path: str | int) -> RandomStreams:
        """Return the streams with `path` appended to the prefix."""
        return RandomStreams(self.seed, self.path + path)

    def derive_seed(self, *path: str | int) -> int:
        """Return the 63-bit seed of the stream `path`."""
        text = "/".join(str(each) for each in (self.seed, *self.path, *path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a new generator for the stream `path`; its initial state depends only on seed and path.

        Args:
            path: Names and indices of the stream.
            device: Torch device of the generator.
        """
        return torch.Generator(device=device).manual_seed(self.derive_seed(*path))
