"""Independent streams of random numbers, derived from one root seed and identified by name.

A stream is identified by a path of names and indices, for example ``("training", "layer1", 3)``. The seed of a stream is a
hash of the root seed and the path. Therefore, the numbers of a stream do not depend on the order in which streams are created,
and a resumed run draws the same numbers as an uninterrupted run.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import final

import torch


@final
@dataclass(frozen=True)
class RandomStreams:
    """Factory of independent `torch.Generator` objects.

    The seed of each generator is derived from the root seed and from a path: strings and numbers that name the random stream,
    such as ``("chip", 3)``.

    Args:
        seed: Root seed, any integer.
        path: Strings and numbers that precede the path of each stream; empty = no prefix.
    """

    seed: int
    path: tuple[str | int, ...] = ()

    def scope(self, *path: str | int) -> RandomStreams:
        """Return a `RandomStreams` object with the same root seed, whose prefix is extended by `path`."""
        return RandomStreams(self.seed, self.path + path)

    def derive_seed(self, *path: str | int) -> int:
        """Return the seed of the stream identified by the prefix followed by `path`, an integer from 0 to 2**63 - 1."""
        text = "/".join(str(each) for each in (self.seed, *self.path, *path))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1

    def generator(self, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a new generator for the stream identified by `path`. Its seed is ``derive_seed(*path)``.

        Args:
            path: Names and indices of the stream.
            device: Torch device of the generator.
        """
        return torch.Generator(device=device).manual_seed(self.derive_seed(*path))
