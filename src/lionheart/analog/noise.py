"""Fast normal noise for large tensors. The noise consists of slices at random positions in a pool of normal numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor

#: Numbers in the pool. Drawing new normal numbers for each output takes longer than the convolutions of a small network. The
#: pool is drawn again whenever the noise is seeded: for every ensemble of chips and every training epoch.
POOL_SIZE = 1 << 22
_SMALLEST_POOL = 64
#: State of the generator, the pool or None, and the state of the generator before the pool was drawn or None.
NoiseState = tuple[Tensor, Tensor | None, Tensor | None]
_STRIDE, _MODULUS = 40_503 * 65_537, (1 << 31) - 1  # a golden-ratio sequence, which spreads positions evenly


@final
class NoiseSource:
    """Source of standard normal numbers, which the analog layers of a model share.

    To save time, the numbers are slices of a pool, a tensor of normal numbers that is drawn once.

    Args:
        generator: Random number generator on the torch device of the model.
        pool_size: Number of elements in the pool; 0 = no pool, so that every number is newly drawn.
        pool: Pool ``(pool_size,)`` to share with other sources. Each source chooses its slices independently. None = a new pool
            is drawn at the first use.
    """

    def __init__(self, generator: torch.Generator, pool_size: int = POOL_SIZE, *, pool: Tensor | None = None) -> None:
        self.generator = generator
        self.pool_size = pool_size
        #: Factor of all noise in training, 0 to 1, as a tensor ``()``, so that a change compiles nothing again; None = 1.
        self.strength: Tensor | None = None
        self._pool = pool
        self._origin: Tensor | None = None  # state of the generator before the pool was drawn
        self._window: Tensor | None = None
        self._position = 0

    def remember(self) -> NoiseState:
        """Return the current state of the source, with which `drawing_again` can repeat all numbers drawn after this call."""
        return self.generator.get_state(), self._pool, self._origin

    @contextmanager
    def drawing_again(self, state: NoiseState) -> Iterator[None]:
        """Draw the same numbers within the context as after the call of `remember` that returned `state`.

        On exit, the state from before the context is restored.
        """
        now = self.remember()
        self._restore(state)
        try:
            yield
        finally:
            self._restore(now)

    def _restore(self, state: NoiseState) -> None:
        self.generator.set_state(state[0])
        _, self._pool, self._origin = state

    def _fill_pool(self) -> Tensor:
        """Return the pool of normal numbers, which the first call draws if no pool was given."""
        if self._pool is None and self._origin is not None:  # a copy that was saved without its pool
            again = torch.Generator(device=self.generator.device)
            again.set_state(self._origin)
            self._pool = torch.empty(self.pool_size, device=again.device).normal_(generator=again)
        elif self._pool is None:
            self._origin = self.generator.get_state()
            self._pool = self._fresh(self.pool_size)
        return self._pool

    def begin_pass(self) -> None:
        """Choose the part of the pool (the window) that the next forward pass uses, so that the pass can be compiled.

        The window has three quarters of the elements of the pool and begins at a random position in the first quarter. During
        the pass, slices have fixed positions in the window, and no random numbers are drawn.
        """
        if self.pool_size < _SMALLEST_POOL:
            return
        pool, spare = self._fill_pool(), self.pool_size // 4
        begin = int(torch.randint(spare, (), generator=self.generator, device=pool.device))
        self._window, self._position = pool[begin : begin + self.pool_size - spare], 0

    def end_pass(self) -> None:
        """Discard the window that `begin_pass` chose, so that the positions of slices are random again."""
        self._window = None

    def normal(self, shape: torch.Size) -> Tensor:
        """Return a row-major float32 tensor of normal numbers with the given shape, whose standard deviation is `strength`.

        Do not modify the tensor, because it may share memory with the pool.
        """
        numbers = self.standard_normal(shape)
        return numbers if self.strength is None else numbers * self.strength

    def standard_normal(self, shape: torch.Size) -> Tensor:
        """Return a row-major float32 tensor of standard normal numbers with the given shape, whatever the strength.

        Do not modify the tensor, because it may share memory with the pool.
        """
        if self._window is not None:
            return self._arrange(shape)
        if torch.compiler.is_compiling():  # compiled without `compile_model_`, so without begin_pass
            return torch.randn(shape, device=self.generator.device)
        if self.pool_size == 0:
            return self._fresh(shape.numel()).view(shape)
        self._fill_pool()
        return self._arrange(shape)

    def normal_like(self, reference: Tensor) -> Tensor:
        """Return numbers as `normal` does, with the shape and memory order of `reference`, so that adding both is fast."""
        if reference.is_contiguous() or reference.ndim not in (4, 5):
            return self.normal(reference.shape)
        order = (0, *range(2, reference.ndim), 1)
        back = (0, reference.ndim - 1, *range(1, reference.ndim - 1))
        return self.normal(reference.permute(order).shape).permute(back)

    def draw_time(self, longest: float) -> float:
        """Return a random time after programming [s] from a log-uniform distribution between 1 s and `longest` [s]."""
        share = float(torch.rand((), generator=self.generator, device=self.generator.device))
        return float(max(longest, 1.0) ** share)

    def _arrange(self, shape: torch.Size) -> Tensor:
        """Return a tensor of the given shape with numbers from the pool.

        A tensor with more elements than half of the pool may contain the same number several times.
        """
        n, longest = shape.numel(), self.pool_size // 2
        if n <= longest:
            return self._slice(n).view(shape)
        width = n // shape[0]
        if width <= longest // 2 and shape[0] <= longest // 2:
            step = (longest - width) // (shape[0] - 1)
            return self._slice(longest).unfold(0, width, step)[: shape[0]].view(shape)
        return torch.cat([self._slice(min(longest, n - begin)) for begin in range(0, n, longest)]).view(shape)

    def _slice(self, n: int) -> Tensor:
        """Return a slice of `n` numbers from the pool.

        The position in the pool is random. Between `begin_pass` and `end_pass`, slices are cut from the window instead, at
        positions that follow a fixed sequence.
        """
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
        copy._pool, copy._origin = self._pool, self._origin
        copy.strength = None if self.strength is None else self.strength.clone()
        memo[id(self)] = copy
        return copy

    def __getstate__(self) -> dict[str, Any]:
        """Save how the pool was drawn instead of the pool."""
        pool = self._pool if self._origin is None else None
        return {**self.__dict__, "_pool": pool, "_window": None}


def may_run_again() -> bool:
    """Return whether gradient checkpointing may repeat the current computation in the backward pass."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return not torch.is_grad_enabled() or (top is not None and top(True) is not None)
