"""Devices: what happens to a conductance when it is programmed, drifts and is read. One file a technology.

Comes in: target conductances [µS] and a `DeviceSpec`. Goes out: programmed and read conductances [µS]. Pure functions on
tensors of any shape. Must not know: weights, tiles, modules.
"""

from lionheart.analog.device import ideal, pcm
from lionheart.analog.device.registry import DEVICE_MODELS, DeviceModel, find_device_model

__all__ = ["DEVICE_MODELS", "DeviceModel", "find_device_model", "ideal", "pcm"]
