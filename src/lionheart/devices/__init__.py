"""Specs that more than one room reads: the base class of all specs, the device and the tile.

Comes in: settings from Python, JSON or TOML. Goes out: frozen, validated objects. Knows no other room; it is part of the
shared floor so that `candidates` can read a tile's size without importing the physics.
"""

from lionheart.devices.base import (
    TECHNOLOGIES,
    CustomPairConverter,
    DeviceSpec,
    PairConverter,
    SingleConverter,
)
from lionheart.devices.technologies import (
    Curve,
    IdealSpec,
    PCMCustomDriftSpec,
    PCMNoise,
    PCMSpec,
    ReRAMCMOSpec,
    ReRAMWan2022Spec,
    SamplesSpec,
    TableSpec,
)
from lionheart.devices.tile import HWASpec, TileSpec

__all__ = [
    "TECHNOLOGIES",
    "Curve",
    "CustomPairConverter",
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
    "TileSpec",
]
