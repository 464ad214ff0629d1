"""Small random models of `transformers`, each with the inputs of one inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

TOKENS = torch.tensor([[3, 14, 15, 92, 65, 35]])


def bert() -> tuple[nn.Module, Any]:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=100, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40
    )
    return BertModel(config), {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}


def mobilebert() -> tuple[nn.Module, Any]:
    from transformers import MobileBertConfig, MobileBertForQuestionAnswering

    config = MobileBertConfig(
        vocab_size=100,
        hidden_size=32,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        intra_bottleneck_size=16,
        true_hidden_size=16,
    )
    return MobileBertForQuestionAnswering(config), {"input_ids": TOKENS}


def gpt2() -> tuple[nn.Module, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=100, n_positions=32, n_embd=24, n_layer=2, n_head=3, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    return GPT2LMHeadModel(config), {"input_ids": TOKENS}


def llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=100,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config), {"input_ids": TOKENS}


def t5() -> tuple[nn.Module, Any]:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=100, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, decoder_start_token_id=0)
    return T5ForConditionalGeneration(config), {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :4]}


def vit() -> tuple[nn.Module, Any]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=16, patch_size=4
    )
    return ViTForImageClassification(config), {"pixel_values": torch.randn(1, 3, 16, 16)}


def whisper() -> tuple[nn.Module, Any]:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=100,
        num_mel_bins=8,
        d_model=24,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=40,
        decoder_ffn_dim=40,
        max_source_positions=10,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    inputs = {"input_features": torch.randn(1, 8, 20), "decoder_input_ids": TOKENS[:, :4]}
    return WhisperForConditionalGeneration(config), inputs


def mobilenet_v2() -> tuple[nn.Module, Any]:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(image_size=32, depth_multiplier=0.25, min_depth=4)
    return MobileNetV2ForImageClassification(config), {"pixel_values": torch.randn(1, 3, 32, 32)}


def convnext() -> tuple[nn.Module, Any]:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 2, 1], image_size=32)
    return ConvNextForImageClassification(config), {"pixel_values": torch.randn(1, 3, 32, 32)}


MODELS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    each.__name__: each for each in (bert, mobilebert, gpt2, llama, t5, vit, whisper, mobilenet_v2, convnext)
}
