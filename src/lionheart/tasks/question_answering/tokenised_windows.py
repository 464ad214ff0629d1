"""Tokenised questions: overlapping windows of tokens with the input length of a model, and batches of windows.

A paragraph may be longer than the input of a model. Each window therefore contains the question and a part of the paragraph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from lionheart.data import Batch, IndexedBatches
from lionheart.errors import ConfigError
from lionheart.tasks.question_answering.squad import Question

#: Reciprocals of fractions of a window, as in the code published with BERT (Devlin et al. 2019,
#: github.com/google-research/bert, run_squad.py): 128 of 384 tokens are repeated in the next window, and at most 64 belong to
#: the question.
_OVERLAP, _QUESTION = 3, 6


@final
@dataclass(frozen=True)
class Windows:
    """Windows of tokens. Each window contains a question and a part of its paragraph.

    There are ``n`` windows. All windows are padded at the end to ``n_tokens`` tokens. A question has one or more consecutive
    windows.

    Args:
        input_ids: Tokens ``(n, n_tokens)`` int32.
        token_type_ids: Token types, which distinguish question and paragraph, ``(n, n_tokens)`` int8.
        lengths: Number of tokens in each window, not counting padding, ``(n,)`` int64.
        context: Position of the first token of the paragraph, and of the last token plus 1, ``(n, 2)`` int64.
        offsets: Index of the first character of each token in the question or paragraph, and of the last character plus 1,
            ``(n, n_tokens, 2)`` int32.
        spans: Positions of the first and the last token of the answer ``(n, 2)`` int64; 0 and 0 if the window does not contain
            the whole answer.
        question: Index of the question to which each window belongs ``(n,)`` int64, in ascending order.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Tensor
    context: Tensor
    offsets: Tensor
    spans: Tensor
    question: Tensor


