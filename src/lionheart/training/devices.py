"""Functions that choose the torch device and the floating-point precision for training."""

from __future__ import annotations

import torch
from torch import nn

from lionheart.errors import ConfigError, suggest
from lionheart.training.spec import TrainSpec

_NAMES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto") -> torch.device:
    """Return the torch device called `name`. The name ``auto`` selects a CUDA GPU if PyTorch finds one, else the CPU.

    Args:
        name: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ConfigError: The name is unknown, or it is ``cuda`` and PyTorch finds no CUDA GPU.
    """
    if name not in _NAMES:
        raise ConfigError(
            f"device: got {name!r}, expected auto, cpu or cuda", hint=suggest(name, _NAMES, label="devices")
        )
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError(
            "device: got 'cuda', but PyTorch finds no CUDA GPU",
            hint="use --device cpu, or install a CUDA driver and a PyTorch that is built for CUDA",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether matrix products on a torch device are about as fast in bfloat16 as in float32, or faster.

    The result is True for CPUs on which PyTorch uses AVX-512, and for CUDA GPUs with compute capability 8.0 or higher, which
    have bfloat16 units. On other CPUs, bfloat16 products are many times slower (docs/adr/0005).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"


def choose_arithmetic(spec: TrainSpec, device: torch.device) -> str:
    """Return the name of the data type in which training computes outputs and losses: ``float32`` or ``bfloat16``.

    If `spec.precision` is ``auto``, the data type is ``bfloat16`` on devices with fast bfloat16 products, else ``float32``.
    """
    if spec.precision == "auto":
        return "bfloat16" if has_fast_bfloat16(device) else "float32"
    return spec.precision


def training_autocast(spec: TrainSpec, device: torch.device, model: nn.Module) -> torch.autocast:
    """Return the autocast context in which training computes outputs and losses with the precision in `spec`.

    A model with parameters in float64 computes in float64, because autocast does not convert them.
    """
    is_double = any(parameter.dtype == torch.float64 for parameter in model.parameters())
    enabled = choose_arithmetic(spec, device) == "bfloat16" and not is_double
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
