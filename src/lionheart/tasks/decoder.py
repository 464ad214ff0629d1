"""Decoders that predict the next token: a small GPT-2 of our own, and any causal language model of Hugging Face.

The networks are those of `transformers`: the optional extra ``hf``.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError
from lionheart.extras import import_extra
from lionheart.progress import SILENT, Progress
from lionheart.tasks.task import PERPLEXITY, Task
from lionheart.tasks.text import N_TOKENS, build_batches

_N_ENTRIES, _WIDTH, _N_LAYERS, _N_HEADS = 2048, 192, 4, 6
_BATCH = 8


class Decoder(nn.Module):
    """A causal language model that takes tokens and returns logits alone."""

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map tokens ``(batch, n_tokens)`` to logits of the next one, ``(batch, n_tokens, n_entries)``."""
        logits: Tensor = self.lm(input_ids=input_ids, use_cache=False).logits
        return logits


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of a token [nats], in float32."""
    return F.cross_entropy(outputs.float().flatten(0, -2), targets.flatten())


def token_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return minus the mean cross-entropy of a token [nats] for each sequence, ``(batch,)``."""
    return -F.cross_entropy(outputs.float().transpose(1, 2), targets, reduction="none").mean(dim=1)


def build_decoder() -> nn.Module:
    """Return an untrained GPT-2 of 4 layers, width 192 and 6 heads, without dropout, for the tokenizer of `text`.

    Raises:
        ConfigError: ``transformers`` is not installed.
    """
    transformers = import_extra("transformers", "hf", "text/decoder")
    config = transformers.GPT2Config(
        vocab_size=_N_ENTRIES,
        n_positions=N_TOKENS,
        n_embd=_WIDTH,
        n_layer=_N_LAYERS,
        n_head=_N_HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return Decoder(transformers.GPT2LMHeadModel(config))


def build_text_task(model_name: str, progress: Progress = SILENT) -> Task:
    """Return the texts with a Hugging Face model and its own tokenizer: a name on the hub, or a folder.

    Raises:
        ConfigError: ``transformers`` is not installed, or the model has no tokenizer that can be used.
        ArtifactError: Model or texts cannot be had.
    """
    transformers = import_extra("transformers", "hf", f"text@{model_name}")
    try:
        with progress.bar(f"loading {model_name}", None):
            model: nn.Module = transformers.AutoModelForCausalLM.from_pretrained(model_name, dtype="float32")
            fast = transformers.AutoTokenizer.from_pretrained(model_name)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        folder = Path(model_name).expanduser()
        hint = "it needs config.json, weights and tokenizer files" if folder.is_dir() else "check name and connection"
        raise ArtifactError(
            f"text@{model_name}: not to be had as a causal language model: {reason}", hint=hint
        ) from error
    if not getattr(fast, "is_fast", False):
        raise ConfigError(f"text@{model_name}: it has no tokenizer.json", hint="save its fast tokenizer beside it")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    longest = getattr(model.config, "max_position_embeddings", N_TOKENS)
    batches = build_batches(
        batch_size=_BATCH, progress=progress, tokenizer=fast.backend_tokenizer, n_tokens=min(N_TOKENS, longest)
    )
    return Task(
        Decoder(model.eval()),
        *batches,
        metric=token_scores,
        loss=token_loss,
        name=f"text@{model_name}",
        measure=PERPLEXITY,
    )
