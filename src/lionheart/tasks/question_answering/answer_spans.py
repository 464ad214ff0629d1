"""Answers as spans of tokens: the loss, the selection of the best span for a question, and the scores of SQuAD."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lionheart.tasks.question_answering.tokenised_windows import SpanTargets

#: Constants of the code published with BERT (Devlin et al. 2019, github.com/google-research/bert, run_squad.py).
N_BEST, MAX_ANSWER_TOKENS = 20, 30

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_NO_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))


def span_loss(outputs: Tensor, targets: SpanTargets) -> Tensor:
    """Return the mean cross-entropy [nats] of the positions of the answers' first and last tokens, as a scalar in float32.

    Args:
        outputs: Logits ``(windows, 2, n_tokens)`` for the position of the first and the last token of the answer.
        targets: Targets of the batch. In a window without the answer, the target of both positions is the first token.
    """
    return F.cross_entropy(outputs.float().flatten(0, 1), targets.spans.flatten().to(outputs.device))


def find_answer_spans(
    outputs: Tensor, targets: SpanTargets, *, n_best: int = N_BEST, max_tokens: int = MAX_ANSWER_TOKENS
) -> tuple[Tensor, Tensor]:
    """Return the span of tokens with the largest sum of logits for each question, selected from all its windows.

    In each window, the `n_best` positions with the largest logits for the first token are combined with the `n_best` positions
    with the largest logits for the last token. Only positions in the paragraph are used. A pair of positions is valid if the
    last token is not before the first, and if the span has at most `max_tokens` tokens. The valid pair with the largest sum of
    logits is selected.

    Args:
        outputs: Logits ``(windows, 2, n_tokens)`` for the position of the first and the last token of the answer.
        targets: Targets of the batch for which `outputs` was computed.
        n_best: Number of candidates for the first token, and number of candidates for the last token.
        max_tokens: Largest number of tokens in an answer.

    Returns:
        Spans ``(questions, 3)`` int64, and the sum of the two logits of each span ``(questions,)``. A span consists of the
        index of the window in the batch, and the positions of the first and the last token in this window. The sum is minus
        infinity if no pair is valid.
    """
    logits = outputs.detach().float().cpu()
    position = torch.arange(logits.shape[-1])
    outside = (position < targets.context[:, :1]) | (position >= targets.context[:, 1:])
    values, tokens = logits.masked_fill(outside.unsqueeze(1), -torch.inf).topk(min(n_best, logits.shape[-1]), dim=-1)
    length = tokens[:, 1].unsqueeze(1) - tokens[:, 0].unsqueeze(2) + 1
    sums = values[:, 0].unsqueeze(2) + values[:, 1].unsqueeze(1)
    sums = sums.masked_fill((length < 1) | (length > max_tokens), -torch.inf).flatten(1)
    score, pair = sums.max(dim=1)
    owner = targets.question == torch.arange(len(targets)).unsqueeze(1)
    best, window = score.expand(len(targets), -1).masked_fill(~owner, -torch.inf).max(dim=1)
    first, last = pair[window] // tokens.shape[-1], pair[window] % tokens.shape[-1]
    return torch.stack([window, tokens[window, 0, first], tokens[window, 1, last]], dim=1), best


def answer_questions(outputs: Tensor, targets: SpanTargets) -> list[str]:
    """Return the text of the predicted answer to each question.

    The text is empty if no span of tokens is valid.

    Args:
        outputs: Logits ``(windows, 2, n_tokens)`` for the position of the first and the last token of the answer.
        targets: Targets of the batch for which `outputs` was computed.
    """
    spans, scores = find_answer_spans(outputs, targets)
    texts = []
    for question, (window, first, last), score in zip(targets.questions, spans.tolist(), scores.tolist(), strict=True):
        begin, end = int(targets.offsets[window, first, 0]), int(targets.offsets[window, last, 1])
        texts.append(question.context[begin:end] if score > -torch.inf else "")
    return texts


@lru_cache(maxsize=1 << 16)
def normalise_answer(text: str) -> str:
    """Return a text in lower case without punctuation, articles and superfluous white space, as in SQuAD's official script."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def f1_of(answer: str, truth: str) -> float:
    """Return the F1 score of the words of `answer` compared with `truth`: the harmonic mean of precision and recall, 0 to 1."""
    ours, theirs = normalise_answer(answer).split(), normalise_answer(truth).split()
    n_same = sum((Counter(ours) & Counter(theirs)).values())
    if n_same == 0:
        return 0.0
    precision, recall = n_same / len(ours), n_same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def exact_match_of(answer: str, truth: str) -> float:
    """Return 1 if `answer` and `truth` are equal after `normalise_answer`, else 0."""
    return float(normalise_answer(answer) == normalise_answer(truth))


def f1_scores(outputs: Tensor, targets: SpanTargets) -> Tensor:
    """Return the F1 score of the predicted answer to each question, 0 to 1, ``(questions,)``.

    If a question has several true answers, the largest F1 score is returned.

    Args:
        outputs: Logits ``(windows, 2, n_tokens)`` for the position of the first and the last token of the answer.
        targets: Targets of the batch for which `outputs` was computed.

    Source:
        Rajpurkar et al., EMNLP 2016, arXiv:1606.05250, section 6.1; the official script evaluate-v1.1.py.
    """
    return _best_scores(f1_of, outputs, targets)


def exact_match_scores(outputs: Tensor, targets: SpanTargets) -> Tensor:
    """Return 1 for each question whose predicted answer equals a true answer after normalisation, else 0, ``(questions,)``.

    Args:
        outputs: Logits ``(windows, 2, n_tokens)`` for the position of the first and the last token of the answer.
        targets: Targets of the batch for which `outputs` was computed.

    Source:
        Rajpurkar et al., EMNLP 2016, arXiv:1606.05250, section 6.1; the official script evaluate-v1.1.py.
    """
    return _best_scores(exact_match_of, outputs, targets)


def _best_scores(score_of: Callable[[str, str], float], outputs: Tensor, targets: SpanTargets) -> Tensor:
    answers = answer_questions(outputs, targets)
    scores = [
        max((score_of(answer, truth) for truth in question.answers), default=0.0)
        for answer, question in zip(answers, targets.questions, strict=True)
    ]
    return torch.tensor(scores, dtype=torch.float64)
