"""Tasks ``squad@MODEL`` and ``text@MODEL``, which combine built-in data with a Hugging Face model.

``MODEL`` is the name of a model on the Hugging Face hub, or the path of its directory. The models need the package
`transformers`, which the optional extra ``hf`` installs.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lionheart.errors import ArtifactError, ConfigError
from lionheart.extras import hub_options, import_extra
from lionheart.progress import SILENT, Progress
from lionheart.tasks.question_answering.answer_spans import f1_scores, span_loss
from lionheart.tasks.question_answering.networks import Reader, make_splits
from lionheart.tasks.recipe import HUB_TASKS
from lionheart.tasks.task import F1, PERPLEXITY, Task
from lionheart.tasks.text.addresses import N_TOKENS, build_batches
from lionheart.tasks.text.decoder import Decoder, token_loss, token_scores

#: Tokens of a window of question and paragraph, if a model accepts that many, as in the code published with BERT.
_READER_TOKENS = 384
#: Samples in a training batch.
_READER_BATCH, _TEXT_BATCH = 16, 8


@HUB_TASKS.register("squad")
def build_reader_task(name: str, progress: Progress = SILENT) -> Task:
    """Return the task ``squad@NAME``: a fine-tuned Hugging Face model that answers the questions of SQuAD.

    Dropout probabilities of the model are set to 0, because dropout would draw from the global random state.

    Args:
        name: Name of the model on the Hugging Face hub, or path of a directory to which ``save_pretrained`` wrote the model
            and its fast tokenizer.
        progress: Receiver of progress bars and messages.

    Raises:
        ConfigError: ``transformers`` is not installed, or the model is not made for question answering, has no fine-tuned head,
            or has no fast tokenizer.
        ArtifactError: The model or the data is not available.
    """
    where = f"squad@{name}"
    model, tokenizer = _load_reader(name, where)
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    n_tokens = min([_READER_TOKENS, *(int(limit) for limit in limits if limit is not None and limit > 0)])
    train, validation, test = make_splits(
        tokenizer.backend_tokenizer,
        n_tokens,
        batch_size=_READER_BATCH,
        progress=progress,
        pad_id=tokenizer.pad_token_id or 0,
        with_types=_takes_types(model),
    )
    return Task(
        model=Reader(model).eval(),
        train=train,
        validation=validation,
        test=test,
        metric=replace(F1, compute=f1_scores),
        loss=span_loss,
        name=where,
    )


def _takes_types(model: Any) -> bool:
    """Return whether a Hugging Face model uses ``token_type_ids``, which distinguish the question from the paragraph.

    The model is inspected instead of its tokenizer, because the settings of the tokenizer may be wrong.
    """
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    return takes and getattr(model.config, "type_vocab_size", 0) > 1


def _load_reader(name: str, where: str) -> tuple[Any, Any]:
    transformers = import_extra("transformers", "hf", where)
    options = hub_options(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **options)
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, float):
                setattr(config, key, 0.0)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
        with torch.random.fork_rng(devices=[]):  # transformers may draw weights before it loads them
            model, report = transformers.AutoModelForQuestionAnswering.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
    except OSError as error:
        raise ArtifactError(
            f"{where}: the model cannot be loaded from a directory or from the hub: {str(error).splitlines()[0]}",
            hint="check the name and the internet connection, or give a directory to which save_pretrained wrote "
            "both the model and its tokenizer",
        ) from error
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{where}: the model cannot be loaded for question answering: {str(error).splitlines()[0]}",
            hint="use a model that transformers.AutoModelForQuestionAnswering supports",
        ) from error
    if report["missing_keys"]:
        raise ConfigError(
            f"{where}: the model has no weights for {', '.join(sorted(report['missing_keys']))}",
            hint="fine-tune the model for question answering first, or give the name of a fine-tuned model",
        )
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"{where}: the model has no fast tokenizer",
            hint="save a fast tokenizer as tokenizer.json in the directory of the model, or use another model",
        )
    return model, tokenizer


@HUB_TASKS.register("text")
def build_text_task(model_name: str, progress: Progress = SILENT) -> Task:
    """Return the task ``text@NAME``: next-token prediction on State of the Union addresses with a Hugging Face language model.

    The texts are tokenised with the tokenizer that belongs to the model.

    Args:
        model_name: Name of the model on the Hugging Face hub, or path of a directory with the model and its tokenizer.
        progress: Receiver of progress bars and messages.

    Raises:
        ConfigError: ``transformers`` is not installed, or the model has no fast tokenizer.
        ArtifactError: The model or the texts are not available.
    """
    transformers = import_extra("transformers", "hf", f"text@{model_name}")
    options = hub_options(model_name)
    try:
        with progress.bar(f"loading {model_name}", None):
            model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(model_name, dtype="float32", **options)
            fast = transformers.AutoTokenizer.from_pretrained(model_name, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        folder = Path(model_name).expanduser()
        hint = (
            "the directory must contain config.json, the weights and the tokenizer files of a causal language model"
            if folder.is_dir()
            else "check the name and the internet connection, and that the model is a causal language model"
        )
        raise ArtifactError(
            f"text@{model_name}: the model cannot be loaded as a causal language model: {reason}", hint=hint
        ) from error
    if not getattr(fast, "is_fast", False):
        raise ConfigError(
            f"text@{model_name}: the model has no fast tokenizer",
            hint="save a fast tokenizer as tokenizer.json in the directory of the model, or use another model",
        )
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    longest = getattr(model.config, "max_position_embeddings", N_TOKENS)
    batches = build_batches(
        batch_size=_TEXT_BATCH, progress=progress, tokenizer=fast.backend_tokenizer, n_tokens=min(N_TOKENS, longest)
    )
    return Task(
        Decoder(model.eval()),
        *batches,
        metric=replace(PERPLEXITY, compute=token_scores),
        loss=token_loss,
        name=f"text@{model_name}",
    )
