"""Specs that more than one room reads: the base class of all specs, the device and the tile.

Comes in: settings from Python, JSON or TOML. Goes out: frozen, validated objects. Knows no other room; it is part of the
shared floor so that `candidates` can read a tile's size without importing the physics.
"""

from lionheart.specs.base import Spec
from lionheart.specs.device import DeviceSpec
from lionheart.specs.tile import HWASpec, TileSpec

__all__ = ["DeviceSpec", "HWASpec", "Spec", "TileSpec"]
