"""Where training runs, and in what arithmetic."""

from __future__ import annotations

import torch

from lionheart.errors import ConfigError, suggest
from lionheart.training.spec import TrainSpec

_NAMES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; ``auto`` is the first CUDA GPU if PyTorch sees one, else the CPU.

    Raises:
        ConfigError: There is no such name, or no GPU.
    """
    if name not in _NAMES:
        raise ConfigError(
            f"device: got {name!r}, expected auto, cpu or cuda", hint=suggest(name, _NAMES, label="devices")
        )
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError(
            "device: got 'cuda', and PyTorch sees no CUDA GPU",
            hint="take --device cpu, or a PyTorch that is built for CUDA and a driver for it",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 at least about as fast as float32.

    Of CPUs it is those on which PyTorch uses AVX-512: on others its products of bfloat16 take many times as long
    (docs/adr/0005). Of CUDA GPUs it is those of compute capability 8.0 or above, the first with bfloat16 units.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"


def choose_arithmetic(spec: TrainSpec, device: torch.device) -> str:
    """Return what `spec.precision` comes to on `device`: ``float32`` or ``bfloat16``."""
    if spec.precision == "auto":
        return "bfloat16" if has_fast_bfloat16(device) else "float32"
    return spec.precision


def training_autocast(spec: TrainSpec, device: torch.device) -> torch.autocast:
    """Return the context in which forward passes and losses are computed in training."""
    return torch.autocast(device.type, torch.bfloat16, enabled=choose_arithmetic(spec, device) == "bfloat16")
