"""The energy of a product on a tile: a measured point, scaled to other sizes and converters by a published closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.system.platform import PlatformSpec


@final
@dataclass(frozen=True)
class TilePoint:
    """What decides the energy of a product on a tile.

    Args:
        rows: Inputs, each with a DAC.
        cols: Outputs, each with an ADC.
        dac_bits: Resolution of the input converters.
        adc_bits: Resolution of the output converters.
    """

    rows: int
    cols: int
    dac_bits: int
    adc_bits: int


def reference_point(platform: PlatformSpec) -> TilePoint:
    """Return the point at which the platform gives its tile's energy."""
    return TilePoint(platform.tile_rows, platform.tile_cols, platform.tile_dac_bits, platform.tile_adc_bits)


def tile_point(platform: PlatformSpec, rows: int, cols: int, tile: TileSpec | None = None) -> tuple[TilePoint, float]:
    """Return at which point products on a tile of ``rows x cols`` are priced, and how many of these one product is.

    With a `tile`, its converters at this size, and 1. Without, nothing is known about the converters: the platform's own
    point, and the ratio of the sizes, so that an operation takes the same energy at any size, as in ALPINE. An ideal
    converter, one without a resolution, is priced as the platform's own: nothing ideal can be built.
    """
    reference = reference_point(platform)
    if tile is None:
        return reference, rows * cols / (reference.rows * reference.cols)
    dac_bits = reference.dac_bits if tile.dac_bits is None else tile.dac_bits
    adc_bits = reference.adc_bits if tile.adc_bits is None else tile.adc_bits
    return TilePoint(rows, cols, dac_bits, adc_bits), 1.0


def adc_energy_j(platform: PlatformSpec, bits: int) -> float:
    """Return the energy of one conversion to digital: ``(a b + c 4^b) Vdd^2`` [J].

    Source:
        ZigZag's model of in-memory computing; constants in ``system/data/converters.toml``.
    """
    return (platform.adc_linear_f * bits + platform.adc_exponential_f * 4.0**bits) * platform.converter_vdd_v**2


def dac_energy_j(platform: PlatformSpec, bits: int) -> float:
    """Return the energy of one conversion to analog: ``d b Vdd^2`` [J]. Source as for `adc_energy_j`."""
    return platform.dac_linear_f * bits * platform.converter_vdd_v**2


def mvm_energy(platform: PlatformSpec, point: TilePoint) -> dict[str, float]:
    """Return the energy of one product on a whole tile by component [J].

    The platform gives the energy of a product at its own point. Of this, ``tile_converter_share`` belongs to the converters
    and scales with their number and resolution by the closed form, whose absolute value is not used; the rest scales with
    the devices. At the platform's own point the parts add up to what it gives.

    Args:
        platform: Energy and reference point.
        point: Size and converters of the tile that is priced.
    """
    reference = reference_point(platform)
    n_reference = reference.rows * reference.cols
    total = 2.0 * n_reference / platform.tile_ops_per_j * platform.tile_technology_factor
    converters = platform.tile_converter_share * total
    closed_form = reference.cols * adc_energy_j(platform, reference.adc_bits)
    closed_form += reference.rows * dac_energy_j(platform, reference.dac_bits)
    return {
        "tile_array": (total - converters) * (point.rows * point.cols / n_reference),
        "tile_adc": converters * (point.cols * adc_energy_j(platform, point.adc_bits) / closed_form),
        "tile_dac": converters * (point.rows * dac_energy_j(platform, point.dac_bits) / closed_form),
    }
