"""Settings and physics of memory devices, and settings of crossbar tiles.

Each technology of memory devices, for example phase-change memory, has a module. The module contains a class for the settings
of the technology, and functions for the physics of the devices. Settings are given in Python, or read from a JSON, TOML or CSV
file. All settings are validated and immutable. The physics functions map tensors of target conductances to programmed
conductances, and programmed conductances to the conductances that a read measures [µS]. Only the module `converter` handles
weights, which are plain matrices. Reading settings does not import PyTorch. This package must not depend on layers, networks or
higher-level packages.
"""

from lionheart.devices.base import (
    DEVICES,
    DeviceModel,
    DeviceSpec,
    Technology,
    find_device_model,
    register_device,
)
from lionheart.devices.converter import Converter, CustomPairConverter, PairConverter, SingleConverter
from lionheart.devices.curves import Curve
from lionheart.devices.ideal import IdealSpec
from lionheart.devices.pcm import PCMCustomDriftSpec, PCMNoise, PCMSpec
from lionheart.devices.policy import ReadPolicy, differ_in_policy
from lionheart.devices.reram_cmo import ReRAMCMOSpec
from lionheart.devices.reram_wan2022 import ReRAMWan2022Spec
from lionheart.devices.samples import SamplesSpec
from lionheart.devices.table import TableSpec
from lionheart.devices.tile import HWASpec, TileSpec
from lionheart.devices.times import ReadTimes, check_times, limit_times

__all__ = [
    "DEVICES",
    "Converter",
    "Curve",
    "CustomPairConverter",
    "DeviceModel",
    "DeviceSpec",
    "HWASpec",
    "IdealSpec",
    "PCMCustomDriftSpec",
    "PCMNoise",
    "PCMSpec",
    "PairConverter",
    "ReRAMCMOSpec",
    "ReRAMWan2022Spec",
    "ReadPolicy",
    "ReadTimes",
    "SamplesSpec",
    "SingleConverter",
    "TableSpec",
    "Technology",
    "TileSpec",
    "check_times",
    "differ_in_policy",
    "find_device_model",
    "limit_times",
    "register_device",
]
