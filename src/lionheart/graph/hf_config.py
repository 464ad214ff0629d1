"""Read and check the configuration of a Hugging Face model, which may come from an unknown source."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from lionheart.errors import ArtifactError, ConfigError

_BYTES = 16 << 20  # of a config.json
_DEEPEST = 20  # levels of a configuration
_MODULES = 200_000  # of a model
_HINT = "give a config.json that contains the key 'model_type', such as a file written by save_pretrained"
#: Names of numbers of modules, and their largest accepted value.
_COUNTS = re.compile(r"(^|_)(layers?|blocks?|depths?|stages?|experts)($|_)", re.IGNORECASE)
_MOST = 2_000
_LABELS, _MOST_LABELS = re.compile(r"labels", re.IGNORECASE), 1_000_000
#: Names of other sizes, and their largest accepted value.
_SIZES = re.compile(r"size|dim|embd|positions|ctx|heads?($|_)|model$|inner|ff", re.IGNORECASE)
_LONGEST = 50_000_000
#: Entries that name code for transformers to load.
_CODE = ("auto_map", "attn_implementation", "_attn_implementation", "experts_implementation", "quantization_config")


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a ``config.json`` without entries that name code to load.

    Args:
        path: Path of the file.

    Raises:
        ArtifactError: The file cannot be read, or is not a JSON object with a ``model_type``.
        ConfigError: A size is larger than that of any known model.
    """
    try:
        if path.stat().st_size > _BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes, expected at most {_BYTES:,}")
        data = json.loads(path.read_text(encoding="utf-8"))
        model_type = data["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{path}: not a readable model configuration: {type(error).__name__}: {str(error)[:200]}", hint=_HINT
        ) from error
    if not isinstance(data, dict) or not isinstance(model_type, str):
        raise ArtifactError(f"{path}: model_type: got {type(model_type).__name__}, expected a string", hint=_HINT)
    named = data.get("architectures")
    if named is not None and not (isinstance(named, list) and all(isinstance(each, str) for each in named)):
        raise ConfigError(
            f"{path}: architectures: got {str(named)[:80]}, expected a list of class names", hint="or remove the entry"
        )
    check_config(data, str(path))
    return {key: value for key, value in data.items() if key not in _CODE}


def check_config(data: Mapping[str, Any], where: str) -> None:
    """Check that no size in a configuration is larger than that of any known model.

    Args:
        data: Content of the configuration.
        where: Beginning of error messages, such as the path of the file.

    Raises:
        ConfigError: A number is out of range, or the configuration is nested too deeply.
    """
    for path, value in _numbers(data, where):
        key = path.rpartition(".")[2].partition("[")[0]
        limits = ((_COUNTS, _MOST), (_LABELS, _MOST_LABELS), (_SIZES, _LONGEST))
        limit = next((most for pattern, most in limits if pattern.search(key)), None)
        if limit is not None and abs(value) > limit:
            shown = f"{value:,}" if abs(value) < 1e18 else "a number of more than 18 digits"
            raise ConfigError(
                f"{path}: got {shown}, expected at most {limit:,}", hint="correct this number in the config.json"
            )


def _numbers(data: Any, path: str, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield a pair ``(path, number)`` for each whole number in nested data, and for the length of each list."""
    if depth > _DEEPEST:
        raise ConfigError(f"{path[:200]}: nested more than {_DEEPEST} levels deep", hint="correct this entry")
    if isinstance(data, int) and not isinstance(data, bool):
        yield path, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _numbers(value, f"{path}.{key}", depth + 1)
    elif isinstance(data, (list, tuple)):
        yield path, len(data)
        for index, value in enumerate(data):
            yield from _numbers(value, f"{path}[{index}]", depth + 1)


@contextmanager
def bounded_modules() -> Iterator[None]:
    """Return a context manager in which a model with too many modules cannot be built.

    Raises:
        ConfigError: The model has more modules than the limit.
    """
    n_modules = 0

    def count(module: nn.Module, name: str, child: nn.Module | None) -> None:
        nonlocal n_modules
        n_modules += 1
        if n_modules > _MODULES:
            raise ConfigError(
                f"the model has more than {_MODULES:,} modules", hint="check the numbers of layers in the config.json"
            )

    handle = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