def tokenise_windows(tokenizer: Any, questions: Sequence[Question], n_tokens: int, *, pad_id: int = 0) -> Windows:
    """Return the windows of tokens for all questions, in the order of `questions`.

    Each window contains the question and a part of its paragraph. Questions are truncated to ``n_tokens // 6`` tokens.
    Consecutive windows of a question have ``n_tokens // 3`` tokens of the paragraph in common.

    Args:
        tokenizer: A `tokenizers.Tokenizer` that adds special tokens to a pair of texts; its truncation and padding settings
            are replaced.
        questions: Questions with their paragraphs.
        n_tokens: Number of tokens in a window, including special tokens.
        pad_id: Index of the padding token.
    """
    tokenizer.no_padding()
    tokenizer.no_truncation()
    asked = tokenizer.encode_batch([each.text for each in questions], add_special_tokens=False)
    longest = max(1, n_tokens // _QUESTION)
    for number, encoding in enumerate(asked):
        if len(encoding) > longest:
            text = questions[number].text[: encoding.offsets[longest - 1][1]]
            asked[number] = tokenizer.encode(text, add_special_tokens=False)
    contexts = list(dict.fromkeys(each.context for each in questions))
    read = dict(zip(contexts, tokenizer.encode_batch(contexts, add_special_tokens=False), strict=True))
    tokenizer.enable_truncation(n_tokens, stride=n_tokens // _OVERLAP, strategy="only_second")
    rows: list[tuple[int, Any, Any]] = []
    for number, (question, encoding) in enumerate(zip(questions, asked, strict=True)):
        whole = tokenizer.post_process(encoding, read[question.context])
        rows += [(number, window, whole) for window in (whole, *whole.overflowing)]
    n = len(rows)
    ids, types = np.full((n, n_tokens), pad_id, np.int32), np.zeros((n, n_tokens), np.int8)
    offsets, context = np.zeros((n, n_tokens, 2), np.int32), np.zeros((n, 2), np.int64)
    lengths, spans = np.zeros(n, np.int64), np.zeros((n, 2), np.int64)
    for row, (number, window, whole) in enumerate(rows):
        length, sequence = len(window), window.sequence_ids
        ids[row, :length], offsets[row, :length], lengths[row] = window.ids, window.offsets, length
        first = sequence.index(1) if 1 in sequence else length
        end = length - sequence[::-1].index(1) if 1 in sequence else length
        context[row] = first, end
        # window.type_ids are wrong in all but the first window if the texts were encoded separately.
        types[row, :length] = whole.type_ids[-1]
        types[row, :end] = whole.type_ids[first] if first < length else 0
        types[row, :first] = whole.type_ids[:first]
        spans[row] = _locate(questions[number].span, offsets[row], *context[row])
    numbers = torch.tensor([number for number, *_ in rows], dtype=torch.int64)
    return Windows(
        input_ids=torch.from_numpy(ids),
        token_type_ids=torch.from_numpy(types),
        lengths=torch.from_numpy(lengths),
        context=torch.from_numpy(context),
        offsets=torch.from_numpy(offsets),
        spans=torch.from_numpy(spans),
        question=numbers,
    )


def _locate(span: tuple[int, int] | None, offsets: np.ndarray, first: int, end: int) -> tuple[int, int]:
    """Return the positions, in a window, of the first and the last token of a span of characters.

    Both positions are 0 if there is no span, or if the window does not contain the whole span.

    Args:
        span: Index of the first character in the paragraph, and of the last character plus 1.
        offsets: Character offsets of the tokens in the window ``(n_tokens, 2)``.
        first: Position of the first token of the paragraph.
        end: Position of the last token of the paragraph plus 1.
    """
    begins, ends = offsets[first:end, 0], offsets[first:end, 1]
    if span is None or len(begins) == 0 or begins[0] > span[0] or ends[-1] < span[1]:
        return 0, 0
    begin = int(np.searchsorted(begins, span[0], side="right")) - 1
    last = int(np.searchsorted(ends, span[1], side="left"))
    return first + begin, first + last


@final
@dataclass(frozen=True)
class SpanTargets:
    """Targets of a batch of questions, for the loss and the metrics. ``len()`` returns the number of questions.

    Args:
        spans: Positions of the first and the last token of the answer in each window ``(windows, 2)`` int64; 0 and 0 if the
            window does not contain the whole answer.
        context: Position of the first token of the paragraph, and of the last token plus 1, ``(windows, 2)`` int64.
        offsets: Index of the first character of each token, and of the last character plus 1, ``(windows, n_tokens, 2)`` int32.
        question: Index in `questions` for each window ``(windows,)`` int64, in ascending order.
        questions: Questions in the batch.
    """

    spans: Tensor
    context: Tensor
    offsets: Tensor
    question: Tensor
    questions: tuple[Question, ...]

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def classes(self) -> Tensor:
        """Positions of the answer's first and last token, ``(windows, 2)``, as class indices for a classification loss."""
        return self.spans


_STEP = 8  # the length of a batch is a multiple of this number of tokens
_POOL = 32  # number of batches among which shuffled questions of similar length are grouped


def batch_questions(
    windows: Windows,
    questions: Sequence[Question],
    *,
    batch_size: int,
    shuffle: bool = False,
    with_types: bool = True,
) -> IndexedBatches:
    """Return batches of tokenised questions.

    The inputs of a batch are a dict with the tokens of all windows. The targets are `SpanTargets`. The windows of a batch are
    padded to the length of the longest window, rounded up to a multiple of 8 tokens. Questions of similar length are grouped in
    batches to reduce padding. Without shuffling, questions are sorted by length in descending order. With shuffling, each epoch
    draws a new order, in which the questions of every 32 consecutive batches are sorted by length.

    Args:
        windows: Windows of all questions.
        questions: All questions.
        batch_size: Number of questions in a batch; without shuffling the last batch of an epoch may be smaller.
        shuffle: Whether each epoch draws a new order and drops an incomplete last batch.
        with_types: Whether inputs contain ``token_type_ids`` in addition to ``input_ids`` and ``attention_mask``.

    Raises:
        ConfigError: There is no question, or `batch_size` is less than 1.
    """
    if len(questions) == 0:
        raise ConfigError(
            "batch_questions: got no question, expected at least 1",
            hint="give a non-empty sequence of questions, and the windows that tokenise_windows returns for the questions",
        )
    lengths = torch.zeros(len(questions), dtype=torch.int64)
    lengths = lengths.scatter_reduce(0, windows.question, windows.lengths, "amax")
    first = torch.searchsorted(windows.question, torch.arange(len(questions) + 1))

    def collate(numbers: Tensor, generator: torch.Generator) -> Batch:
        firsts, ends = first[numbers], first[numbers + 1]
        local = torch.repeat_interleave(torch.arange(len(numbers)), ends - firsts)
        rows = torch.cat([torch.arange(begin, end) for begin, end in zip(firsts.tolist(), ends.tolist(), strict=True)])
        longest = min(_STEP * math.ceil(int(windows.lengths[rows].max()) / _STEP), windows.input_ids.shape[1])
        inputs = {
            "input_ids": windows.input_ids[rows, :longest].long(),
            "attention_mask": (torch.arange(longest) < windows.lengths[rows].unsqueeze(1)).long(),
        }
        if with_types:
            inputs["token_type_ids"] = windows.token_type_ids[rows, :longest].long()
        asked = tuple(questions[number] for number in numbers.tolist())
        offsets = windows.offsets[rows, :longest]
        return inputs, SpanTargets(windows.spans[rows], windows.context[rows], offsets, local, asked)

    return IndexedBatches(len(questions), collate, batch_size=batch_size, shuffle=shuffle, lengths=lengths, pool=_POOL)
