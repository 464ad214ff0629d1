"""The task ``text/decoder``: a small GPT-2 that predicts the next token of State of the Union addresses.

The network is a model of the package `transformers`, which the optional extra ``hf`` installs.
"""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from lionheart.extras import import_extra
from lionheart.tasks.recipe import TASKS, Recipe
from lionheart.tasks.task import PERPLEXITY
from lionheart.tasks.text.addresses import N_TOKENS, build_batches
from lionheart.training import TrainSpec

_N_ENTRIES, _WIDTH, _N_LAYERS, _N_HEADS = 2048, 192, 4, 6


class Decoder(nn.Module):
    """Network that calls a causal language model of `transformers`, and returns only the logits, as a tensor."""

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, input_ids: Tensor) -> Tensor:
        """Map tokens ``(batch, n_tokens)`` to logits of the token after each position, ``(batch, n_tokens, n_entries)``."""
        logits: Tensor = self.lm(input_ids=input_ids, use_cache=False).logits
        return logits


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over all tokens of a batch [nats] as a scalar, computed in float32.

    Args:
        outputs: Logits ``(batch, n_tokens, n_entries)``.
        targets: Tokens ``(batch, n_tokens)``.
    """
    return F.cross_entropy(outputs.float().flatten(0, -2), targets.flatten())


def token_scores(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative of each sequence's mean cross-entropy over tokens [nats], ``(batch,)``.

    Args:
        outputs: Logits ``(batch, n_tokens, n_entries)``.
        targets: Tokens ``(batch, n_tokens)``.
    """
    return -F.cross_entropy(outputs.float().transpose(1, 2), targets, reduction="none").mean(dim=1)


def build_decoder() -> nn.Module:
    """Return an untrained GPT-2 with 4 layers, width 192, 6 heads and 2,048 tokens, without dropout.

    The vocabulary is that of the tokenizer that `lionheart.tasks.text.addresses.load_tokenizer` returns.

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


TASKS.add(
    "text/decoder",
    Recipe(
        build_model=build_decoder,
        build_data=build_batches,
        batch_size=16,
        train_spec=TrainSpec(
            optimizer="adamw",
            learning_rate=2e-3,
            weight_decay=0.05,
            schedule="one_cycle",
            max_epochs=10,
            steps_per_epoch=200,
            patience=None,
            gradient_clip=1.0,
            precision="auto",
        ),
        loss=token_loss,
        metric=replace(PERPLEXITY, compute=token_scores),
        half_weights=True,
    ),
)
