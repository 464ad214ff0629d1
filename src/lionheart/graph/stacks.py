"""Parameters that hold several matrices, such as the weights of the experts in a mixture of experts."""

from __future__ import annotations

import itertools
import math

from torch import Tensor


def is_stack(whole: Tensor) -> bool:
    """Return whether a parameter holds several matrices, one after another in its memory: shape ``(..., rows, cols)``."""
    is_known = whole.ndim >= 3 and whole.is_contiguous()
    return is_known and math.prod(whole.shape[:-2]) > 1 and min(whole.shape[-2:]) > 1


def matrix_names(name: str, whole: Tensor) -> list[str]:
    """Return the names of the matrices in the stack `whole`: `name` followed by the indices, such as ``experts.w.0``."""
    return [".".join([name, *map(str, index)]) for index in itertools.product(*map(range, whole.shape[:-2]))]


def matrix_regions(whole: Tensor) -> list[tuple[int, int]]:
    """Return for each matrix of a stack the positions of its first and last (exclusive) element in memory, in elements."""
    size, start = whole.shape[-1] * whole.shape[-2], int(whole.storage_offset())
    return [(start + size * index, start + size * (index + 1)) for index in range(whole.numel() // size)]


def covers_matrices(region: tuple[int, int], whole: Tensor) -> bool:
    """Return whether the region of memory from `region[0]` to `region[1]` (exclusive) consists of whole matrices of a stack."""
    size, start = whole.shape[-1] * whole.shape[-2], int(whole.storage_offset())
    return (region[0] - start) % size == 0 and (region[1] - start) % size == 0


def matrix_shape(whole: Tensor, x: Tensor, weight: Tensor) -> tuple[int, int]:
    """Return the numbers of inputs and outputs of the matrices of a stack.

    If the product does not tell which dimension is which, the outputs are the first dimension, as in `nn.Linear`.

    Args:
        whole: Stack of matrices.
        x: Left factor of a product with one or all matrices.
        weight: Right factor of the product, which is a part or a view of the stack.
    """
    first, second = (int(size) for size in whole.shape[-2:])
    seen = tuple(weight.shape[-2:])
    is_as_stored = seen == (first, second) or (seen != (second, first) and x.shape[-1] == first != second)
    return (first, second) if is_as_stored else (second, first)
