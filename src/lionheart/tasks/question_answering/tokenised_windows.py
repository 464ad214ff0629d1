"""Questions and paragraphs as tokens: overlapping windows of a model's input length, and batches of whole questions."""

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

#: Shares of a window, as in the code published with BERT (Devlin et al. 2019, github.com/google-research/bert, run_squad.py):
#: 128 of 384 tokens are repeated in the next window, and at most 64 belong to the question.
_OVERLAP, _QUESTION = 3, 6


@final
@dataclass(frozen=True)
class Windows:
    """Windows of tokens, ordered by question, padded at the end to ``n_tokens``.

    Args:
        input_ids: Tokens ``(n, n_tokens)`` int32.
        token_type_ids: Token types ``(n, n_tokens)`` int8.
        lengths: Number of tokens without padding ``(n,)``.
        context: First and one past the last token of the paragraph ``(n, 2)``.
        offsets: First and one past the last character of each token in its text ``(n, n_tokens, 2)`` int32.
        spans: First and last token of the answer ``(n, 2)`` int64; 0, 0 if the window does not hold the answer.
        question: Index of the question ``(n,)``, in increasing order.
    """

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Tensor
    context: Tensor
    offsets: Tensor
    spans: Tensor
    question: Tensor


def tokenise_windows(tokenizer: Any, questions: Sequence[Question], n_tokens: int, *, pad_id: int = 0) -> Windows:
    """Split questions with their paragraphs into windows.

    A window holds the question, truncated to a sixth of `n_tokens`, and a part of the paragraph. A third of `n_tokens` is
    repeated in the next window.

    Args:
        tokenizer: A `tokenizers.Tokenizer` that adds special tokens to a pair of texts; its truncation and padding settings
            are replaced.
        questions: Questions in the order of their indices.
        n_tokens: Length of a window, including special tokens.
        pad_id: Padding token.
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
    """Return the first and last token of a span of characters; 0, 0 if the span is not entirely in the window."""
    begins, ends = offsets[first:end, 0], offsets[first:end, 1]
    if span is None or len(begins) == 0 or begins[0] > span[0] or ends[-1] < span[1]:
        return 0, 0
    begin = int(np.searchsorted(begins, span[0], side="right")) - 1
    last = int(np.searchsorted(ends, span[1], side="left"))
    return first + begin, first + last


@final
@dataclass(frozen=True)
class SpanTargets:
    """Targets of a batch for loss and metrics; its length is the number of questions.

    Args:
        spans: Answers ``(windows, 2)`` int64, see `Windows`.
        context: Paragraphs ``(windows, 2)`` int64, see `Windows`.
        offsets: Character offsets ``(windows, n_tokens, 2)`` int32, see `Windows`.
        question: Index into `questions` for each window ``(windows,)``, in increasing order.
        questions: Questions of the batch.
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
        """Token indices that the logits must select, ``(windows, 2)``; each token position counts as a class."""
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
    """Return batches of questions: the inputs of all windows of some questions, and `SpanTargets`.

    A batch is truncated after its longest window, to a multiple of 8 tokens. Without shuffling the longest questions come
    first. With shuffling each epoch draws a new order, and questions of similar length are grouped among a few hundred
    neighbours in that order, which reduces padding.

    Args:
        windows: Windows of all questions.
        questions: All questions.
        batch_size: Questions in a batch; without shuffling the last batch of an epoch may be smaller.
        shuffle: Whether each epoch draws a new order and drops an incomplete last batch.
        with_types: Whether the model takes ``token_type_ids`` in addition to ``input_ids`` and ``attention_mask``.

    Raises:
        ConfigError: There is no question.
    """
    if len(questions) == 0:
        raise ConfigError("questions: got no question, expected at least one")
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
