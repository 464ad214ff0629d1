"""Output noise for many outputs, cheaply: slices of a pool of normal numbers at random places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor

#: Numbers in the pool. Drawing fresh normal numbers costs more time than a small network's convolutions; the pool is redrawn
#: whenever the noise is seeded, that is for every chip and every epoch.
POOL_SIZE = 1 << 22
_SMALLEST_POOL = 64
#: State of a generator, and the pool.
NoiseState = tuple[Tensor, Tensor | None]
_STRIDE, _MODULUS = 40_503 * 65_537, (1 << 31) - 1  # steps of a golden-ratio sequence spread best


@final
class NoiseSource:
    """A generator and its pool of standard normal numbers, shared by the layers of one model.

    Args:
        generator: Source of all numbers; on the device where the model computes.
        pool_size: Numbers in the pool; 0 draws every number fresh.
        pool: Numbers drawn before, to share among sources that each take slices of their own; None = drawn when needed.
    """

    def __init__(self, generator: torch.Generator, pool_size: int = POOL_SIZE, *, pool: Tensor | None = None) -> None:
        self.generator = generator
        self.pool_size = pool_size
        self._pool = pool
        self._window: Tensor | None = None
        self._position = 0

    def remember(self) -> NoiseState:
        """Return what `drawing_again` needs to draw the next numbers once more."""
        return self.generator.get_state(), self._pool

    @contextmanager
    def drawing_again(self, state: NoiseState) -> Iterator[None]:
        """Draw the numbers once more that were drawn after `remember`, and go on as if nothing had been."""
        now = self.remember()
        self.generator.set_state(state[0])
        self._pool = state[1]
        try:
            yield
        finally:
            self.generator.set_state(now[0])
            self._pool = now[1]

    def _fill_pool(self) -> Tensor:
        """Return the pool, drawn if it is not drawn yet."""
        if self._pool is None:
            self._pool = self._fresh(self.pool_size)
        return self._pool

    def begin_pass(self) -> None:
        """Draw where the numbers of a pass lie, so that the pass itself draws nothing and can be compiled.

        Its slices have fixed places in a window of three quarters of the pool, which begins anywhere in the first quarter.
        """
        if self.pool_size < _SMALLEST_POOL:
            return
        pool, spare = self._fill_pool(), self.pool_size // 4
        begin = int(torch.randint(spare, (), generator=self.generator, device=pool.device))
        self._window, self._position = pool[begin : begin + self.pool_size - spare], 0

    def end_pass(self) -> None:
        """Draw every slice where it falls again."""
        self._window = None

    def normal(self, shape: torch.Size) -> Tensor:
        """Return standard normal numbers, float32, dense in row-major order; read them only, they may be the pool's."""
        if self._window is not None:
            return self._arrange(shape)
        if torch.compiler.is_compiling():  # a caller of torch.compile that knows nothing of passes
            return torch.randn(shape, device=self.generator.device)
        if self.pool_size == 0:
            return self._fresh(shape.numel()).view(shape)
        self._fill_pool()
        return self._arrange(shape)

    def normal_like(self, reference: Tensor) -> Tensor:
        """Return numbers with the shape and the memory order of `reference`, so that adding them costs one pass."""
        if reference.is_contiguous() or reference.ndim not in (4, 5):
            return self.normal(reference.shape)
        order = (0, *range(2, reference.ndim), 1)
        back = (0, reference.ndim - 1, *range(1, reference.ndim - 1))
        return self.normal(reference.permute(order).shape).permute(back)

    def draw_time(self, longest: float) -> float:
        """Return a time after programming [s], log-uniform between 1 s and `longest`."""
        share = float(torch.rand((), generator=self.generator, device=self.generator.device))
        return float(max(longest, 1.0) ** share)

    def _arrange(self, shape: torch.Size) -> Tensor:
        """Return numbers of the pool in a shape; more than half of the pool as overlapping slices, one for each first index."""
        n, longest = shape.numel(), self.pool_size // 2
        if n <= longest:
            return self._slice(n).view(shape)
        width = n // shape[0]
        if width <= longest // 2 and shape[0] <= longest // 2:
            step = (longest - width) // (shape[0] - 1)
            return self._slice(longest).unfold(0, width, step)[: shape[0]].view(shape)
        return torch.cat([self._slice(min(longest, n - begin)) for begin in range(0, n, longest)]).view(shape)

    def _slice(self, n: int) -> Tensor:
        """Return the next `n` numbers: anywhere, or within a pass at places that look random and are the same in every pass."""
        if self._window is not None:
            self._position = (self._position + _STRIDE) % _MODULUS
            start = self._position % (len(self._window) - n)
            return self._window[start : start + n]
        pool = cast(Tensor, self._pool)
        start = int(torch.randint(self.pool_size - n, (), generator=self.generator, device=pool.device))
        return pool[start : start + n]

    def _fresh(self, n: int) -> Tensor:
        return torch.empty(n, device=self.generator.device).normal_(generator=self.generator)

    def __deepcopy__(self, memo: dict[int, Any]) -> NoiseSource:
        twin = torch.Generator(device=self.generator.device)
        twin.set_state(self.generator.get_state())
        copy = NoiseSource(twin, self.pool_size)
        copy._pool = self._pool
        memo[id(self)] = copy
        return copy


def may_run_again() -> bool:
    """Return whether this pass is one of gradient checkpointing, which keeps few tensors or none for the backward pass."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return not torch.is_grad_enabled() or (top is not None and top(True) is not None)
