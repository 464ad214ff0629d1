"""Functions that write and read files of weights and optimiser state in the safetensors format.

Files are written atomically. Pickle is not used, so reading a file cannot execute code.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lionheart.errors import ArtifactError
from lionheart.files import parse_json, require_mapping, write_atomic

_MODEL, _OPTIMIZER, _COPY = "model/", "optimizer/", "copy/"


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    whole = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        try:
            save_file(whole, temporary, {"lionheart": json.dumps(metadata)})
        except SafetensorError as error:  # safetensors raises it if the disk is full
            raise OSError(str(error)) from error

    write_atomic(path, write)


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as stored:
            text = (stored.metadata() or {}).get("lionheart", "{}")
            metadata = dict(require_mapping(parse_json(text, f"{path}: metadata"), path))
            return {name: stored.get_tensor(name) for name in stored.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file", hint="check the path") from error
    except (SafetensorError, OSError, ValueError, AttributeError) as error:  # AttributeError: a type that torch lacks
        raise ArtifactError(
            f"{path}: not a readable safetensors file: {getattr(error, 'message', error)}",
            hint="check the permissions; if the file is damaged, restore it or create it again",
        ) from error


def _load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, own in model.state_dict().items():
        _check_tensor(f"{path}: {name}", own, tensors.get(name, own))
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ArtifactError(
            f"{path}: the weights do not match the model {type(model).__name__}: {error}",
            hint="give a file that was saved from a network with the same layers",
        ) from error


def _check_tensor(where: str, own: Tensor, stored: Tensor) -> None:
    """Check that the tensor `stored` can replace the tensor `own` of the model: equal kind of number, no NaN.

    Raises:
        ArtifactError: `stored` has another kind of number than `own`, or contains NaN or infinity and `own` does not.
    """
    if own.is_floating_point() != stored.is_floating_point() or stored.is_complex():
        raise ArtifactError(
            f"{where}: got numbers of type {stored.dtype}, expected {own.dtype}",
            hint="restore the file from a copy, or save the weights again",
        )
    if stored.is_floating_point() and not stored.float().isfinite().all() and own.float().isfinite().all():
        raise ArtifactError(
            f"{where}: got NaN or infinity, expected finite numbers",
            hint="restore the file from a copy, or train the network again",
        )


def save_weights(
    path: Path, model: nn.Module, metadata: Mapping[str, Any] | None = None, *, half: bool = False
) -> None:
    """Write the `state_dict` of a model, which contains weights and buffers, to a safetensors file.

    Args:
        path: Path of the file.
        model: Model whose `state_dict` is written.
        metadata: Plain data (JSON types) that are stored in the file too; None = no metadata.
        half: Whether to store floating-point tensors in float16.
    """
    tensors = {n: t.half() if half and t.is_floating_point() else t for n, t in model.state_dict().items()}
    _save(path, tensors, metadata or {})


def load_weights(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load weights into `model` in place, and return the metadata of the file.

    Args:
        path: Path of a file that `save_weights` wrote.
        model: Model whose weights and buffers are overwritten.

    Raises:
        ArtifactError: The file is missing or damaged, or its weights do not match the model.
    """
    tensors, metadata = _open(path)
    _load_into(model, tensors, path)
    return metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file that `save_weights` or `save_training_state` wrote.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    return _open(path)[1]


def save_training_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    metadata: Mapping[str, Any] | None = None,
    *,
    copies: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write the weights and buffers of a model and the state of its optimiser to one safetensors file.

    Args:
        path: Path of the file.
        model: Model whose `state_dict` is written.
        optimizer: Optimiser for the parameters of the model.
        metadata: Plain data (JSON types) that are stored in the file too; None = no metadata.
        copies: Further weights of the model by the name of the copy, such as averages; None = no copies.
    """
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    for copy, state in (copies or {}).items():
        tensors |= {f"{_COPY}{copy}/{name}": tensor for name, tensor in state.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{index}/{slot}"] = value
    _save(path, tensors, metadata or {})


def load_training_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load a training state into `model` and `optimizer` in place, and return the metadata of the file.

    The parameters of the model remain the same objects, so that the optimiser still updates them.

    Args:
        path: Path of a file that `save_training_state` wrote.
        model: Model whose weights and buffers are overwritten.
        optimizer: Optimiser for the parameters of the model, whose state is overwritten.

    Raises:
        ArtifactError: The file is missing or damaged, or its weights do not match the model.
    """
    tensors, metadata = _open(path)
    _load_into(model, {n.removeprefix(_MODEL): t for n, t in tensors.items() if n.startswith(_MODEL)}, path)
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMIZER):
            index, _, slot = name.removeprefix(_OPTIMIZER).partition("/")
            number = int(index) if index.isdecimal() and len(index) < 10 else -1
            if not 0 <= number < len(parameters) or (tensor.dim() and tensor.shape != parameters[number].shape):
                raise ArtifactError(
                    f"{path}: {name}: got a tensor of shape {tuple(tensor.shape)} that belongs to no parameter of the model",
                    hint="restore the file from a copy, or start the training again",
                )
            slots.setdefault(number, {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return metadata


def load_copy(path: Path, copy: str, names: Collection[str]) -> dict[str, Tensor] | None:
    """Return a copy of the weights that `save_training_state` wrote, or None if the file has none of this name.

    Args:
        path: Path of a file that `save_training_state` wrote.
        copy: Name of the copy.
        names: Names of the weights that the copy must have.

    Raises:
        ArtifactError: The file is missing or damaged, or the copy lacks a weight.
    """
    start = f"{_COPY}{copy}/"
    found = {name.removeprefix(start): each for name, each in _open(path)[0].items() if name.startswith(start)}
    missing = [name for name in names if name not in found]
    if found and missing:
        raise ArtifactError(
            f"{path}: the copy {copy!r} of the weights lacks {missing[0]}, expected all weights of the model",
            hint="restore the file from a copy, or start the training again",
        )
    return found or None
