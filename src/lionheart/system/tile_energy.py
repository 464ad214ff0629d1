"""Energy of a product on a tile: a measured value, scaled to other sizes and converters by a published closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lionheart.devices import TileSpec
from lionheart.system.platform import PlatformSpec


@final
@dataclass(frozen=True)
class TilePoint:
    """Parameters that determine the energy of a product on a tile.

    Args:
        rows: Number of inputs, each with a DAC.
        cols: Number of outputs, each with an ADC.
        dac_bits: Resolution of the input converters [bit].
        adc_bits: Resolution of the output converters [bit].
    """

    rows: int
    cols: int
    dac_bits: int
    adc_bits: int


def reference_point(platform: PlatformSpec) -> TilePoint:
    """Return the size and converters of the tile whose energy the platform gives."""
    return TilePoint(platform.tile_rows, platform.tile_cols, platform.tile_dac_bits, platform.tile_adc_bits)


def tile_point(platform: PlatformSpec, rows: int, cols: int, tile: TileSpec | None = None) -> tuple[TilePoint, float]:
    """Return the point whose energy is used for products on a tile of ``rows x cols``, and the factor of that energy.

    With a `tile`, the point is the tile's converters at this size, and the factor is 1. Without a `tile` the converters are
    unknown: the point is that of the platform, and the factor is the ratio of the sizes, so that the energy per operation is
    the same at any size, as in ALPINE. An ideal converter, i.e. one without a resolution, has the energy of the platform's own
    converter.
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

    The platform gives the energy of a product at its own point. The share ``tile_converter_share`` of this energy belongs to
    the converters and scales with their number and resolution by the closed form, of which only ratios are used. The rest
    scales with the number of devices. At the platform's own point the components add up to the given energy.

    Args:
        platform: Energy and reference point.
        point: Size and converters of the tile.
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
