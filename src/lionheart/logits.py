"""Logits among the outputs of a network, and the axis of their classes. The module does not import PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lionheart.errors import ConfigError

NO_TARGET = -100  # target of a position without a class, as in PyTorch and Hugging Face


def find_logits(outputs: Any) -> Any:
    """Return the logits among the outputs of a network, or `outputs` itself if the logits cannot be told.

    Logits are the attribute or entry ``logits`` (models of Hugging Face, some of torchvision), the entry ``out`` (segmentation
    networks of torchvision), or the only element of a dict, tuple or list.
    """
    found = getattr(outputs, "logits", None)
    if found is not None:
        return found
    if isinstance(outputs, Mapping):
        named = next((outputs[name] for name in ("logits", "out") if name in outputs), None)
        return named if named is not None else next(iter(outputs.values())) if len(outputs) == 1 else outputs
    return outputs[0] if isinstance(outputs, (tuple, list)) and len(outputs) == 1 else outputs


def class_axis(outputs: Any, targets: Any, where: str) -> int:
    """Return the axis of the classes in logits: -1 for ``(*targets.shape, classes)``, 1 for ``(batch, classes, ...)``.

    Args:
        outputs: Logits.
        targets: Index of the correct class of each sample ``(batch,)``, or of each position ``(batch, ...)``.
        where: Name of the function that uses the logits, with which error messages begin.

    Raises:
        ConfigError: `outputs` or `targets` is not a tensor, `targets` are no class indices, or the shapes do not fit or fit
            both forms.
    """
    hint = f"change the loss and the metric of the task to functions of your outputs and targets, instead of {where}"
    for name, value in (("outputs", outputs), ("targets", targets)):
        if not hasattr(value, "ndim") or not hasattr(value, "dtype"):
            raise ConfigError(
                f"{where}: got {name} of type {type(value).__name__}, expected a tensor",
                hint=f"let the model return its logits, or {hint}" if name == "outputs" else hint,
            )
    if targets.dtype.is_floating_point:
        raise ConfigError(
            f"{where}: got targets {tuple(targets.shape)} of type {targets.dtype}, expected class indices as whole numbers",
            hint="give the targets as targets.long(), and one-hot targets as targets.argmax(dim=-1); for a regression, set "
            "Task.loss and Task.metric",
        )
    is_last = outputs.ndim == targets.ndim + 1 and outputs.shape[:-1] == targets.shape
    is_first = outputs.ndim > 2 and outputs.shape[:1] + outputs.shape[2:] == targets.shape
    if is_last == is_first:
        if targets.ndim > 1 and targets.shape[-1] == 1:
            hint = "give the targets without the last dimension: targets.squeeze(-1)"
        found = "which may have the classes in axis 1 or -1" if is_last else "which do not fit"
        raise ConfigError(
            f"{where}: got outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}, {found}; expected "
            "outputs (batch, classes) and targets (batch,), or one target for each position",
            hint=hint,
        )
    return -1 if is_last else 1
