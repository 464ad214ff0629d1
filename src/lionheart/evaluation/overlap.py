"""Overlap of two splits of the data, as far as it can be seen without reading them, and the size of the last batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset

from lionheart.data import Batch, BatchSource, IndexedBatches, batch_length
from lionheart.loaders import LoaderBatches

_LEAST_SHARE = 0.1  # share of common samples in the first batches from which they are no coincidence


def describe_overlap(one: BatchSource, first: Batch, other: BatchSource, first_of_other: Batch) -> str | None:
    """Return text that says which samples two splits have in common, or None if none can be seen.

    Args:
        one: Source of one split.
        first: First batch of `one`.
        other: Source of the other split.
        first_of_other: First batch of `other`.
    """
    a, b = _root(one), _root(other)
    if a is b:
        return "they are the same object"
    n_common = _count_common_indices(a, b)
    if n_common:
        return f"their data sets have {n_common} samples in common"
    if n_common == 0:
        return None
    rows, others = _hash_samples(first), _hash_samples(first_of_other)
    common = len(rows & others)
    if common and common >= _LEAST_SHARE * min(len(rows), len(others)):
        return f"their first batches have {common} samples in common"
    return None


def last_batch_size(source: BatchSource) -> int | None:
    """Return the number of samples in the smallest batch of an epoch, or None if it is unknown."""
    if isinstance(source, IndexedBatches):
        return source.batch_size if source.shuffle else (source.n_samples - 1) % source.batch_size + 1
    loader = source.loader if isinstance(source, LoaderBatches) else None
    if isinstance(loader, (list, tuple)):
        sizes = [batch_length(batch[1]) for batch in loader if isinstance(batch, (tuple, list)) and len(batch) == 2]
        return min((size for size in sizes if size is not None), default=None)
    if not isinstance(loader, DataLoader) or loader.batch_size is None or loader.drop_last:
        return None
    try:
        n_samples = len(loader.sampler)  # type: ignore[arg-type]
    except TypeError:  # a data set without a length
        return None
    return (n_samples - 1) % loader.batch_size + 1 if n_samples else None


def _root(source: Any) -> Any:
    """Return the data set, the iterable or the source from which a source reads all samples."""
    if not isinstance(source, LoaderBatches):
        return source
    loader = source.loader
    reads_all = isinstance(loader, DataLoader) and isinstance(loader.sampler, (RandomSampler, SequentialSampler))
    return loader.dataset if reads_all else loader  # type: ignore[attr-defined]


def _count_common_indices(a: Any, b: Any) -> int | None:
    """Return the number of indices that two subsets of one data set have in common, or None if this is unknown."""
    if isinstance(a, Subset) and isinstance(b, Subset) and a.dataset is b.dataset:
        return len(set(a.indices) & set(b.indices))
    whole, part = (a, b) if isinstance(b, Subset) else (b, a)
    if isinstance(part, Subset) and part.dataset is whole:
        return len(part)
    return None


def _hash_samples(batch: Batch) -> set[bytes]:
    """Return a hash of the inputs and targets of each sample.

    Samples whose input values are all equal and samples that occur more than once in the batch are left out: that such a sample
    occurs in another split too is a coincidence, as of short texts of unknown words.
    """
    leaves = [each.detach().cpu() for each in tree_leaves(batch) if isinstance(each, Tensor) and each.ndim]
    inputs = [each.detach().cpu() for each in tree_leaves(batch[0]) if isinstance(each, Tensor) and each.ndim]
    n_samples = len(leaves[0]) if leaves else 0
    leaves = [each for each in leaves if len(each) == n_samples]
    inputs = [each for each in inputs if len(each) == n_samples]
    counts: Counter[bytes] = Counter()
    for row in range(n_samples):
        if all(bool((each[row] == each[row].flatten()[:1]).all()) for each in inputs):
            continue
        digest = hashlib.sha256()
        for each in leaves:
            digest.update(each[row].reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        counts[digest.digest()] += 1
    return {each for each, count in counts.items() if count == 1}
