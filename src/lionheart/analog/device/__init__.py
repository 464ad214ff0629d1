"""Devices: what happens to a conductance when it is programmed, drifts and is read. One file a family of technologies.

Comes in: target conductances [µS] and a `DeviceSpec`. Goes out: programmed and read conductances [µS]. Pure functions on
tensors of any shape. `conversion` alone knows weights, as plain matrices. Must not know: tiles, modules.
"""

from lionheart.analog.device import ideal, own, pcm, reram
from lionheart.analog.device.registry import DEVICE_MODELS, DeviceModel, find_device_model

__all__ = ["DEVICE_MODELS", "DeviceModel", "find_device_model", "ideal", "own", "pcm", "reram"]
