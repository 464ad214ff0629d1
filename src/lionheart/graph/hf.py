"""Hugging Face models by name or folder: their structure from the configuration alone, on the meta device, without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.extras import import_extra

_SEQUENCE = 128  # tokens of an example sentence, where the model takes that many
_TARGETS = 32  # tokens that a decoder has written, in models that read one sequence and write another
_SAMPLES = 16_000  # one second of sound
#: Families of models whose decoder writes text, by the name that transformers gives the list of their classes.
_HEADS = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def load_structure(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a model without weights and the inputs of one inference.

    Args:
        name: A folder with ``config.json``, a name on the Hugging Face hub, or a kind of model such as ``gpt2``, which stands
            for its default configuration where the hub cannot be reached.

    Raises:
        ConfigError: transformers is not installed, or has no model for the configuration.
        ArtifactError: There is no such configuration.
    """
    transformers = import_extra("transformers", "hf", f"hf:{name}")
    config = _load_config(name)
    model_class = _model_class(config)
    if model_class is None:
        raise ConfigError(
            f"hf:{name}: transformers {transformers.__version__} has no PyTorch model of type {config.model_type!r}",
            hint="write a function that returns (model, example_inputs) and inspect path/to/file.py:function",
        )
    with torch.device("meta"):
        model = model_class(config)
        model.config.pad_token_id = None  # only looked at to warn about the values of inputs, which have none here
        inputs = example_inputs(model)
    return model.eval(), inputs


def _load_config(name: str) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    folder = Path(name)
    if folder.is_dir() or name.endswith(".json"):
        path = folder / "config.json" if folder.is_dir() else folder
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            kind = data["model_type"]
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{path}: no configuration of a model: {type(error).__name__}: {error}",
                hint="expected a config.json with a model_type, as save_pretrained writes it",
            ) from error
        if kind not in CONFIG_MAPPING:
            known = suggest(str(kind), list(CONFIG_MAPPING.keys()), label="model types")
            raise ConfigError(f"{path}: model_type: got {kind!r}", hint=known)
        return CONFIG_MAPPING[kind].from_dict(data)
    if name in CONFIG_MAPPING and not _is_cached(name):
        return CONFIG_MAPPING[name]()
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        kinds = suggest(name, list(CONFIG_MAPPING.keys()), label="kinds of model")
        raise ArtifactError(
            f"hf:{name}: no configuration here or on the hub: {str(error).splitlines()[0]}",
            hint=f"give a folder with config.json, or a kind of model for its default configuration; {kinds}",
        ) from error


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _model_class(config: Any) -> Any:
    """Return the class that the configuration names, else the one with the head that its kind of model usually has."""
    import transformers
    from transformers.models.auto import modeling_auto

    named = [getattr(transformers, each, None) for each in config.architectures or ()]
    if named and named[0] is not None:
        return named[0]
    kind = config.model_type
    for head in _HEADS:
        found = getattr(modeling_auto, head, {}).get(kind)
        masked = kind in getattr(modeling_auto, "MODEL_FOR_MASKED_LM_MAPPING_NAMES", {})
        if found is None or (masked and "CAUSAL_LM" in head and not config.is_encoder_decoder):
            continue  # an encoder that could also write, such as BERT, is taken as an encoder
        return getattr(transformers, found[0] if isinstance(found, tuple) else found, None)
    return None


def example_inputs(model: Any) -> dict[str, Tensor]:
    """Return inputs of one inference for a Hugging Face model, from its configuration.

    Raises:
        ConfigError: Its main input is of an unknown kind.
    """
    config, main = model.config, model.main_input_name
    inputs: dict[str, Tensor] = {}
    if main == "input_ids":
        inputs[main] = _tokens(config, _SEQUENCE)
    elif main == "pixel_values":
        inputs[main] = torch.zeros(1, getattr(config, "num_channels", 3), *_image_size(config))
    elif main == "input_features":
        inputs[main] = torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions)
    elif main == "input_values":
        inputs[main] = torch.zeros(1, _SAMPLES)
    else:
        raise ConfigError(
            f"{type(model).__name__}: main input {main!r} is of an unknown kind",
            hint="write a function that returns (model, example_inputs)",
        )
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _tokens(config, _TARGETS)
    return inputs


def _tokens(config: Any, longest: int) -> Tensor:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    limits = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_target_positions")]
    length = min([longest, *(limit for limit in limits if isinstance(limit, int) and limit > 0)])
    return torch.ones(1, length, dtype=torch.long)


def _image_size(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or 224
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
