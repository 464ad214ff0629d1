"""Build Hugging Face models from their configurations, on the meta device and without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lionheart.errors import ArtifactError, ConfigError, suggest
from lionheart.extras import hub_options, import_extra
from lionheart.graph.hf_config import bounded_modules, check_config, read_config

_SEQUENCE = 128  # tokens of the example input, or fewer if the model's limit is lower
_TARGETS = 32  # tokens of the example decoder input of encoder-decoder models
_SAMPLES = 16_000  # audio samples of the example input, 1 s at 16 kHz
_SHOWN = 80  # characters of a name, a value or an error of transformers in an error message
#: Names of the tables in transformers that map a model type to a class with a head, in order of preference.
_HEADS = (
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def load_structure(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a Hugging Face model on the meta device, without weights, and example inputs for one inference.

    Args:
        name: Folder with a ``config.json``, path of a configuration file, name of a model on the Hugging Face hub, or model
            type such as ``gpt2``. For a model type, the default configuration is used, unless the local cache of the hub
            contains the configuration of a model with the same name.

    Returns:
        Model in evaluation mode, and its example inputs by names of arguments.

    Raises:
        ConfigError: transformers is not installed, or it does not support the model type. The error is also raised if
            LionHeart cannot make example inputs for the main input of the model.
        ArtifactError: The configuration of the model does not exist or cannot be read.
    """
    transformers = import_extra("transformers", "hf", f"hf:{name}")
    config = _load_config(name)
    model_class = _model_class(config)
    if model_class is None:
        raise ConfigError(
            f"hf:{name}: transformers {transformers.__version__} has no PyTorch model for the model type {config.model_type!r}",
            hint="write a Python function that returns (model, example_inputs), and give path/to/file.py:function instead "
            f"of hf:{name}",
        )
    try:
        with torch.device("meta"), bounded_modules():
            model = model_class(config)
            model.config.pad_token_id = None  # used only for warnings about input values, which do not exist here
            inputs = example_inputs(model)
    except ConfigError:
        raise
    except Exception as error:
        raise _refuse(f"hf:{name}: {model_class.__name__} cannot be built from this configuration", error) from error
    return model.eval(), inputs


def _refuse(what: str, error: Exception) -> ConfigError:
    """Return the `ConfigError` for any error that transformers raises for an unusual configuration, with a short message."""
    reason = " ".join(str(error).split())[:_SHOWN]
    return ConfigError(
        f"{what}: {type(error).__name__}: {reason}", hint="check the names, types and sizes in the config.json"
    )


def _load_config(name: str) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    folder = Path(name)
    if folder.is_dir() or name.endswith(".json"):
        path = folder / "config.json" if folder.is_dir() else folder
        data = read_config(path)
        model_type = data["model_type"]
        if model_type not in CONFIG_MAPPING:
            known = suggest(model_type[:_SHOWN], list(CONFIG_MAPPING.keys()), label="model types")
            raise ConfigError(
                f"{path}: model_type: got {model_type[:_SHOWN]!r}, expected a model type that transformers supports",
                hint=known,
            )
        try:
            return CONFIG_MAPPING[model_type].from_dict(data)
        except Exception as error:
            raise _refuse(f"{path}: transformers rejects this configuration of {model_type!r}", error) from error
    if name in CONFIG_MAPPING and not _is_cached(name):
        return CONFIG_MAPPING[name]()
    try:
        config = AutoConfig.from_pretrained(name, **hub_options(name))
    except (OSError, ValueError) as error:
        known = suggest(name, list(CONFIG_MAPPING.keys()), label="model types")
        raise ArtifactError(
            f"hf:{name}: could not load a configuration from a folder or from the hub: {str(error).splitlines()[0]}",
            hint="give a folder with a config.json, the name of a model on the Hugging Face hub, or a model type; for a model "
            f"on the hub, check the network connection; {known}",
        ) from error
    check_config(config.to_dict(), f"hf:{name}")
    return config


def _is_cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _model_class(config: Any) -> Any:
    """Return the model class that the entry ``architectures`` of a Hugging Face configuration names first.

    If transformers does not contain this class, return the first suitable class that the tables in `_HEADS` list for the model
    type. A class for causal language models is not suitable if the model type also has a class for masked language models,
    unless the model is an encoder-decoder. Return None if there is no suitable class.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    named = next(iter(config.architectures or ()), None)
    named = named if isinstance(named, str) and named.isidentifier() else ""
    found = getattr(transformers, named, None) if named else None
    if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
        return found
    if found is not None:
        raise ConfigError(
            f"architectures: got {named[:_SHOWN]!r}, which is not a model class of transformers",
            hint="give the name of a model class such as 'LlamaForCausalLM', or remove the entry",
        )
    model_type = config.model_type
    for head in _HEADS:
        found = getattr(modeling_auto, head, {}).get(model_type)
        masked = model_type in getattr(modeling_auto, "MODEL_FOR_MASKED_LM_MAPPING_NAMES", {})
        if found is None or (masked and "CAUSAL_LM" in head and not config.is_encoder_decoder):
            continue  # models that also exist as a masked language model, such as BERT, count as encoders
        return getattr(transformers, found[0] if isinstance(found, tuple) else found, None)
    return None


def example_inputs(model: Any) -> dict[str, Tensor]:
    """Return example inputs for one inference of a Hugging Face model, with shapes derived from its configuration.

    Args:
        model: Hugging Face model, with the attributes ``config`` and ``main_input_name``.

    Returns:
        Input tensors with batch size 1, by names of arguments of the model.

    Raises:
        ConfigError: The main input of the model is none of ``input_ids``, ``pixel_values``, ``input_features`` and
            ``input_values``.
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
            f"{type(model).__name__}: the main input of the model is {main!r}, expected 'input_ids', 'pixel_values', "
            "'input_features' or 'input_values'",
            hint="write a Python function that returns (model, example_inputs), and give the model as "
            "path/to/file.py:function",
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
