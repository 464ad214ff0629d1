"""Data set for sentiment classification: 10,605 sentences from movie reviews, each rated by about twenty people.

The sentences were collected by Pang and Lee (2005). The file with sentences and ratings is extracted from the source archive of
the PyPI package vaderSentiment (MIT licence), checked, and stored in the user's cache directory. Both sources are cited in
docs/reference/data.md.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from lionheart.data import Batch, IndexedBatches
from lionheart.errors import ArtifactError, ConfigError
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.tasks.packages import PackagedFiles, fetch_files, tar_member

_FILE = "movieReviewSnippets_GroundTruth.txt"
#: Mean ratings range from -4 to 4; sentences with a smaller magnitude are neutral and are dropped.
MIN_RATING = 0.5
_SPLITS = ("test", "test", "validation", *["train"] * 7)


def _unpack(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as outer:
        inner = tar_member(outer, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        return {_FILE: tar_member(tar, f"hutto_ICWSM_2014/{_FILE}")}


PACKAGE = PackagedFiles(
    title="movie reviews",
    requirement="vaderSentiment==3.3.2",
    kind="sdist",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    files={_FILE: "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"},
    unpack=_unpack,
    size_bytes=4_000_000,
)


@final
@dataclass(frozen=True)
class Sentences:
    """Sentences of one split (train, validation or test) with their labels.

    Args:
        texts: Sentences in their original spelling.
        labels: Sentiment of each sentence ``(n,)`` int64: 1 = positive, 0 = negative.
    """

    texts: list[str]
    labels: Tensor


def load_reviews(progress: Progress = SILENT) -> dict[str, Sentences]:
    """Return the sentences of each split, ``train``, ``validation`` and ``test``.

    The sentences are downloaded if they are not in the cache.

    Raises:
        ArtifactError: The sentences are not available, or a file does not have the expected SHA-256.
    """
    path = fetch_files(PACKAGE, cache_dir() / "reviews", progress) / _FILE
    return split_sentences(path.read_text(encoding="utf-8"), str(path))


def split_sentences(table: str, where: str) -> dict[str, Sentences]:
    """Return the sentences of each split, ``train``, ``validation`` and ``test``, parsed from a table of rated sentences.

    Neutral and repeated sentences are dropped. The table is sorted by rating. Each split is sorted by the SHA-256 of the
    sentences instead, so that the first sentences of a split are a representative sample.

    Args:
        table: Text whose lines contain a number, a mean rating from -4 to 4 and a sentence, separated by tabs.
        where: Name of the table in error messages.

    Raises:
        ArtifactError: A line does not have this format.
    """
    labels: dict[str, int] = {}
    texts: dict[str, str] = {}
    for number, line in enumerate(table.splitlines(), 1):
        try:
            _, rating, text = line.split("\t")
            praise = float(rating)
        except ValueError as error:
            raise ArtifactError(
                f"{where}:{number}: expected a number, a rating and a sentence, separated by tabs: {error}",
                hint="delete the file and run the command again to download it",
            ) from error
        key = digest_of(text)
        if abs(praise) >= MIN_RATING and key not in texts:
            texts[key], labels[key] = text, int(praise > 0)
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for key in sorted(texts):
        splits[split_of(key)].append(key)
    return {
        split: Sentences([texts[key] for key in keys], torch.tensor([labels[key] for key in keys], dtype=torch.int64))
        for split, keys in splits.items()
    }


def digest_of(text: str) -> str:
    """Return the SHA-256 of the words of a sentence in lower case, as a hexadecimal string.

    Sentences that differ only in case, punctuation or white space have the same SHA-256.
    """
    return hashlib.sha256(" ".join(re.findall(r"\w+", text.casefold())).encode()).hexdigest()


def split_of(digest: str) -> str:
    """Return the split to which a sentence belongs: ``train``, ``validation`` or ``test``.

    The split depends on the first 64 bits of `digest`, the SHA-256 of the sentence, modulo 10.

    About 70 % of the sentences are in ``train``, 10 % in ``validation`` and 20 % in ``test``.
    """
    return _SPLITS[int(digest[:16], 16) % len(_SPLITS)]


#: The length of a batch is a multiple of this number of tokens.
_STEP = 8


def batch_sentences(
    input_ids: Tensor, attention_mask: Tensor, labels: Tensor, *, batch_size: int, shuffle: bool = False
) -> IndexedBatches:
    """Return batches of tokenised sentences with their labels as targets.

    The inputs of a batch are a dict of ``input_ids`` and ``attention_mask``. The sentences of a batch are padded to the length
    of the longest sentence, rounded up to a multiple of 8 tokens. Without shuffling, sentences are sorted by length in
    descending order, which reduces padding.

    Args:
        input_ids: Tokens ``(n, n_tokens)`` int64, padded at the end.
        attention_mask: Mask ``(n, n_tokens)``, 1 for tokens and 0 for padding.
        labels: Labels ``(n,)`` int64.
        batch_size: Number of sentences in a batch; without shuffling the last batch of an epoch may be smaller.
        shuffle: Whether each epoch draws a new order and drops an incomplete last batch.

    Raises:
        ConfigError: The three tensors differ in the number of sentences, there is no sentence, or `batch_size` is less than 1.
    """
    if not len(input_ids) == len(attention_mask) == len(labels) > 0:
        raise ConfigError(
            f"reviews: got {len(input_ids)} sentences, {len(attention_mask)} masks and {len(labels)} labels, "
            "expected three equal numbers > 0",
            hint="give one row of tokens, one row of the mask and one label for each sentence",
        )
    lengths = attention_mask.sum(dim=1)

    def collate(numbers: Tensor, generator: torch.Generator) -> Batch:
        longest = _STEP * math.ceil(int(lengths[numbers].max()) / _STEP)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return {name: tensor[numbers, :longest] for name, tensor in inputs.items()}, labels[numbers]

    return IndexedBatches(len(labels), collate, batch_size=batch_size, shuffle=shuffle, lengths=lengths)
