"""Memory devices and tiles: one module for each technology, with its settings, its physics and its constants.

Takes settings from Python, JSON, TOML or CSV, and target conductances [µS]. Returns frozen, validated specs, and programmed and
read conductances [µS]. The physics are pure functions on tensors of any shape. Only `converter` handles weights, as plain
matrices. Reading settings does not import PyTorch. Must not know: layers, networks, or any package above.
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
from lionheart.devices.reram_cmo import ReRAMCMOSpec
from lionheart.devices.reram_wan2022 import ReRAMWan2022Spec
from lionheart.devices.samples import SamplesSpec
from lionheart.devices.table import TableSpec
from lionheart.devices.tile import HWASpec, TileSpec

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
    "SamplesSpec",
    "SingleConverter",
    "TableSpec",
    "Technology",
    "TileSpec",
    "find_device_model",
    "register_device",
]
