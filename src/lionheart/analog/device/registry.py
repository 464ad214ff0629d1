"""Which functions model which technology."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from lionheart.devices import DeviceSpec
from lionheart.errors import ConfigError, suggest


class DeviceModel(Protocol):
    """The physics of one technology. `device` is the technology's own spec.

    Attributes:
        silent_at_zero: A device at 0 µS always reads 0, so the idle device of a pair needs no draw.
        reads_targets: Reading starts from the target that the state keeps, not from what was programmed.
    """

    silent_at_zero: bool
    reads_targets: bool

    def program(self, g_target: Tensor, device: Any, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return programmed conductances [µS] and what each device keeps for reading, for PCM its drift exponent [-].

        Both are shaped like `g_target` [µS]; the state may have further leading axes.
        """

    def read(
        self, g_programmed: Tensor, state: Tensor, device: Any, *, t_inference: float, generator: torch.Generator
    ) -> Tensor:
        """Return one noisy read [µS] at `t_inference` [s] after programming."""


DEVICE_MODELS: dict[str, DeviceModel] = {}


def register_device(technology: str) -> Callable[[type[DeviceModel]], type[DeviceModel]]:
    """Class decorator that makes a model known under the name `technology`."""

    def add(model: type[DeviceModel]) -> type[DeviceModel]:
        if technology in DEVICE_MODELS:
            raise ConfigError(f"device: {technology!r} is registered twice")
        DEVICE_MODELS[technology] = model()
        return model

    return add


def find_device_model(device: DeviceSpec) -> DeviceModel:
    """Return the model of a device.

    Raises:
        ConfigError: No model is registered for the technology.
    """
    if device.technology not in DEVICE_MODELS:
        raise ConfigError(
            f"device.technology: got {device.technology!r}",
            hint=suggest(device.technology, DEVICE_MODELS, label="technologies"),
        )
    return DEVICE_MODELS[device.technology]
